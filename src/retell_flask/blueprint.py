"""``RetellBlueprint``: what a host application registers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from blinker import Signal
from flask import Blueprint, Response, current_app, request
from flask.sansio.app import App
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from .delivery import deliver, report
from .errors import ConfigurationError
from .events import INBOUND_TYPES
from .identity import Receiver, ReceiverNames, connected
from .receiver import Receipt, Rejection, Request, authenticate, receive, too_large, truncated
from .settings import Settings, read_settings
from .signals import SIGNALS, webhook_rejected
from .signatures import HEADER, OWN_SCHEME

_logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Receiver)

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_FUNCTION_METHODS = ("POST", "PUT", "PATCH", "GET", "DELETE")


@dataclass(frozen=True)
class State:
    """What one blueprint keeps on one app, in ``app.extensions["retell"][name]``."""

    blueprint: RetellBlueprint = field(repr=False)
    url_prefix: str
    settings: Settings


class RetellBlueprint(Blueprint):
    """Receives Retell's webhooks on one Flask app or several.

    Create it at module level, connect receivers to the signals, and register it::

        retell = RetellBlueprint()
        app.register_blueprint(retell)

    ``name`` tells blueprints on one app apart and prefixes the endpoints. Options are
    read as ``<config_prefix>_API_KEY`` and so on, from ``app.config`` and then from the
    environment, when the blueprint is registered; a ``ConfigurationError`` says there
    what cannot work. Below ``url_prefix`` answer ``POST /`` (events), ``POST /inbound``,
    ``/functions/<name>`` and ``GET /health``.
    """

    def __init__(
        self,
        name: str = "retell",
        *,
        url_prefix: str = "/webhooks/retellai",
        config_prefix: str = "RETELL",
    ) -> None:
        super().__init__(name, __name__, url_prefix=url_prefix)
        self.config_prefix: str = config_prefix
        self.receiver_names: ReceiverNames = ReceiverNames()
        own: dict[str, Any] = {"strict_slashes": False, "provide_automatic_options": False}
        self.add_url_rule("/", "webhook", self._webhook, methods=_METHODS, **own)
        self.add_url_rule("/inbound", "inbound", self._inbound, methods=_METHODS, **own)
        self.add_url_rule("/functions/<name>", "function", self._function, methods=_METHODS, **own)
        self.add_url_rule("/health", "health", self._health, methods=_METHODS, **own)

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
            for signal in wanted if name is not None else ():
                others = connected(signal, self, self.receiver_names)
                if any(identity == name and other != receiver for identity, other in others):
                    raise ValueError(f"{_name(signal)} has a receiver named {name!r} already.")
            for signal in wanted:
                if name is not None:
                    self.receiver_names.give(signal, receiver, name)
                signal.connect(receiver, sender=self, weak=False)
            return receiver

        return connect

    def register(self, app: App, options: dict[str, Any]) -> None:
        """Called by ``app.register_blueprint``. Raises ``ConfigurationError``."""
        settings = read_settings(app.config, self.config_prefix)
        url_prefix = options.get("url_prefix", self.url_prefix) or ""
        states: dict[str, State] = app.extensions.setdefault("retell", {})
        for state in states.values():
            if state.blueprint is self or state.blueprint.name == self.name:
                raise ConfigurationError(
                    f"A RetellBlueprint named {self.name!r} is registered on this app "
                    "already. For a second one give it a name, a config_prefix and a "
                    "url_prefix of its own."
                )
            if state.url_prefix.rstrip("/") == url_prefix.rstrip("/"):
                raise ConfigurationError(
                    f"Two RetellBlueprints on this app answer below {url_prefix!r}. Give "
                    f"{self.name!r} a url_prefix of its own."
                )
        super().register(app, options)
        states[self.name] = State(self, url_prefix, settings)

    def _webhook(self) -> Response:
        return self._answer(("POST",), self._receive)

    def _inbound(self) -> Response:
        return self._answer(("POST",), self._receive_inbound)

    def _function(self, name: str) -> Response:  # noqa: ARG002
        return self._answer(_FUNCTION_METHODS, self._call_function)

    def _health(self) -> Response:
        return self._answer(("GET", "HEAD"), lambda: _json(200, '{"status": "ok"}'))

    def _answer(self, methods: tuple[str, ...], view: Callable[[], Response]) -> Response:
        """Answers are returned and never raised, so that no error handler rewrites them."""
        if request.method not in methods:
            response = _error(405, "Method not allowed")
            response.headers["Allow"] = ", ".join(methods)
            return response
        try:
            return view()
        except Rejection as rejection:
            return self._reject(rejection)

    def _receive(self) -> Response:
        settings = self._settings()
        receipt = receive(_request(), settings, settings.signature_schemes)
        if receipt.event.type in INBOUND_TYPES:
            return _answer_inbound(receipt)
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        outcomes = deliver(app, self, receipt.event, self.receiver_names)
        if any(outcome.failed for outcome in outcomes):
            return _error(500, "Receiver failed")
        return _json(200, '{"received": true}')

    def _receive_inbound(self) -> Response:
        receipt = receive(_request(), self._settings(), OWN_SCHEME)
        if receipt.event.type not in INBOUND_TYPES:
            types = " and ".join(sorted(INBOUND_TYPES))
            raise Rejection(400, "invalid", f"Only {types} are answered here")
        return _answer_inbound(receipt)

    def _call_function(self) -> Response:
        authenticate(_request(), self._settings(), OWN_SCHEME)
        return _error(404, "No such function")

    def _settings(self) -> Settings:
        state: State = current_app.extensions["retell"][self.name]
        return state.settings

    def _reject(self, rejection: Rejection) -> Response:
        about = {
            "status": rejection.status,
            "reason": rejection.reason,
            "skew_ms": rejection.skew_ms,
            "remote_addr": request.remote_addr,
        }
        _logger.warning(
            "Webhook refused with %s (%s). %s",
            rejection.status,
            rejection.reason,
            rejection.hint or rejection.error,
            extra={f"retell_{key}": value for key, value in about.items()},
        )
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        report(app, webhook_rejected, self, self.receiver_names, **about)
        return _error(rejection.status, rejection.error)


def _request() -> Request:
    return Request(
        header=request.headers.get(HEADER),
        declared_length=request.content_length,
        read=_read_body,
    )


def _read_body(limit: int) -> bytes:
    request.max_content_length = limit
    try:
        return request.get_data()
    except RequestEntityTooLarge:
        raise too_large(limit - 1) from None
    except (ClientDisconnected, OSError):
        raise truncated() from None


def _answer_inbound(receipt: Receipt) -> Response:
    return _json(200, json.dumps({receipt.event.type: {}}))


def _json(status: int, body: str) -> Response:
    return current_app.response_class(body, status, content_type="application/json")


def _error(status: int, error: str) -> Response:
    return _json(status, json.dumps({"error": error}))


def _signal(signal: str | Signal) -> Signal:
    if not isinstance(signal, str):
        return signal
    if signal not in SIGNALS:
        raise ValueError(f"There is no signal {signal!r}. Known: {', '.join(sorted(SIGNALS))}.")
    return SIGNALS[signal]


def _name(signal: Signal) -> str:
    return str(getattr(signal, "name", "The signal"))
