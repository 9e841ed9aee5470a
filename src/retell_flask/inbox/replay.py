"""Deliveries that are to run again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, update

from ..errors import PayloadError
from ..events import dedupe_key, event_id
from .entry import (
    SNAPSHOT,
    Delivery,
    DeliveryStatus,
    Entry,
    EntryStatus,
    FindTargets,
    once_key,
    stage_of,
    storable,
)
from .rows import entry_of, find_deliveries, insert_delivery
from .schema import deliveries, entries
from .statements import BODY, DETAILS
from .store import Inbox

_e, _d = entries.c, deliveries.c


@dataclass(frozen=True)
class Replay:
    """What to replay of an entry: the dead deliveries, those of one receiver, or all.

    ``receiver`` also reaches entries that began before it was connected. ``rename`` is the
    name that it has now.
    """

    find_targets: FindTargets
    receiver: str | None = None
    rename: str | None = None
    done_too: bool = False


def replay_entry(inbox: Inbox, entry_id: int, wanted: Replay) -> int:
    """Make deliveries of an entry pending, with attempts 0. How many.

    0 for a body that was freed, and for a snapshot behind which there is a newer one. A
    pending one is made due at once. An invalid entry is read again, and counts as one if it
    is an event by now.
    """

    return inbox.database.write(lambda connection: _replay(connection, inbox, entry_id, wanted))


def rehearse_entry(inbox: Inbox, entry_id: int, wanted: Replay) -> int:
    """What ``replay_entry`` would return; nothing is changed."""

    def operation(connection: Connection) -> int:
        connection.exec_driver_sql("SAVEPOINT rehearsal")
        count = _replay(connection, inbox, entry_id, wanted)
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT rehearsal")
        return count

    return inbox.database.write(operation)


def _replay(connection: Connection, inbox: Inbox, entry_id: int, wanted: Replay) -> int:
    # A write first: where the engine is the host's, a read could not be upgraded.
    locked = connection.execute(
        update(entries)
        .where(_e.id == entry_id, _e.body.is_not(None))
        .values(revision=_e.revision)
        .returning(*DETAILS, *BODY)
    ).one_or_none()
    if locked is None or _has_newer_snapshot(connection, inbox, locked):
        return 0
    entry = entry_of(locked)
    if entry.status is EntryStatus.INVALID:
        return _revive(connection, entry, inbox.clock())
    count = _reset(connection, entry, wanted, inbox.clock())
    if count and entry.status is not EntryStatus.RUNNING:
        _make_pending(connection, entry_id, inbox.clock())
    return count


def _has_newer_snapshot(connection: Connection, inbox: Inbox, row: Any) -> bool:
    """Replayed, it would be superseded at once."""
    if row.type != SNAPSHOT or inbox.settings.transcripts == "all":
        return False
    newer = select(_e.id).where(
        _e.blueprint == row.blueprint,
        _e.session == row.session,
        _e.type == SNAPSHOT,
        _e.id > row.id,
    )
    return connection.execute(newer).first() is not None


def _revive(connection: Connection, entry: Entry, now: datetime) -> int:
    try:
        event = entry.event()
    except PayloadError:
        return 0
    own_id = event_id(dedupe_key(event.type, event.session_id, event.raw))
    taken = select(_e.id).where(_e.blueprint == entry.blueprint, _e.event_id == own_id)
    if connection.execute(taken).first() is not None:
        return 0  # it came once more since, and could be read
    connection.execute(
        update(entries)
        .where(_e.id == entry.id)
        .values(
            event_id=own_id,
            type=storable(event.type),
            session=event.session_id and storable(event.session_id),
            stage=stage_of(event.type).value,
        )
    )
    _make_pending(connection, entry.id, now)
    return 1


def _make_pending(connection: Connection, entry_id: int, now: datetime) -> None:
    connection.execute(
        update(entries)
        .where(_e.id == entry_id)
        .values(status=EntryStatus.PENDING.value, next_attempt_at=now)
    )


def _reset(connection: Connection, entry: Entry, wanted: Replay, now: datetime) -> int:
    found = find_deliveries(connection, entry.id)
    if not found and entry.status is EntryStatus.PENDING:
        return 0  # not begun: its first claim reaches everybody
    if not found and wanted.receiver is None:
        return int(wanted.done_too)  # nobody heard it then: its next claim finds who does now
    count = 0
    for delivery in found:
        if wanted.receiver not in (None, delivery.receiver):
            continue
        if delivery.status is DeliveryStatus.DONE and not wanted.done_too:
            continue
        count += _reset_one(connection, entry, delivery, wanted, now)
    if wanted.receiver is not None and wanted.rename is None:
        count += _add_missing(connection, entry, found, wanted, now)
    return count


def _reset_one(
    connection: Connection, entry: Entry, delivery: Delivery, wanted: Replay, now: datetime
) -> int:
    values: dict[str, Any] = {
        "status": DeliveryStatus.PENDING.value,
        "attempts": 0,
        "next_attempt_at": now,
    }
    statement = update(deliveries).where(_d.id == delivery.id)
    if wanted.rename is not None:
        taken = select(_d.id).where(
            _d.entry_id == entry.id, _d.signal == delivery.signal, _d.receiver == wanted.rename
        )
        if connection.execute(taken).first():
            return 0
        values["receiver"] = wanted.rename
        if connection.execute(select(_d.once).where(_d.id == delivery.id)).scalar() is not None:
            key = once_key(entry.blueprint, entry.session or "", delivery.signal, wanted.rename)
            if connection.execute(select(_d.id).where(_d.once == key)).first():
                return 0
            values["once"] = key
    connection.execute(statement.values(**values))
    return 1


def _add_missing(
    connection: Connection, entry: Entry, found: list[Delivery], wanted: Replay, now: datetime
) -> int:
    has = {(delivery.signal, delivery.receiver) for delivery in found}
    count = 0
    try:
        targets = wanted.find_targets(entry.event())
    except PayloadError:  # accepted by another release
        return 0
    for position, target in enumerate(targets, len(found)):
        if target.receiver == wanted.receiver and target[:2] not in has:
            count += insert_delivery(connection, entry.id, position, target, now)
    return count
