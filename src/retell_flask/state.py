"""What one blueprint keeps on one app."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from flask import Flask

from .client import RetellClient
from .delivery import Deliverer
from .dispatch import Dispatcher
from .dispatch.inline import Direct, Inline
from .dispatch.threads import Threads
from .errors import ConfigurationError
from .functions.desk import FunctionDesk
from .inbound import InboundDesk
from .inbox.location import EngineSource, open_database, use_engine
from .inbox.sqlite import MemoryDatabase
from .inbox.store import Inbox
from .invocation import Invoker
from .settings import DEFAULT_API_URL, Settings
from .throttle import Throttle
from .values import Place

if TYPE_CHECKING:
    from .blueprint import RetellBlueprint

_logger = logging.getLogger(__name__)


class State:
    """In ``app.extensions["retell"][name]``. Inbox and dispatcher come with their first use."""

    def __init__(
        self,
        app: Flask,
        blueprint: RetellBlueprint,
        url_prefix: str,
        settings: Settings,
        engine: EngineSource | None,
    ) -> None:
        self.app = app
        self.blueprint = blueprint
        self.url_prefix = url_prefix
        self.settings = settings
        self.invoker: Invoker = Invoker(app, blueprint)
        self.throttle: Throttle = Throttle()
        self._engine = engine
        self._building = threading.RLock()
        self._inbox: Inbox | None = None
        self._deliverer: Deliverer | None = None
        self._dispatcher: Dispatcher | None = None
        self._client: RetellClient | None = None
        self._functions: FunctionDesk | None = None
        self.inbound: InboundDesk = InboundDesk(
            blueprint.inbound_handlers, self.invoker, settings.inbound_timeout.total_seconds()
        )

    def start(self, *_: object, **__: object) -> None:
        """Called with each request: what works beside them starts with the first."""
        try:
            self.dispatcher.start()
        except Exception:  # it must not become the answer to whatever was requested
            if self.throttle.admit("start") is not None:
                _logger.exception("Deliveries cannot be started")

    @property
    def inbox(self) -> Inbox | None:
        """None where the options say that there is none."""
        if self._inbox is None and self.settings.inbox_url is not Place.NONE:
            with self._building:
                if self._inbox is None:
                    self._inbox = self._open_inbox()
        return self._inbox

    @property
    def deliverer(self) -> Deliverer | None:
        """None without an inbox."""
        if self._deliverer is None and self.inbox is not None:
            with self._building:
                if self._deliverer is None:
                    self._deliverer = Deliverer(self.invoker, self.inbox)
        return self._deliverer

    @property
    def dispatcher(self) -> Dispatcher:
        if self._dispatcher is None:
            with self._building:
                if self._dispatcher is None:
                    self._dispatcher = self._make_dispatcher()
        return self._dispatcher

    def deliver_inline(self) -> None:
        """Have no threads from here on, whatever the options say: for tests."""
        deliverer = self.deliverer
        if deliverer is None or isinstance(self._dispatcher, Inline):
            return
        if isinstance(self._dispatcher, Threads):
            self._dispatcher.stop()
            deliverer.stopping = threading.Event()
        self._dispatcher = Inline(deliverer)

    @property
    def functions(self) -> FunctionDesk:
        if self._functions is None:
            with self._building:
                if self._functions is None:
                    self._functions = FunctionDesk(self.invoker, self.inbox)
        return self._functions

    @property
    def client(self) -> RetellClient:
        """Raises ``ConfigurationError`` where the options allow no request."""
        if self._client is None:
            with self._building:
                if self._client is None:
                    self._client = self._make_client()
        return self._client

    def _make_client(self) -> RetellClient:
        settings, prefix = self.settings, self.blueprint.config_prefix
        if not settings.api_key:
            raise ConfigurationError(
                f"{prefix}_API_KEY is not set, so Retell's API cannot be called. Set it to an API "
                "key of your workspace."
            )
        if self.app.testing and settings.api_url is None:
            raise ConfigurationError(
                f"TESTING is on, and a test must not ring a phone: Retell's API is not called. "
                f"Set {prefix}_API_URL to a server of your own that stands in for it."
            )
        return RetellClient(
            settings.api_key[0],
            url=settings.api_url or DEFAULT_API_URL,
            timeout=settings.api_timeout,
        )

    def _open_inbox(self) -> Inbox:
        if self._engine is not None:
            database = use_engine(self._in_app_context(self._engine))
        else:
            database = open_database(
                self.settings, self.app.instance_path, testing=self.app.testing
            )
        return Inbox(database, self.blueprint.name, self.settings)

    def _in_app_context(self, engine: EngineSource) -> EngineSource:
        if not callable(engine):
            return engine

        def find() -> object:
            with self.app.app_context():
                return engine()

        return find  # type: ignore[return-value]

    def _make_dispatcher(self) -> Dispatcher:
        deliverer = self.deliverer
        if deliverer is None:
            return Direct(self.invoker)
        default = "inline" if self.app.testing else "threads"
        name = self.settings.dispatch or default
        if name == "celery" and not isinstance(deliverer.inbox.database, MemoryDatabase):
            from .dispatch.celery import CeleryDispatcher  # an extra

            return CeleryDispatcher(self.app, deliverer, self.blueprint.config_prefix)
        # In memory, and so in a test, there is nobody but this process.
        if name != "threads":
            return Inline(deliverer)
        return Threads(deliverer, self.settings.workers)
