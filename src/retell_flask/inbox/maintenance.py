"""What people ask of an inbox: look, count, replay, prune and forget."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, null, or_, select, update

from ..errors import PayloadError
from .entry import (
    Delivery,
    DeliveryStatus,
    Entry,
    EntryStatus,
    FindTargets,
    once_key,
    stage_of,
    storable,
)
from .schema import deliveries, entries
from .statements import BODY, DETAILS, find_deliveries, is_
from .store import Inbox, delivery_of, entry_of, insert_delivery

e, d = entries.c, deliveries.c

_FIND_DELIVERIES = find_deliveries()
_PRUNED_TOGETHER = 100
_PRUNE_PAUSE_SECONDS = 600.0


@dataclass(frozen=True)
class Query:
    """Which entries are meant; what is None does not matter. Times are aware."""

    names: Sequence[str] = ()  # event ids, or ids of calls and chats
    status: EntryStatus | None = None
    type: str | None = None
    receiver: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self, blueprint: str) -> list[Any]:
        """The query as SQL."""
        conditions: list[Any] = [e.blueprint == blueprint]
        if self.names:
            stored = [storable(name) for name in self.names]
            conditions.append(or_(e.event_id.in_(stored), e.session.in_(stored)))
        if self.status is not None:
            conditions.append(is_(e.status, self.status))
        if self.type is not None:
            conditions.append(e.type == self.type)
        if self.receiver is not None:
            has_it = select(d.entry_id).where(d.receiver == self.receiver)
            conditions.append(e.id.in_(has_it))
        if self.since is not None:
            conditions.append(e.received_at >= self.since)
        if self.until is not None:
            conditions.append(e.received_at < self.until)
        return conditions


def search(inbox: Inbox, query: Query, *, limit: int | None = None) -> list[Entry]:
    """The newest entries first, without their bodies."""
    statement = (
        select(*DETAILS)
        .where(*query.conditions(inbox.blueprint))
        .order_by(e.id.desc())
        .limit(limit)
    )
    return inbox.database.read(lambda c: [entry_of(row) for row in c.execute(statement)])


def ids(inbox: Inbox, query: Query) -> list[int]:
    """The keys of the entries that are meant, the oldest first."""
    statement = select(e.id).where(*query.conditions(inbox.blueprint)).order_by(e.id)
    return inbox.database.read(lambda c: list(c.execute(statement).scalars()))


class Record(NamedTuple):
    """An entry with its body and its deliveries."""

    entry: Entry
    deliveries: list[Delivery]


def timeline(inbox: Inbox, name: str) -> list[Record]:
    """One entry by its event id, or all of a call or chat, in the order of arrival."""
    conditions = Query(names=[name]).conditions(inbox.blueprint)
    found = select(*DETAILS, *BODY).where(*conditions).order_by(e.id)

    def operation(connection: Connection) -> list[Record]:
        return [
            Record(entry_of(row), _deliveries(connection, row.id))
            for row in connection.execute(found).all()
        ]

    return inbox.database.read(operation)


def _deliveries(connection: Connection, entry_id: int) -> list[Delivery]:
    rows = connection.execute(_FIND_DELIVERIES, {"entry_id": entry_id})
    return [delivery_of(row) for row in rows]


@dataclass(frozen=True)
class Stats:
    """What an inbox holds. ``entries`` counts by status and type."""

    entries: dict[tuple[str, str], int]
    deliveries: dict[str, int]
    oldest_pending: datetime | None
    newest: datetime | None
    body_bytes: int


def stats(inbox: Inbox) -> Stats:
    """Count everything. Reads the whole table."""
    mine = e.blueprint == inbox.blueprint
    by_type = select(e.status, e.type, func.count()).where(mine).group_by(e.status, e.type)
    by_status = (
        select(d.status, func.count())
        .join(entries, e.id == d.entry_id)
        .where(mine)
        .group_by(d.status)
    )
    oldest = select(func.min(e.received_at)).where(mine, is_(e.status, EntryStatus.PENDING))
    newest = select(func.max(e.received_at)).where(mine)
    size = select(func.coalesce(func.sum(func.length(e.body)), 0)).where(mine)

    def operation(connection: Connection) -> Stats:
        return Stats(
            {(status, type_): n for status, type_, n in connection.execute(by_type)},
            dict(connection.execute(by_status).tuples().all()),
            connection.execute(oldest).scalar(),
            connection.execute(newest).scalar(),
            int(connection.execute(size).scalar_one()),
        )

    return inbox.database.read(operation)


def waiting(inbox: Inbox) -> dict[tuple[str, str], int]:
    """How many deliveries are pending, by signal and receiver."""
    statement = (
        select(d.signal, d.receiver, func.count())
        .join(entries, e.id == d.entry_id)
        .where(e.blueprint == inbox.blueprint, is_(d.status, DeliveryStatus.PENDING))
        .group_by(d.signal, d.receiver)
    )
    return inbox.database.read(
        lambda c: {(signal, receiver): n for signal, receiver, n in c.execute(statement)}
    )


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


def replay(inbox: Inbox, entry_id: int, wanted: Replay) -> int:
    """Make deliveries of an entry pending, with attempts 0. How many; 0 for a freed body.

    A pending one is made due at once. An invalid entry is read again, and counts as one if
    it is an event by now.
    """

    def operation(connection: Connection) -> int:
        # A write first: where the engine is the host's, a read could not be upgraded.
        locked = connection.execute(
            update(entries)
            .where(e.id == entry_id, e.body.is_not(None))
            .values(revision=e.revision)
            .returning(*DETAILS, *BODY)
        ).one_or_none()
        if locked is None:
            return 0
        entry = entry_of(locked)
        if entry.status is EntryStatus.INVALID:
            return _revive(connection, entry, inbox.clock())
        count = _reset(connection, entry, wanted, inbox.clock())
        if count and entry.status is not EntryStatus.RUNNING:
            _make_pending(connection, entry_id, inbox.clock())
        return count

    return inbox.database.write(operation)


def _revive(connection: Connection, entry: Entry, now: datetime) -> int:
    try:
        event = entry.event()
    except PayloadError:
        return 0
    connection.execute(
        update(entries)
        .where(e.id == entry.id)
        .values(
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
        .where(e.id == entry_id)
        .values(status=EntryStatus.PENDING.value, next_attempt_at=now)
    )


def _reset(connection: Connection, entry: Entry, wanted: Replay, now: datetime) -> int:
    found = _deliveries(connection, entry.id)
    if not found:  # nobody heard it then: its next claim finds who does now
        return int(wanted.done_too or wanted.receiver is not None)
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
    statement = update(deliveries).where(d.id == delivery.id)
    if wanted.rename is not None:
        taken = select(d.id).where(
            d.entry_id == entry.id, d.signal == delivery.signal, d.receiver == wanted.rename
        )
        if connection.execute(taken).first():
            return 0
        values["receiver"] = wanted.rename
        if connection.execute(select(d.once).where(d.id == delivery.id)).scalar() is not None:
            key = once_key(entry.blueprint, entry.session or "", delivery.signal, wanted.rename)
            if connection.execute(select(d.id).where(d.once == key)).first():
                return 0
            values["once"] = key
    connection.execute(statement.values(**values))
    return 1


def _add_missing(
    connection: Connection, entry: Entry, found: list[Delivery], wanted: Replay, now: datetime
) -> int:
    has = {(delivery.signal, delivery.receiver) for delivery in found}
    count = 0
    for position, target in enumerate(wanted.find_targets(entry.event()), len(found)):
        if target.receiver == wanted.receiver and target[:2] not in has:
            count += insert_delivery(connection, entry.id, position, target, now)
    return count


def forget(inbox: Inbox, session: str) -> int:
    """Empty all entries of a call or chat for good; how many.

    Their digests stay, so that neither a repeat nor a backfill brings them back.
    """
    mine = (e.blueprint == inbox.blueprint, e.session == storable(session))

    def operation(connection: Connection) -> int:
        emptied = connection.execute(
            update(entries)
            .where(*mine)
            .values(
                status=EntryStatus.FORGOTTEN.value,
                session=null(),
                compressed=False,
                body=null(),
                lease_token=null(),
                lease_expires_at=null(),
            )
            .returning(e.id)
        ).scalars()
        keys = list(emptied)
        connection.execute(update(deliveries).where(d.entry_id.in_(keys)).values(error=null()))
        connection.execute(
            delete(deliveries).where(
                d.entry_id.in_(keys), is_(d.status, DeliveryStatus.PENDING), d.once.is_(None)
            )
        )
        return len(keys)

    count = inbox.database.write(operation)
    inbox.database.erase_traces()
    return count


def prunable(inbox: Inbox, age: timedelta) -> int:
    """How many done and superseded entries are older than ``age``."""
    statement = select(func.count()).where(*_prunable(inbox, age))
    return inbox.database.read(lambda connection: connection.execute(statement).scalar_one())


def prune(inbox: Inbox, age: timedelta) -> Iterator[int]:
    """Delete them in small batches; the size of each."""
    while count := prune_batch(inbox, age):
        yield count


def prune_batch(inbox: Inbox, age: timedelta) -> int:
    """Delete one small batch, the oldest first; how many."""
    batch = (
        select(e.id).where(*_prunable(inbox, age)).order_by(e.received_at).limit(_PRUNED_TOGETHER)
    )

    def operation(connection: Connection) -> int:
        keys = list(connection.execute(batch.with_for_update(skip_locked=True)).scalars())
        connection.execute(delete(deliveries).where(d.entry_id.in_(keys)))
        connection.execute(delete(entries).where(e.id.in_(keys)))
        return len(keys)

    if not inbox.database.read(lambda connection: connection.execute(batch).first()):
        return 0
    return inbox.database.write(operation)


def _prunable(inbox: Inbox, age: timedelta) -> tuple[Any, ...]:
    return (
        e.blueprint == inbox.blueprint,
        is_(e.status, EntryStatus.DONE, EntryStatus.SUPERSEDED),
        e.received_at < inbox.clock() - age,
    )


class Pruner:
    """Prunes by the way, a batch at a time, for whatever delivers."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._pruning = threading.Lock()
        # Not all processes at once, and none in its first minute.
        self._next = time.monotonic() + random.SystemRandom().uniform(60, _PRUNE_PAUSE_SECONDS)

    def prune_some(self) -> None:
        """Delete a batch, if it is time. Raises ``InboxError``."""
        if time.monotonic() < self._next or not self._pruning.acquire(blocking=False):
            return
        try:
            count = prune_batch(self._inbox, self._inbox.settings.retention)
            pause = 0.0 if count == _PRUNED_TOGETHER else _PRUNE_PAUSE_SECONDS
            self._next = time.monotonic() + pause
        finally:
            self._pruning.release()
