"""Writes what an event tells of its call, right in any order and however often it comes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, case, func, or_
from sqlalchemy.dialects import postgresql, sqlite

from retell_flask import Call as RetellCall
from retell_flask import CallEvent
from retell_flask.models import Utterance

from .models import Call, db

# How late in a call an event tells of it. What is not here comes in between; that a transfer was
# cancelled says nothing of the next one. Another version of an event goes before the first.
_RANKS = {"call_started": 0, "transfer_cancelled": 0, "call_ended": 2000, "call_analyzed": 3000}
_OTHER_RANK = 1000

_FACTS = {"has_ended", "transferred", "transfer_cancelled", "voicemail"}  # once true, they stay
_TALK = {"transcript", "turns", "turn_count"}
_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def save_event(event: CallEvent) -> None:
    """Store all that an event says of its call, and of what became of it."""
    call, analysis, error = event.call, event.call.analysis, event.error
    save(
        call.call_id,
        rank=_RANKS.get(event.type, _OTHER_RANK) + event.revision,
        direction=call.direction,
        from_number=call.from_number,
        to_number=call.to_number,
        agent_id=call.agent_id,
        agent_name=call.agent_name,
        started_at=call.started_at,
        ended_at=call.ended_at,
        duration_ms=None if call.duration is None else call.duration_ms,
        reason=call.disconnection_reason,
        recording_url=call.recording_url,
        cost_cents=call.call_cost and call.call_cost.combined_cost,
        sentiment=analysis and analysis.sentiment,
        summary=analysis and analysis.summary,
        **_talk_of(call),
        has_ended=event.type in ("call_ended", "call_analyzed", "call_error"),
        transferred=event.type in ("transfer_bridged", "agent_transfer"),
        transferred_to=event.transfer and event.transfer.destination,
        transfer_cancelled=event.type == "transfer_cancelled",
        voicemail=event.voicemail,
        error_code=error and (error.code or "unknown"),
        error_message=error and error.message,
    )


def save(call_id: str, *, rank: int = 0, **values: Any) -> None:
    """Store what is known now, and leave alone what these values do not tell.

    What came with a higher ``rank`` stays, and these values fill in what it left open. A fact that
    is false is one that nobody told yet.
    """
    known = {
        name: storable(value)
        for name, value in values.items()
        if value is not None and value is not False
    }
    insert = insert_into(Call).values(call_id=call_id, rank=rank, **known)
    is_later = Call.rank <= rank
    is_longer = Call.turn_count <= known.get("turn_count", 0)
    is_untold = and_(Call.turn_count == 0, Call.transcript.is_(None))
    replaces_talk = or_(Call.rank < rank, and_(Call.rank == rank, is_longer), is_untold)

    def merged(name: str) -> Any:
        old, new = getattr(Call, name), insert.excluded[name]
        if name in _FACTS:
            return new
        if name in _TALK:
            return case((replaces_talk, new), else_=old)
        if name == "transferred_to":  # a transfer goes before the attempts at one
            attempt = or_(Call.rank < rank, and_(Call.rank == rank, ~Call.transferred))
            success = or_(is_later, ~Call.transferred)
            goes_before = success if "transferred" in known else attempt
            return case((goes_before, new), else_=func.coalesce(old, new))
        return case((is_later, new), else_=func.coalesce(old, new))

    changes = {name: merged(name) for name in known}
    changes["rank"] = case((is_later, rank), else_=Call.rank)
    db.session.execute(insert.on_conflict_do_update(index_elements=[Call.call_id], set_=changes))
    db.session.commit()


def insert_into(model: Any) -> Any:
    """An INSERT that knows ON CONFLICT, which both databases spell alike."""
    return _INSERTS[db.session.get_bind().dialect.name](model)


def _talk_of(call: RetellCall) -> dict[str, Any]:
    turns = [
        {
            "role": item.role,
            "content": item.content,
            "start": item.words[0].start if item.words else None,
        }
        for item in call.transcript_with_tool_calls or call.transcript_object or ()
        if isinstance(item, Utterance)
    ] or [
        {"role": role.lower(), "content": content, "start": None}
        for line in (call.transcript or "").splitlines()
        for role, _, content in [line.partition(": ")]
        if role in ("Agent", "User")
    ]
    return {
        "transcript": call.transcript or None,
        "turns": turns or None,
        "turn_count": len(turns) or None,
    }


def storable(value: Any) -> Any:
    """PostgreSQL stores no NUL in a text, and neither database half of a surrogate pair."""
    if not isinstance(value, str):
        return value
    return value.replace("\0", " ").encode("utf-8", "replace").decode()
