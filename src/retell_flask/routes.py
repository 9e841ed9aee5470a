"""The routes below a blueprint's prefix: HTTP in, HTTP out."""

from __future__ import annotations

import functools
import io
import json
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from flask import Request, Response, request
from flask.sansio.blueprints import BlueprintSetupState
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wsgi import get_content_length

from .dispatch import Answer
from .errors import InboxError, PayloadError
from .events import INBOUND_TYPES, Event
from .functions.definition import CustomFunction
from .functions.request import FunctionRequest, read_body, read_query
from .inbound import read_inbound
from .invocation import loggable
from .receiver import (
    Incoming,
    Rejection,
    authenticate,
    read_event,
    receive,
    too_large,
    unreadable,
)
from .signals import webhook_rejected
from .signatures import HEADER, OWN_SCHEME
from .state import State
from .throttle import withheld_note

_logger = logging.getLogger(__name__)

_HEADER_VARIABLE = "HTTP_" + HEADER.upper().replace("-", "_")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_WITHOUT_BODY = ("GET", "DELETE")
_RETRY_AFTER_SECONDS = "10"


class Route(NamedTuple):
    """``view`` is also given the variables of the URL, the host's own ones included."""

    rule: str
    endpoint: str
    methods: tuple[str, ...]
    view: Callable[..., Response]


def add_route(route: Route, setup: BlueprintSetupState) -> None:
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


def _answer(state: State, route: Route, **values: str) -> Response:
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
    except InboxError as error:
        return _ask_to_come_again(state, error)


def _receive(state: State, incoming: Incoming, **_: str) -> Response:
    receipt = receive(incoming, state.settings, state.inbox)
    if receipt.event.type in INBOUND_TYPES:
        return _answer_inbound(state, receipt.event)
    status, body = _ANSWERS[state.dispatcher.dispatch(receipt)]
    response = _json(state, status, body)
    if status == 503:
        response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    return response


def _receive_inbound(state: State, incoming: Incoming, **_: str) -> Response:
    event = read_event(incoming, state.settings, OWN_SCHEME)
    if event.type not in INBOUND_TYPES:
        types = " and ".join(sorted(INBOUND_TYPES))
        raise Rejection(400, "invalid", f"Only {types} are answered here.")
    return _answer_inbound(state, event)


def _answer_inbound(state: State, event: Event) -> Response:
    inbound = read_inbound(event.raw, event.type)
    if inbound is None:
        raise Rejection(400, "invalid", f"{event.type} needs an object {event.type!r}.")
    return _json(state, 200, state.inbound.answer(inbound))


def _call_function(state: State, incoming: Incoming, *, name: str, **_: str) -> Response:
    body, _verified = authenticate(incoming, state.settings, OWN_SCHEME)
    function = state.blueprint.functions.get(name)
    if function is None:
        _log_unknown_function(state, name)
        return _error(state, 404, "No such function")
    called = _read_call_of(function, body)
    answer = state.functions.answer(function, called)
    if answer.is_json:
        return _json(state, 500 if answer.failed else 200, answer.body)
    return state.app.response_class(answer.body, content_type="text/plain; charset=utf-8")


def _log_unknown_function(state: State, name: str) -> None:
    withheld = state.throttle.admit("function")
    if withheld is not None:
        _logger.warning(
            "There is no custom function %s; connected are: %s%s",
            loggable(name),
            ", ".join(each.name for each in state.blueprint.functions) or "none",
            withheld_note(withheld),
        )


def _read_call_of(function: CustomFunction, body: bytes) -> FunctionRequest:
    try:
        if request.method in _WITHOUT_BODY:
            return read_query(request.args.to_dict(flat=False))
        return read_body(body, function.name, function.parameters)
    except UnicodeDecodeError:
        raise Rejection(400, "invalid", "The query is not UTF-8.") from None
    except PayloadError as error:
        raise Rejection(400, "invalid", str(error)) from None


def _say_ok(state: State, incoming: Incoming, **_: str) -> Response:  # noqa: ARG001
    try:
        if state.inbox is not None:
            state.inbox.check()
    except InboxError as error:
        _log_outage(state, error)
        return _json(state, 503, b'{"status": "unavailable"}')
    return _json(state, 200, b'{"status": "ok"}')


def _reject(state: State, rejection: Rejection, remote_addr: str | None) -> Response:
    about = {
        "status": rejection.status,
        "reason": rejection.reason,
        "skew_ms": rejection.skew_ms,
        "remote_addr": remote_addr,
    }
    withheld = state.throttle.admit(rejection.reason)
    if withheld is not None:
        _logger.warning(
            "Webhook from %s refused with %s (%s). %s%s",
            remote_addr,
            rejection.status,
            rejection.reason,
            rejection.hint or rejection.error,
            withheld_note(withheld),
            extra={f"retell_{key}": value for key, value in about.items()},
        )
    state.invoker.report(webhook_rejected, **about)
    return _error(state, rejection.status, rejection.error)


def _ask_to_come_again(state: State, error: InboxError) -> Response:
    _log_outage(state, error)
    response = _error(state, 503, "Inbox unavailable")
    response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    return response


def _log_outage(state: State, error: InboxError) -> None:
    withheld = state.throttle.admit("inbox")
    if withheld is not None:
        _logger.error("Answered 503: %s%s", error, withheld_note(withheld))


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


def _error(state: State, status: int, error: str) -> Response:
    return _json(state, status, json.dumps({"error": error}).encode())


def _json(state: State, status: int, body: bytes) -> Response:
    return state.app.response_class(body, status, content_type="application/json")


_ANSWERS = {
    Answer.RECEIVED: (200, b'{"received": true}'),
    Answer.DUPLICATE: (200, b'{"received": true, "duplicate": true}'),
    Answer.FAILED: (500, b'{"error": "Receiver failed"}'),
    Answer.BUSY: (503, b'{"error": "Delivery is under way"}'),
}

ROUTES = (
    Route("/", "webhook", ("POST",), _receive),
    Route("/inbound", "inbound", ("POST",), _receive_inbound),
    Route(
        "/functions/<name>",
        "function",
        ("POST", "PUT", "PATCH", "GET", "DELETE"),
        _call_function,
    ),
    Route("/health", "health", ("GET", "HEAD"), _say_ok),
)
