"""``RetellBlueprint``: what a host application registers."""

from __future__ import annotations

import functools
import io
import json
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from blinker import Signal
from flask import Blueprint, Flask, Request, Response, request
from flask.sansio.app import App
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wsgi import get_content_length

from .delivery import Deliverer
from .errors import ConfigurationError
from .events import INBOUND_TYPES, Event
from .identity import Receiver, ReceiverNames
from .receiver import Incoming, Rejection, authenticate, receive, too_large, unreadable
from .settings import Settings, read_settings
from .signals import SIGNALS, webhook_rejected
from .signatures import HEADER, OWN_SCHEME

_logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Receiver)

_HEADER_VARIABLE = "HTTP_" + HEADER.upper().replace("-", "_")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


class State(NamedTuple):
    """What one blueprint keeps on one app, in ``app.extensions["retell"][name]``."""

    app: Flask
    blueprint: RetellBlueprint
    url_prefix: str
    settings: Settings
    deliverer: Deliverer


class _Route(NamedTuple):
    """``view`` is also given the variables of the URL, the host's own ones included."""

    rule: str
    endpoint: str
    methods: tuple[str, ...]
    view: Callable[..., Response]


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
        for route in _ROUTES:
            self.record(functools.partial(_add_route, route))

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
        deliverer = Deliverer(flask_app, self)
        states[self.name] = State(flask_app, self, url_prefix, settings, deliverer)
        try:
            super().register(app, options)
        except BaseException:
            del states[self.name]
            raise


def _add_route(route: _Route, setup: BlueprintSetupState) -> None:
    state: State = setup.app.extensions["retell"][setup.blueprint.name]

    @functools.wraps(route.view)
    def view(**values: str) -> Response:
        return _answer(state, route, **values)

    setup.add_url_rule(
        route.rule,
        route.endpoint,
        view,
        methods=_METHODS,
        strict_slashes=False,
        provide_automatic_options=False,
    )


def _answer(state: State, route: _Route, **values: str) -> Response:
    """Answers are returned and never raised, so that no error handler rewrites them."""
    # The object behind the proxy, since each look through it costs a microsecond.
    received = request._get_current_object()  # type: ignore[attr-defined]
    # For all of the request, or an after_request that reads the body turns it into a 500.
    received.max_content_length = state.settings.max_body + 1
    if received.method not in route.methods:
        response = _error(state, 405, "Method not allowed")
        response.headers["Allow"] = ", ".join(route.methods)
        return response
    try:
        return route.view(state, _incoming(received), **values)
    except Rejection as rejection:
        return _reject(state, rejection, received.remote_addr)


def _receive(state: State, incoming: Incoming, **_: str) -> Response:
    event = receive(incoming, state.settings, state.settings.signature_schemes)
    if event.type in INBOUND_TYPES:
        return _answer_inbound(state, event)
    if any(outcome.failed for outcome in state.deliverer.deliver(event)):
        return _error(state, 500, "Receiver failed")
    return _json(state, 200, b'{"received": true}')


def _receive_inbound(state: State, incoming: Incoming, **_: str) -> Response:
    event = receive(incoming, state.settings, OWN_SCHEME)
    if event.type not in INBOUND_TYPES:
        types = " and ".join(sorted(INBOUND_TYPES))
        raise Rejection(400, "invalid", f"Only {types} are answered here.")
    return _answer_inbound(state, event)


def _call_function(state: State, incoming: Incoming, **_: str) -> Response:
    authenticate(incoming, state.settings, OWN_SCHEME)
    return _error(state, 404, "No such function")


def _say_ok(state: State, incoming: Incoming, **_: str) -> Response:  # noqa: ARG001
    return _json(state, 200, b'{"status": "ok"}')


def _reject(state: State, rejection: Rejection, remote_addr: str | None) -> Response:
    about = {
        "status": rejection.status,
        "reason": rejection.reason,
        "skew_ms": rejection.skew_ms,
        "remote_addr": remote_addr,
    }
    _logger.warning(
        "Webhook from %s refused with %s (%s). %s",
        remote_addr,
        rejection.status,
        rejection.reason,
        rejection.hint or rejection.error,
        extra={f"retell_{key}": value for key, value in about.items()},
    )
    state.deliverer.report(webhook_rejected, **about)
    return _error(state, rejection.status, rejection.error)


def _incoming(received: Request) -> Incoming:
    length = get_content_length(received.environ)
    return Incoming(
        header=received.environ.get(_HEADER_VARIABLE),
        declared_length=length,
        read=functools.partial(_read_body, received, length),
    )


def _read_body(received: Request, length: int | None, limit: int) -> bytes:
    try:
        if length is None or "stream" in vars(received):
            # Chunked, or somebody has read before us: what was cached is still there.
            return received.get_data()
        return _read_stream(received.environ, length)
    except RequestEntityTooLarge:
        raise too_large(limit - 1) from None
    except Exception:  # each server has its own for what it cannot read
        raise unreadable() from None


def _read_stream(environ: dict[str, Any], length: int) -> bytes:
    """All of the body in as few copies as the server allows, left in place for others."""
    source = environ["wsgi.input"]
    body: bytes = source.read(length)
    if len(body) < length:
        parts, missing = [body], length - len(body)
        while missing and (part := source.read(missing)):
            parts.append(part)
            missing -= len(part)
        body = b"".join(parts)
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _answer_inbound(state: State, event: Event) -> Response:
    return _json(state, 200, json.dumps({event.type: {}}).encode())


def _error(state: State, status: int, error: str) -> Response:
    return _json(state, status, json.dumps({"error": error}).encode())


def _json(state: State, status: int, body: bytes) -> Response:
    return state.app.response_class(body, status, content_type="application/json")


def _signal(signal: str | Signal) -> Signal:
    if isinstance(signal, Signal):
        return signal
    if not isinstance(signal, str):
        raise TypeError('on() takes signals or their names: @retell.on("call_ended").')
    if signal not in SIGNALS:
        raise ValueError(f"There is no signal {signal!r}. Known: {', '.join(sorted(SIGNALS))}.")
    return SIGNALS[signal]


_ROUTES = (
    _Route("/", "webhook", ("POST",), _receive),
    _Route("/inbound", "inbound", ("POST",), _receive_inbound),
    _Route(
        "/functions/<name>",
        "function",
        ("POST", "PUT", "PATCH", "GET", "DELETE"),
        _call_function,
    ),
    _Route("/health", "health", ("GET", "HEAD"), _say_ok),
)
