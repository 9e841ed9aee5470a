"""Writes what an event tells of its call, right in any order and however often it comes."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from retell_flask import Call as RetellCall
from retell_flask import CallEvent
from retell_flask.models import Utterance

from .models import Call, db

# How late in a call an event tells of it; what is not here comes in between. Another version of an
# event goes before the first.
_STAGES = {"call_started": 0, "call_ended": 2, "call_analyzed": 3}
_BETWEEN = 1
_BEYOND_DOUBT = 4  # what an event was sent for
_TRANSFERS = {
    "transfer_started": "started",
    "transfer_cancelled": "cancelled",
    "transfer_bridged": "done",
    "agent_transfer": "done",
}
_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Told(NamedTuple):
    """Values of a call's, and a rank: of two values, the one that has the higher rank stays.

    Ranks are compared number by number.
    """

    rank: list[int]
    values: dict[str, Any]


def save_event(event: CallEvent) -> None:
    """Store all that an event says of its call, and of what became of it."""
    rank = [_STAGES.get(event.type, _BETWEEN), event.revision]
    save(
        event.call.call_id,
        Told(rank, _known(_facts_of(event))),
        _talk_of(event.call, rank),
        _transfer_of(event, rank),
        _error_of(event, rank),
        _voicemail_of(event, rank),
    )


def save(call_id: str, *told: Told) -> None:
    """Store values, each unless what is there was told with a higher rank."""
    # Whoever else writes to this call waits here.
    db.session.execute(insert_into(Call).values(call_id=call_id).on_conflict_do_nothing())
    found = select(Call).filter_by(call_id=call_id).with_for_update()
    call = db.session.scalars(found, execution_options={"populate_existing": True}).one()
    ranks = dict(call.ranks)
    for rank, values in told:
        for name, value in values.items():
            if rank >= ranks.get(name, []):
                setattr(call, name, storable(value))
                ranks[name] = rank
    call.ranks = ranks
    db.session.commit()


def insert_into(model: Any) -> Any:
    """An INSERT that knows ON CONFLICT, which both databases spell alike."""
    return _INSERTS[db.session.get_bind().dialect.name](model)


def storable(value: Any) -> Any:
    """PostgreSQL stores no NUL in a text, and neither database half of a surrogate pair."""
    if not isinstance(value, str):
        return value
    return value.replace("\0", " ").encode("utf-8", "replace").decode()


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _facts_of(event: CallEvent) -> dict[str, Any]:
    call, analysis = event.call, event.call.analysis
    return {
        "direction": call.direction,
        "from_number": call.from_number,
        "to_number": call.to_number,
        "agent_id": call.agent_id,
        "agent_name": call.agent_name,
        "started_at": call.started_at,
        "ended_at": call.ended_at,
        "duration_ms": None if call.duration is None else max(call.duration_ms or 0, 0),
        "reason": call.disconnection_reason,
        "recording_url": call.recording_url,
        "cost_cents": call.call_cost and call.call_cost.combined_cost,
        "sentiment": analysis and analysis.sentiment,
        "summary": analysis and analysis.summary,
        "has_ended": event.type in ("call_ended", "call_analyzed", "call_error") or None,
    }


def _talk_of(call: RetellCall, rank: list[int]) -> Told:
    """What was said so far: of two snapshots, the longer one was made later."""
    turns = [
        {
            "role": item.role,
            "content": item.content,
            "start": _start_of(item),
        }
        for item in call.transcript_with_tool_calls or call.transcript_object or ()
        if isinstance(item, Utterance) and item.content
    ] or [
        {"role": role.lower(), "content": content, "start": None}
        for line in (call.transcript or "").splitlines()
        for role, _, content in [line.partition(": ")]
        if role in ("Agent", "User")
    ]
    talk = {
        "transcript": call.transcript or None,
        "turns": turns or None,
        "turn_count": len(turns) or None,
    }
    length = sum(len(turn["content"]) for turn in turns)
    return Told([*rank, len(turns), length], _known(talk))


def _start_of(item: Utterance) -> float | None:
    """In seconds from the beginning of the call."""
    start = item.words[0].start if item.words else None
    return None if start is None else max(start, 0.0)


def _transfer_of(event: CallEvent, rank: list[int]) -> Told:
    """The last attempt, by when it was received, or the one that was a success."""
    state = _TRANSFERS.get(event.type)
    destination = event.transfer and event.transfer.destination
    received_ms = int(event.received_at.timestamp() * 1000)
    return Told(
        [*rank, int(state == "done"), received_ms],
        _known({"transfer": state, "transferred_to": destination}),
    )


def _error_of(event: CallEvent, rank: list[int]) -> Told:
    """An event that has the call's status tells as well that there was none."""
    error = event.error
    values = {
        "error_code": error and (error.code or "unknown"),
        "error_message": error and error.message,
    }
    if event.type == "call_error":
        return Told([_BEYOND_DOUBT, event.revision], values)
    is_verdict = event.type in ("call_ended", "call_analyzed") and event.call.call_status
    return Told(rank, values if is_verdict else _known(values))


def _voicemail_of(event: CallEvent, rank: list[int]) -> Told:
    if event.type == "voicemail_detected":
        return Told([_BEYOND_DOUBT], {"voicemail": True})
    analysis = event.call.analysis
    return Told(rank, _known({"voicemail": analysis and analysis.in_voicemail}))
