"""An event: what one webhook body says, typed and untouched."""

from __future__ import annotations

import hashlib
from datetime import datetime, timezone
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw
from msgspec.structs import force_setattr

from .decoding import FAULTS, Decoder, decode_object, warn_of_odd
from .errors import PayloadError
from .models.alert import Alert
from .models.base import Model, unite
from .models.call import Call, CallAnalysis
from .models.chat import Chat
from .models.outcome import (
    CallFailure,
    Destination,
    Transfer,
    failure_of,
    is_voicemail,
    transfer_of,
)

# Which subject a known event carries; the first one that is there counts.
SUBJECTS: dict[str, tuple[str, ...]] = {
    "call_started": ("call",),
    "call_ended": ("call",),
    "call_analyzed": ("call",),
    "transcript_updated": ("call", "chat"),
    "transfer_started": ("call",),
    "transfer_bridged": ("call",),
    "transfer_cancelled": ("call",),
    "transfer_ended": ("call",),
    "chat_started": ("chat",),
    "chat_ended": ("chat",),
    "chat_analyzed": ("chat",),
    "alert_triggered": ("alert",),
    "alert_resolved": ("alert",),
    "agent_transfer": ("call",),
    "voicemail_detected": ("call",),
    "call_error": ("call",),
}

# Events whose answer is used: they reach a handler, not the signals.
INBOUND_TYPES = frozenset({"call_inbound", "chat_inbound"})

_ONCE_PER_SESSION = frozenset(
    {
        "call_started",
        "call_ended",
        "call_analyzed",
        "chat_started",
        "chat_ended",
        "chat_analyzed",
        "agent_transfer",
        "voicemail_detected",
        "call_error",
    }
)


class Event(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One event, immutable.

    ``id`` is equal for every repeat of an event and differs between events: use it as an
    idempotency key downstream. ``type`` is Retell's name of the event, ``session_id`` the
    id of its call or chat. ``received_at`` is aware UTC. ``attempt`` counts this
    receiver's runs from 1, ``revision`` is 0 for the first version of an event.
    ``synthetic`` events were made by a backfill. ``raw`` holds the exact bytes that were
    signed.
    """

    id: str
    type: str
    session_id: str | None = None
    call: Call | None = None
    chat: Chat | None = None
    alert: Alert | None = None
    transfer: Transfer | None = None
    error: CallFailure | None = None
    voicemail: bool = False
    received_at: datetime
    attempt: int = 1
    revision: int = 0
    synthetic: bool = False
    raw: bytes

    @cached_property
    def payload(self) -> dict[str, Any]:
        """The whole body as a dict, parsed on first use; it never raises.

        Halves of surrogate pairs are U+FFFD, numbers out of range None.
        """
        return decode_object(self.raw)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.type[:60]!a} {self.id}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("type", self.type[:60]), ("id", self.id)]


class CallEvent(Event, frozen=True, kw_only=True, dict=True):
    """An event of a call: ``call`` is always there. Annotate your handlers with it."""

    call: Call


class ChatEvent(Event, frozen=True, kw_only=True, dict=True):
    """An event of a chat: ``chat`` is always there."""

    chat: Chat


class AlertEvent(Event, frozen=True, kw_only=True, dict=True):
    """An event of an alert rule: ``alert`` is always there."""

    alert: Alert


class _Kind(NamedTuple):
    event_class: type[Event]
    id_field: str | None
    description: str


_KINDS = {
    "call": _Kind(CallEvent, "call_id", "a 'call' object with a 'call_id'"),
    "chat": _Kind(ChatEvent, "chat_id", "a 'chat' object with a 'chat_id'"),
    "alert": _Kind(AlertEvent, None, "an 'alert' object"),
}


class Envelope(Model, frozen=True, kw_only=True):
    """A body. What stands beside the subject is Retell's or an older guide's way."""

    event: str
    call: Call | None = None
    chat: Chat | None = None
    alert: Alert | None = None
    transcript_with_tool_calls: Raw = Raw()
    transfer_destination: str | Destination | None = None
    transfer_option: dict[str, Any] | None = None
    transfer_number: str | None = None
    disconnection_reason: str | None = None
    end_reason: str | None = None
    call_analysis: CallAnalysis | None = None
    error: str | dict[str, Any] | None = None
    error_code: str | int | None = None
    error_message: str | None = None


_BESIDE_CALL = (
    "transfer_number",
    "disconnection_reason",
    "end_reason",
    "call_analysis",
    "error",
    "error_code",
    "error_message",
)
_NOTHING_BESIDE = (None,) * len(_BESIDE_CALL)
_values_beside = attrgetter(*_BESIDE_CALL)
_ENVELOPE: Decoder[Envelope] = Decoder(Envelope)


def parse_event(body: bytes, *, received_at: datetime | None = None, quiet: bool = False) -> Event:
    """Read a webhook body.

    ``received_at`` is an aware datetime, now by default; ``quiet`` leaves out the log line
    about fields of another type than documented. Raises ``PayloadError`` where the body is
    not a JSON object with a string ``event``, or where a known event lacks its subject: a
    call or chat with a non-empty string id, or an alert.
    """
    odd: list[str] = []
    envelope = _decode(body, odd)
    event_class, session_id = _subject(envelope)
    type_, call, chat = envelope.event, envelope.call, envelope.chat
    if call is not None:
        _lift_into_call(envelope, call)
    if chat is not None and _is_array(envelope.transcript_with_tool_calls):
        force_setattr(chat, "_transcript_with_tool_calls", envelope.transcript_with_tool_calls)
    if not quiet:
        warn_of_odd(odd)
    return event_class(
        id=event_id(dedupe_key(type_, session_id, body)),
        type=type_,
        session_id=session_id,
        call=call,
        chat=chat,
        alert=envelope.alert,
        transfer=transfer_of(type_, call, envelope.transfer_destination, envelope.transfer_option),
        error=failure_of(type_, call),
        voicemail=is_voicemail(type_, call),
        received_at=received_at or datetime.now(timezone.utc),
        raw=body,
    )


def dedupe_key(type_: str, session_id: str | None, body: bytes) -> bytes:
    """The digest under which two deliveries are the same event.

    Of type and session for what comes once per call or chat, of the body for all else.
    """
    once = type_ in _ONCE_PER_SESSION and session_id is not None
    return hashlib.sha256(msgspec.json.encode((type_, session_id)) if once else body).digest()


def event_id(key: bytes) -> str:
    """An event's id, made of its dedupe key."""
    return f"evt_{key[:16].hex()}"


def revision_id(type_: str, session_id: str | None, body: bytes) -> str:
    """The id of another version of an event that comes once per call or chat."""
    return event_id(hashlib.sha256(msgspec.json.encode((type_, session_id)) + body).digest())


def invalid_id(body: bytes) -> str:
    """The id under which a body that is no event is kept."""
    return event_id(hashlib.sha256(b"invalid\0" + body).digest())


def forgotten_id(session_id: str) -> str:
    """The id that stands for a forgotten call, where that of none of its events does."""
    return event_id(
        hashlib.sha256(b"forgotten\0" + session_id.encode("utf-8", "replace")).digest()
    )


def _decode(body: bytes, odd: list[str]) -> Envelope:
    try:
        envelope = _ENVELOPE.decode(body, odd)
    except RecursionError:
        raise PayloadError("The body is nested too deeply.") from None
    except FAULTS:
        raise PayloadError("The body is not JSON.") from None
    if envelope is None:
        raise PayloadError("The body is not a JSON object with a string in 'event'.")
    return envelope


def _subject(envelope: Envelope) -> tuple[type[Event], str | None]:
    """The class of the event, and the id of its call or chat."""
    required = SUBJECTS.get(envelope.event)
    for name in required or _KINDS:
        kind, sent = _KINDS[name], getattr(envelope, name)
        if sent is None:
            continue
        if kind.id_field is None:
            return kind.event_class, None
        if session_id := getattr(sent, kind.id_field):
            return kind.event_class, session_id
    if required is None:
        return Event, None
    missing = " or ".join(_KINDS[name].description for name in required)
    raise PayloadError(f"{envelope.event} needs {missing}.")


def _lift_into_call(envelope: Envelope, call: Call) -> None:
    """Move what stands beside the call to where readers look for it."""
    if (beside := _values_beside(envelope)) != _NOTHING_BESIDE:
        for name, value in zip(_BESIDE_CALL, beside, strict=True):
            if getattr(call, name) is None:
                force_setattr(call, name, value)
        unite(call, "disconnection_reason", "end_reason")
    if envelope.event == "transcript_updated":
        sources = (
            envelope.transcript_with_tool_calls,
            call._transcript_with_tool_calls,
            call._transcript_object,
        )
        items = next((raw for raw in sources if _is_array(raw)), Raw())
        force_setattr(call, "_transcript_with_tool_calls", items)


def _is_array(raw: Raw) -> bool:
    return memoryview(raw)[:1].tobytes() == b"["
