"""Rows for what was received, and whether it was there before."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete

from ..errors import InboxError
from ..events import Event, forgotten_id, invalid_id, revision_id
from . import statements
from .bodies import pack, unpack
from .entry import Added, DeliveryStatus, EntryStatus, stage_of, storable
from .schema import deliveries

Values = dict[str, Any]


def of_event(blueprint: str, event: Event) -> Values:
    """The row of an event that is pending."""
    session = event.session_id and storable(event.session_id)
    return {
        "event_id": event.id,
        "type": storable(event.type),
        "session": session,
        "stage": stage_of(event.type).value,
        "synthetic": event.synthetic,
        "status": EntryStatus.PENDING.value,
        **_received(blueprint, event.raw, event.received_at),
    }


def of_forgotten(blueprint: str, session: str, now: datetime) -> Values:
    """The row that tells a backfill that a call is forgotten, where no other does."""
    return {
        **of_invalid(blueprint, b"", now),
        "event_id": forgotten_id(session),
        "status": EntryStatus.FORGOTTEN.value,
        "body": None,
    }


def of_invalid(blueprint: str, body: bytes, received_at: datetime) -> Values:
    """The row of a body that is no event."""
    return {
        "event_id": invalid_id(body),
        "type": "",
        "session": None,
        "stage": stage_of("").value,
        "synthetic": False,
        "status": EntryStatus.INVALID.value,
        **_received(blueprint, body, received_at),
    }


def _received(blueprint: str, body: bytes, received_at: datetime) -> Values:
    compressed, stored = pack(body)
    return {
        "blueprint": blueprint,
        "revises": None,
        "revision": 0,
        "received_at": received_at,
        "next_attempt_at": received_at,
        "compressed": compressed,
        "body": stored,
    }


class NewEntry:
    """An operation: write a row. The result is its id, or None where its event id is taken."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def __call__(self, connection: Connection) -> int | None:
        """Several at once are written by ``together``."""
        statement = statements.INSERT_ENTRY[connection.dialect.name]
        inserted: int | None = connection.execute(statement, self.values).scalar()
        return inserted


def insert_again(connection: Connection, values: Values, event: Event) -> Added:
    """The event id is taken: by a repeat, or by an earlier version of the event."""
    first = _find(connection, values)
    # A body that was freed is a snapshot's, whose id is that of its bytes, or forgotten. What a
    # backfill makes never revises what was sent.
    if first.body is None or event.synthetic:
        return Added(first.id, duplicate=True)
    if first.synthetic:
        sent = {"new_compressed": values["compressed"], "new_body": values["body"]}
        names = {"entry_id": first.id, **sent}
        if connection.execute(statements.REPLACE_SYNTHETIC, names).rowcount:
            return Added(first.id, duplicate=True)
        first = _find(connection, values)  # another one did, on an engine that locks nothing
    if unpack(first.compressed, first.body) == event.raw:
        return Added(first.id, duplicate=True)
    # The first version is locked, so that nobody else counts its revisions now.
    revisions = connection.execute(statements.COUNT_REVISIONS, {"first": first.id}).scalar_one()
    values = {
        **values,
        "event_id": revision_id(event.type, event.session_id, event.raw),
        "revises": first.id,
        "revision": revisions + 1,
    }
    entry_id = NewEntry(values)(connection)
    if entry_id is not None:
        return Added(entry_id, duplicate=False)
    return Added(_find(connection, values).id, duplicate=True)


def _find(connection: Connection, values: Values) -> Any:
    names = {"inbox": values["blueprint"], "event_id": values["event_id"]}
    found = connection.execute(statements.FIND_SAME, names).first()
    if found is None:
        raise InboxError("The entry of a repeat was pruned at this moment.")
    return found


def supersede(connection: Connection, blueprint: str, session: str) -> None:
    """Free the snapshots of a session that wait behind a newer one."""
    names = {"inbox": blueprint, "of_session": session}
    freed = connection.execute(statements.SUPERSEDE, names).scalars().all()
    if freed:
        d = deliveries.c
        is_pending = statements.is_(d.status, DeliveryStatus.PENDING)
        connection.execute(delete(deliveries).where(d.entry_id.in_(freed), is_pending))
