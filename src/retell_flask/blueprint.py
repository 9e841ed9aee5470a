"""``RetellBlueprint``: what a host application registers."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar, cast, overload

from blinker import Signal
from flask import Blueprint, Flask, current_app, has_app_context, request_started
from flask.sansio.app import App

from .backfill import DEFAULT_GRACE, Backfill, BackfillReport, Progress, Since, Window, find_agents
from .cli import add_commands
from .client import RetellClient
from .dispatch import Answer
from .errors import ConfigurationError
from .functions.definition import CustomFunction, Functions
from .identity import Receiver, ReceiverNames
from .inbound import KINDS as INBOUND_KINDS
from .inbound import NO_OVERRIDE, InboundHandlers
from .inbox.entry import Receipt
from .inbox.location import EngineSource, check_engine, check_sqlite, is_in_memory
from .models.inbound import InboundAnswer
from .routes import ROUTES, add_route
from .settings import Settings, read_settings
from .signals import backfilled, find_signal
from .state import State
from .values import Place

F = TypeVar("F", bound=Receiver)


class RetellBlueprint(Blueprint):
    """Receives Retell's webhooks on one Flask app or several.

    Create it at module level, connect receivers to the signals, and register it::

        retell = RetellBlueprint()
        app.register_blueprint(retell)

    ``name`` tells blueprints on one app apart and prefixes the endpoints. Options are
    read as ``<config_prefix>_API_KEY`` and so on, from ``app.config`` and then from the
    environment, when the blueprint is registered; a ``ConfigurationError`` says there
    what cannot work. ``engine``, a SQLAlchemy engine or a callable that returns one in the
    app context, is for an inbox in the host's own database. Below ``url_prefix`` answer
    ``POST /`` (events), ``POST /inbound``, ``/functions/<name>`` and ``GET /health``.
    """

    def __init__(
        self,
        name: str = "retell",
        *,
        url_prefix: str = "/webhooks/retellai",
        config_prefix: str = "RETELL",
        engine: EngineSource | None = None,
    ) -> None:
        super().__init__(name, __name__, url_prefix=url_prefix)
        self.config_prefix: str = config_prefix
        self.receiver_names: ReceiverNames = ReceiverNames()
        self.inbound_handlers: InboundHandlers = InboundHandlers()
        self.functions: Functions = Functions()
        self._engine = engine
        for route in ROUTES:
            self.record(functools.partial(add_route, route))

    def on(self, *signals: str | Signal, name: str | None = None) -> Callable[[F], F]:
        """Connect the decorated function to ``signals``, given by name or as they are.

        It hears this blueprint alone and is held strongly. ``name`` fixes its identity,
        so that it can be renamed or moved without becoming another receiver. Raises
        ``ValueError`` for a signal that does not exist, or a ``name`` that another
        receiver of the signal has.
        """
        wanted = [find_signal(signal) for signal in signals]
        if not wanted:
            raise ValueError('on() needs a signal, such as on("call_ended").')

        def connect(receiver: F) -> F:
            if not callable(receiver):
                raise TypeError("on() decorates a function or another callable.")
            if name is not None:
                self.receiver_names.give(name, receiver, wanted, self)
            for signal in wanted:
                signal.connect(receiver, sender=self, weak=False)
            return receiver

        return connect

    @property
    def client(self) -> RetellClient:
        """Retell's REST API under this blueprint's options, for the current app.

        Raises ``RuntimeError`` outside of an app context, and ``ConfigurationError`` where
        the options allow no request: there is no key, or ``TESTING`` is on.
        """
        return self._state("client").client

    @overload
    def inbound(self, function: F, /) -> F: ...

    @overload
    def inbound(
        self, *kinds: Literal["call", "message"], default: InboundAnswer = ...
    ) -> Callable[[F], F]: ...

    def inbound(self, *kinds: Any, default: InboundAnswer = NO_OVERRIDE) -> Any:
        """Have the decorated function answer inbound calls and messages, or one kind of them.

        It is given an ``InboundCall`` or ``InboundMessage``, and returns an ``InboundAnswer``
        within ``RETELL_INBOUND_TIMEOUT`` (8 s)::

            @retell.inbound("call")
            def answer(inbound):
                return InboundAnswer(dynamic_variables={"name": find_name(inbound.from_number)})

        It runs in an app context and a thread of its own. When it raises, is late, returns
        None or something else, or 200 others run already, ``default`` goes out: no override
        unless you give another, which a number without an agent needs, since Retell drops the
        call there. A second handler of a kind is a ``ConfigurationError``.
        """
        if len(kinds) == 1 and callable(kinds[0]):
            return self.inbound(default=default)(kinds[0])
        if unknown := [kind for kind in kinds if kind not in INBOUND_KINDS]:
            raise ValueError(f"inbound takes 'call' and 'message', and not {unknown[0]!r}.")

        def connect(function: F) -> F:
            self.inbound_handlers.add(kinds or tuple(INBOUND_KINDS), function, default)
            return function

        return connect

    @overload
    def function(self, function: F, /) -> F: ...

    @overload
    def function(
        self, name: str | None = None, /, *, description: str | None = None
    ) -> Callable[[F], F]: ...

    def function(self, name: Any = None, /, *, description: str | None = None) -> Any:
        """Have the decorated function answer a custom function of your agents.

        The name is the function's own unless you give one, and the last part of the URL
        ``…/functions/<name>``. Parameters are what the language model gives, checked against
        their annotations; one that is keyword-only and annotated ``Call`` or ``Call | None``
        is given the call. The result is any JSON value. ``flask retell functions --schema``
        prints what Retell's dashboard wants to know. Raises ``ConfigurationError``.
        """
        if callable(name):
            return self.function(description=description)(name)

        def connect(function: F) -> F:
            self.functions.add(CustomFunction(function, name, description))
            return function

        return connect

    def backfill(
        self,
        since: Since,
        until: datetime | None = None,
        *,
        grace: timedelta = DEFAULT_GRACE,
        agents: Iterable[str] | None = None,
        all_agents: bool = False,
        dry_run: bool = False,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> BackfillReport:
        """Ask Retell what happened, and deliver what never came as ``synthetic`` events.

        Looks at the calls that ended from ``since`` (an aware datetime, or how long ago: a
        timedelta or ``"24h"``) to ``until``, and at least ``grace`` ago; by default those of
        the agents that the inbox has heard of, else of ``agents``, or of all. Makes
        ``call_ended``, and ``call_analyzed`` where there is an analysis; with ``dry_run`` none.
        It can be broken off and run again at any time. ``on_progress`` is called as it goes on.

        Raises ``ValueError`` for a time that has no answer, such as one before
        ``RETELL_RETENTION``, whose events may have been pruned; ``ConfigurationError`` without
        an inbox; ``ApiError`` and ``InboxError``.
        """
        state = self._state("backfill")
        if state.inbox is None:
            raise ConfigurationError(
                f"backfill needs an inbox, and {self.config_prefix}_INBOX_URL says that there is "
                "none."
            )
        window = Window.of(since, until, grace, state.inbox)

        def dispatch(receipt: Receipt) -> bool:
            return state.dispatcher.dispatch(receipt) not in (Answer.FAILED, Answer.BUSY)

        backfill = Backfill(state.inbox, state.client, dispatch, dry_run=dry_run)
        found = find_agents(state.inbox, agents, all_agents)
        is_through = False
        try:
            report = backfill.run(window, found, on_progress)
            is_through = not dry_run
            return report
        finally:
            made = backfill.report
            if is_through or (made.events and not dry_run):
                state.invoker.report(
                    backfilled,
                    since=window.since,
                    until=window.until,
                    looked_at=made.looked_at,
                    events=made.events,
                )

    def _state(self, what: str) -> State:
        if not has_app_context():
            raise RuntimeError(
                f"{self.name}.{what} works for the current application, and there is none here. "
                "Use it in a request, a receiver or a command, or inside of: "
                "with app.app_context():"
            )
        states: dict[str, State] = current_app.extensions.get("retell", {})
        state = states.get(self.name)
        if state is None or state.blueprint is not self:
            raise ConfigurationError(
                f"The blueprint {self.name!r} is not registered on the current application. Call "
                "app.register_blueprint first."
            )
        return state

    def register(self, app: App, options: dict[str, Any]) -> None:
        """Called by ``app.register_blueprint``. Raises ``ConfigurationError``."""
        settings = read_settings(app.config, self.config_prefix)
        url_prefix = options.get("url_prefix")
        url_prefix = (self.url_prefix if url_prefix is None else url_prefix) or ""
        states: dict[str, State] = app.extensions.setdefault("retell", {})
        for state in states.values():
            if state.blueprint is self or state.blueprint.name == self.name:
                raise ConfigurationError(
                    f"A RetellBlueprint named {self.name!r} is registered on this app "
                    "already. Remove the second register_blueprint, or give another "
                    "blueprint a name, a config_prefix and a url_prefix of its own."
                )
            if state.url_prefix.rstrip("/") == url_prefix.rstrip("/"):
                raise ConfigurationError(
                    f"Two RetellBlueprints on this app answer below {url_prefix!r}. Give "
                    f"{self.name!r} a url_prefix of its own."
                )
        flask_app = cast("Flask", app)
        self._check_inbox(flask_app, settings)
        self._check_dispatch(settings)
        is_first = not states
        state = State(flask_app, self, url_prefix, settings, self._engine)
        states[self.name] = state
        try:
            super().register(app, options)
        except BaseException:
            del states[self.name]
            raise
        # Any request wakes the workers, a host's health probe too. Held weakly: by the state.
        request_started.connect(state.start, sender=app)
        if is_first:
            add_commands(flask_app)

    def _check_dispatch(self, settings: Settings) -> None:
        if settings.dispatch != "celery":
            return
        if is_in_memory(settings.inbox_url):
            raise ConfigurationError(
                f"{self.config_prefix}_DISPATCH is 'celery', whose workers are other processes, "
                f"and {self.config_prefix}_INBOX_URL keeps events in the memory of this one."
            )
        try:
            # Its tasks are known to a worker once this is imported.
            importlib.import_module(".dispatch.celery", __package__)
        except ImportError:
            raise ConfigurationError(
                f"{self.config_prefix}_DISPATCH is 'celery', and Celery is missing here: "
                "pip install 'retell-flask[celery]'"
            ) from None

    def _check_inbox(self, app: Flask, settings: Settings) -> None:
        if self._engine is None:
            check_sqlite(settings, self.config_prefix, app.config, app.instance_path)
            return
        check_engine(self._engine)
        if settings.inbox_url is not Place.INSTANCE:
            raise ConfigurationError(
                f"{self.name!r} was given an engine, and {self.config_prefix}_INBOX_URL is "
                "set as well. Remove one of the two."
            )
