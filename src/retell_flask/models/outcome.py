"""What a call came to: a transfer, a failure, a voicemail.

Retell has no events of their own for these; other events carry the meaning.
"""

from __future__ import annotations

from typing import Any

from .base import Model
from .call import Call
from .disconnection import DISCONNECTION_REASONS, UNKNOWN_REASON

_TRANSFERS = frozenset(
    {
        "transfer_started",
        "transfer_bridged",
        "transfer_cancelled",
        "transfer_ended",
        "agent_transfer",
    }
)
_FAILED_STATUSES = frozenset({"error", "not_connected"})


class Transfer(Model, frozen=True, kw_only=True):
    """Where a call goes, as far as Retell says.

    ``destination`` is the number or SIP URI as text, ``number`` the same but None for a
    SIP URI. ``option`` is ``transfer_option`` as it was sent, with camelCase keys.
    """

    destination: str | None = None
    number: str | None = None
    extension: str | None = None
    option: dict[str, Any] | None = None


class CallFailure(Model, frozen=True, kw_only=True):
    """Why a call failed.

    ``code`` is the ``disconnection_reason``, ``message`` says it in a sentence, and
    ``retryable`` whether the same call, placed again later, may well succeed.
    """

    code: str | None = None
    message: str
    retryable: bool = False


class Destination(Model, frozen=True, kw_only=True):
    """``transfer_destination`` where it is an object."""

    number: str | None = None
    extension: str | int | None = None


def transfer_of(
    type_: str,
    call: Call | None,
    sent: str | Destination | None,
    option: dict[str, Any] | None,
) -> Transfer | None:
    """The transfer that an event speaks of, from beside the call or from within it."""
    number, extension = (
        (sent.number, sent.extension) if isinstance(sent, Destination) else (sent, None)
    )
    destination, reason = number, None
    if call is not None:
        destination = destination or call.transfer_number or call.transfer_destination
        reason = call.disconnection_reason
    is_transfer = type_ in _TRANSFERS or reason == "call_transfer"
    if not is_transfer and destination is None and option is None:
        return None
    is_uri = destination is not None and destination.lower().startswith(("sip:", "sips:"))
    return Transfer(
        destination=destination,
        number=None if is_uri else destination,
        extension=None if extension is None else str(extension),
        option=option,
    )


def failure_of(type_: str, call: Call | None) -> CallFailure | None:
    """Why a call failed, or None if it did not."""
    if call is None:
        return None
    sent = call.error if isinstance(call.error, dict) else {"message": call.error}
    code = call.error_code if call.error_code is not None else sent.get("code")
    message = call.error_message or sent.get("message")
    failed = type_ == "call_error" or call.call_status in _FAILED_STATUSES
    if not failed and code is None and message is None:
        return None
    code = call.disconnection_reason if code is None else str(code)
    reason = DISCONNECTION_REASONS.get(code or "", UNKNOWN_REASON)
    return CallFailure(
        code=code,
        message=message if isinstance(message, str) else reason.message,
        retryable=reason.retryable,
    )


def is_voicemail(type_: str, call: Call | None) -> bool:
    """Whether an event says that a voicemail answered."""
    if call is None:
        return False
    analysis = call.call_analysis
    return (
        type_ == "voicemail_detected"
        or call.disconnection_reason == "voicemail_reached"
        or (analysis is not None and analysis.in_voicemail is True)
    )
