"""The signals, and which of them an event fires.

Sender is always the ``RetellBlueprint`` that received the event, ``event`` the keyword
of every signal but those about the receiving itself. Receivers take ``**extra``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blinker import Namespace, Signal

from .connections import watch_connections
from .events import SUBJECTS, Event

_namespace = Namespace()


def _signal(name: str, when: str, *keywords: str) -> Signal:
    keywords = keywords or ("event",)
    listed = ", ".join(f"``{keyword}``" for keyword in keywords)
    sender = "the ``RetellBlueprint`` that received it"
    signal = _namespace.signal(name, f"{when}\n\nSender: {sender}. Keywords: {listed}.")
    watch_connections(signal, keywords)
    return signal


call_started: Signal = _signal(
    "call_started",
    "A call connected. Never sent for calls that do not connect.",
)
call_ended: Signal = _signal(
    "call_ended",
    "A call completed, was transferred, failed, or did not connect; everything but the "
    "analysis is known.",
)
call_analyzed: Signal = _signal(
    "call_analyzed",
    "The analysis of a call is there (``event.call.analysis``). It may arrive before "
    "``call_ended`` and for some calls that did not connect never.",
)
transcript_updated: Signal = _signal(
    "transcript_updated",
    "A turn of a running call or chat: a snapshot of the whole transcript so far, in "
    "``event.call.transcript_with_tool_calls``. Opt-in at Retell.",
)
transfer_started: Signal = _signal(
    "transfer_started",
    "A transfer begins (``event.transfer``). Opt-in at Retell.",
)
transfer_bridged: Signal = _signal(
    "transfer_bridged",
    "A transfer was bridged. Opt-in at Retell.",
)
transfer_cancelled: Signal = _signal(
    "transfer_cancelled",
    "A transfer was cancelled or did not connect. Opt-in at Retell.",
)
transfer_ended: Signal = _signal(
    "transfer_ended",
    "The leg of a transfer ended. Opt-in at Retell.",
)
chat_started: Signal = _signal(
    "chat_started",
    "A chat began.",
)
chat_ended: Signal = _signal(
    "chat_ended",
    "A chat completed or failed.",
)
chat_analyzed: Signal = _signal(
    "chat_analyzed",
    "The analysis of a chat is there (``event.chat.analysis``).",
)
alert_triggered: Signal = _signal(
    "alert_triggered",
    "An alert rule opened an incident (``event.alert``). Retell sends it once and never "
    "repeats it.",
)
alert_resolved: Signal = _signal(
    "alert_resolved",
    "The incident of an alert rule is over. Sent once, never repeated.",
)
agent_transfer: Signal = _signal(
    "agent_transfer",
    "A call is transferred (``event.transfer``): with ``transfer_started``, or with a "
    "``call_ended`` of reason ``call_transfer``. Not what Retell calls Agent Transfer, from "
    "one AI agent to another.",
)
voicemail_detected: Signal = _signal(
    "voicemail_detected",
    "A voicemail answered: with a ``call_ended`` of reason ``voicemail_reached``, or a "
    "``call_analyzed`` with ``in_voicemail``.",
)
call_error: Signal = _signal(
    "call_error",
    "A call failed or was not connected (``event.error``): with a ``call_ended`` of "
    "status ``error`` or ``not_connected``.",
)
event_received: Signal = _signal(
    "event_received",
    "Every event, known or not, before its own signal.",
)
unknown_event: Signal = _signal(
    "unknown_event",
    "An event of a type that this version does not know.",
)
event_revised: Signal = _signal(
    "event_revised",
    "Another version of an event that was delivered before, ``event.revision`` 1 and up; "
    "it fires no signal of its type again. Needs an inbox.",
)
webhook_rejected: Signal = _signal(
    "webhook_rejected",
    "A request was refused with 400, 401 or 413. ``skew_ms`` is how many milliseconds a "
    "stale signature lies in the past. Sent at once; what a receiver raises is logged.",
    "status",
    "reason",
    "skew_ms",
    "remote_addr",
)
delivery_failed: Signal = _signal(
    "delivery_failed",
    "A receiver (its identity) raised and will be tried again, at ``retry_at`` (aware "
    "UTC; None where Retell decides). Sent at once; what a receiver raises is logged.",
    "event",
    "receiver",
    "error",
    "attempt",
    "retry_at",
)
delivery_dead: Signal = _signal(
    "delivery_dead",
    "A receiver (its identity) failed for the last time. Needs an inbox. Sent at once; "
    "what a receiver raises is logged.",
    "event",
    "receiver",
    "error",
    "attempt",
)

inbound_answered: Signal = _signal(
    "inbound_answered",
    "An inbound call or message was answered by a handler of yours: ``inbound`` with ``answer`` "
    "(an ``InboundAnswer``). ``fallback`` is None, or why the default went out: ``failed``, "
    "``late`` or ``busy``. Sent before the answer is; what a receiver raises is logged.",
    "inbound",
    "answer",
    "fallback",
    "duration_ms",
)
backfilled: Signal = _signal(
    "backfilled",
    "A backfill is through, or was broken off when it had made events: of ``looked_at`` calls "
    "that ended from ``since`` to ``until``, ``events`` events had been missed and were made. "
    "Sent at once; what a receiver raises is logged.",
    "since",
    "until",
    "looked_at",
    "events",
)

SIGNALS: dict[str, Signal] = dict(_namespace)

# Fired once per call and receiver, whichever event carries them first.
OUTCOMES = frozenset({"agent_transfer", "voicemail_detected", "call_error"})

_CARRIES: dict[str, list[tuple[Signal, Callable[[Any], bool]]]] = {
    "transfer_started": [(agent_transfer, lambda _: True)],
    "call_ended": [
        (agent_transfer, lambda event: event.call.disconnection_reason == "call_transfer"),
        (voicemail_detected, lambda event: event.call.disconnection_reason == "voicemail_reached"),
        (call_error, lambda event: event.call.call_status in ("error", "not_connected")),
    ],
    "call_analyzed": [
        (
            voicemail_detected,
            lambda event: bool(event.call.analysis and event.call.analysis.in_voicemail),
        ),
    ],
}


def find_signal(signal: str | Signal) -> Signal:
    """A signal by its name, or as it is. Raises ``ValueError`` and ``TypeError``."""
    if isinstance(signal, Signal):
        return signal
    if not isinstance(signal, str):
        raise TypeError('on() takes signals or their names: @retell.on("call_ended").')
    if signal not in SIGNALS:
        raise ValueError(f"There is no signal {signal!r}. Known: {', '.join(sorted(SIGNALS))}.")
    return SIGNALS[signal]


def signals_for(event: Event) -> list[Signal]:
    """The signals that an event fires, in order."""
    if event.revision:
        return [event_received, event_revised]
    own = SIGNALS[event.type] if event.type in SUBJECTS else unknown_event
    outcomes = [signal for signal, carries in _CARRIES.get(event.type, ()) if carries(event)]
    return [event_received, own, *outcomes]
