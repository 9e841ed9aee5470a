"""``RetellBlueprint``: what a host application registers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from blinker import Signal
from flask import Blueprint, Flask, request_started
from flask.sansio.app import App

from .cli import add_commands
from .errors import ConfigurationError
from .identity import Receiver, ReceiverNames
from .inbox.location import EngineSource, check_engine, check_sqlite
from .routes import ROUTES, add_route
from .settings import Settings, read_settings
from .signals import SIGNALS
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
        wanted = [_signal(signal) for signal in signals]
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


def _signal(signal: str | Signal) -> Signal:
    if isinstance(signal, Signal):
        return signal
    if not isinstance(signal, str):
        raise TypeError('on() takes signals or their names: @retell.on("call_ended").')
    if signal not in SIGNALS:
        raise ValueError(f"There is no signal {signal!r}. Known: {', '.join(sorted(SIGNALS))}.")
    return SIGNALS[signal]
