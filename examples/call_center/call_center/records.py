"""Writes what an event tells of its call, right in any order and however often it comes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, case
from sqlalchemy.dialects import postgresql, sqlite

from retell_flask import CallEvent
from retell_flask.models import Call as RetellCall
from retell_flask.models import Utterance

from .models import Call, db

_INSERTS = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def insert_into(model: Any) -> Any:
    """An INSERT that knows ON CONFLICT, which both databases spell alike."""
    return _INSERTS[db.session.get_bind().dialect.name](model)


def save(call_id: str, *, where: ColumnElement[bool] | None = None, **values: Any) -> None:
    """Store what is known now, and leave alone what these values do not tell.

    ``where`` says when a call that is there already is changed.
    """
    known = {name: _storable(value) for name, value in values.items() if value is not None}
    insert = insert_into(Call).values(call_id=call_id, **known)
    changes = {name: insert.excluded[name] for name in known}
    if "cost_cents" in changes:  # it grows until the call is analyzed
        new = changes["cost_cents"]
        changes["cost_cents"] = case((Call.cost_cents > new, Call.cost_cents), else_=new)
    if changes:
        upsert = insert.on_conflict_do_update(
            index_elements=[Call.call_id], set_=changes, where=where
        )
    else:
        upsert = insert.on_conflict_do_nothing(index_elements=[Call.call_id])
    db.session.execute(upsert)
    db.session.commit()


def _storable(value: Any) -> Any:
    """PostgreSQL stores no NUL in a text."""
    return value.replace("\0", " ") if isinstance(value, str) else value


def save_event(event: CallEvent) -> None:
    """Store all that ``call_started``, ``call_ended`` or ``call_analyzed`` says."""
    call = event.call
    save(
        call.call_id,
        **_of_the_start(call),
        **_of_the_talk(call),
        ended_at=call.ended_at,
        duration_ms=call.duration_ms,
        reason=call.disconnection_reason,
        recording_url=call.recording_url,
        cost_cents=call.call_cost.combined_cost if call.call_cost else None,
        sentiment=call.analysis.sentiment if call.analysis else None,
        summary=call.analysis.summary if call.analysis else None,
        has_ended=True if event.type != "call_started" else None,
    )


def save_snapshot(event: CallEvent) -> None:
    """Store the transcript so far, unless a longer one is there or the call is over."""
    call, talk = event.call, _of_the_talk(event.call)
    is_newer = ~Call.has_ended & (Call.turn_count <= talk["turn_count"])
    save(call.call_id, where=is_newer, **_of_the_start(call), **talk)


def _of_the_start(call: RetellCall) -> dict[str, Any]:
    return {
        "direction": call.direction,
        "from_number": call.from_number,
        "to_number": call.to_number,
        "agent_id": call.agent_id,
        "agent_name": call.agent_name,
        "started_at": call.started_at,
    }


def _of_the_talk(call: RetellCall) -> dict[str, Any]:
    turns = [
        {
            "role": item.role,
            "content": item.content,
            "start": item.words[0].start if item.words else None,
        }
        for item in call.transcript_with_tool_calls or call.transcript_object or ()
        if isinstance(item, Utterance)
    ]
    return {
        "transcript": call.transcript,
        "turns": turns or None,
        "turn_count": len(turns) or None,
    }
