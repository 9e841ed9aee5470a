"""A request's header and body to a receipt. Knows nothing of Flask's requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from .errors import PayloadError, SignatureError
from .events import INBOUND_TYPES, Event, parse_event
from .inbox.entry import Receipt
from .inbox.store import Inbox
from .settings import Settings
from .signatures import Scheme, Verified, read_header


class Rejection(Exception):
    """A request that is not accepted, and the HTTP answer to it.

    ``reason`` and ``hint`` are for the log and for ``webhook_rejected``, ``error`` is all
    that the sender is told. ``signed_body`` is set where the request was rightly signed.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        error: str,
        *,
        hint: str = "",
        skew_ms: int | None = None,
        signed_body: bytes | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.reason = reason
        self.error = error
        self.hint = hint
        self.skew_ms = skew_ms
        self.signed_body = signed_body


class Incoming(NamedTuple):
    """What arrived. ``read(limit)`` returns the body, or its first ``limit`` bytes."""

    header: str | None
    declared_length: int | None
    read: Callable[[int], bytes]


_HINTS = {
    "missing": "Retell signs every webhook: this request came from elsewhere, or a proxy "
    "dropped the X-Retell-Signature header.",
    "malformed": "A proxy changed the X-Retell-Signature header, or this request is not Retell's.",
    "stale": "Its timestamp is {skew_s:.0f} s from this machine's clock: is the clock right? "
    "A recorded request cannot be sent again.",
    "mismatch": "Is the configured key the one with the webhook badge, and does any proxy "
    "or middleware change the body?",
}
_SHORT = "The body was shorter than its Content-Length: the sender went away."
_PLAIN_INBOUND = (
    "Inbound webhooks are accepted by Retell's own scheme alone, since nothing else would "
    "stop a repeat."
)
_CONSUMED = (
    "The body was empty although its Content-Length is not: the sender went away, or a "
    "before_request or middleware read it first (request.stream, get_data(cache=False), or "
    "request.form of a form)."
)


def receive(incoming: Incoming, settings: Settings, inbox: Inbox | None) -> Receipt:
    """Verify, parse and store an event. Raises ``Rejection`` and ``InboxError``.

    Inbound webhooks are not stored, but answered.
    """
    clock = None if inbox is None else inbox.clock
    try:
        event = read_event(incoming, settings, settings.signature_schemes, clock)
    except Rejection as rejection:
        if inbox is not None and rejection.signed_body is not None:
            inbox.keep_invalid(rejection.signed_body)
        raise
    if inbox is None or event.type in INBOUND_TYPES:
        return Receipt(event)
    added = inbox.add(event)
    return Receipt(event, added.entry_id, added.duplicate)


def read_event(
    incoming: Incoming,
    settings: Settings,
    schemes: Iterable[Scheme],
    clock: Callable[[], datetime] | None = None,
) -> Event:
    """Verify and parse an event, received now by ``clock``. Raises ``Rejection``."""
    body, verified = authenticate(incoming, settings, schemes)
    try:
        event = parse_event(body, received_at=clock and clock())
    except PayloadError as error:
        raise Rejection(400, "invalid", str(error), signed_body=body) from None
    if event.type in INBOUND_TYPES and verified.scheme != "timestamped":
        raise _unsigned(SignatureError("mismatch"), _PLAIN_INBOUND)
    return event


def authenticate(
    incoming: Incoming, settings: Settings, schemes: Iterable[Scheme]
) -> tuple[bytes, Verified]:
    """The body of a rightly signed request. Raises ``Rejection``.

    A hopeless header is refused before the body is read, and so is a body that says it
    is too long.
    """
    try:
        claim = read_header(incoming.header, schemes=schemes, tolerance_ms=settings.tolerance_ms)
    except SignatureError as error:
        raise _unsigned(error) from None
    body = _read(incoming, settings.max_body)
    is_short = len(body) < (incoming.declared_length or 0)
    try:
        verified = claim.check(body, settings.api_key, settings.webhook_secret)
    except SignatureError as error:
        hint = (_SHORT if body else _CONSUMED) if is_short else ""
        raise _unsigned(error, hint) from None
    if is_short:
        raise Rejection(
            400, "truncated", "Body is shorter than its Content-Length", signed_body=body
        )
    return body, verified


def _read(incoming: Incoming, limit: int) -> bytes:
    if (incoming.declared_length or 0) > limit:
        raise too_large(limit)
    # One byte more than allowed tells a body of the limit from one that was cut there.
    body = incoming.read(limit + 1)
    if len(body) > limit:
        raise too_large(limit)
    return body


def too_large(limit: int) -> Rejection:
    """The body is longer than ``limit`` bytes."""
    return Rejection(413, "too_large", f"Body is longer than {limit} bytes")


def unreadable() -> Rejection:
    """The connection broke off, or what came is no HTTP body."""
    return Rejection(400, "unreadable", "Body could not be read")


def _unsigned(error: SignatureError, hint: str = "") -> Rejection:
    return Rejection(
        401,
        error.reason,
        "Invalid signature",
        hint=hint or _HINTS[error.reason].format(skew_s=(error.skew_ms or 0) / 1000),
        skew_ms=error.skew_ms,
    )
