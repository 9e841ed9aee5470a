"""What people ask of an inbox: look, count, replay, prune and forget."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Select,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from .entry import (
    ASIDE,
    Delivery,
    DeliveryStatus,
    Entry,
    EntryStatus,
    storable,
)
from .receipts import NewEntry, of_forgotten
from .rows import entry_of, find_deliveries
from .schema import answers, deliveries, entries, messages, pruned
from .statements import BODY, DETAILS, is_
from .store import Inbox

_e, _d = entries.c, deliveries.c

# What is left of the others' deliveries is never run again.
_CAN_RUN = ~is_(_e.status, EntryStatus.FORGOTTEN, EntryStatus.SUPERSEDED)
# Whose event ids are made of the call's, and so can be looked for without their bodies.
_TELLING = {"call_started", "call_ended", "call_analyzed", "chat_started", "chat_ended"}
_PRUNED_TOGETHER = 25
_ABANDONED = timedelta(days=1)
_PRUNE_PAUSE_SECONDS = 600.0


@dataclass(frozen=True)
class Query:
    """Which entries are meant; what is None does not matter. Times are aware.

    ``receiver`` and ``deliveries`` ask together: entries that have a delivery to this
    receiver in one of these states.
    """

    names: Sequence[str] = ()  # event ids, or ids of calls and chats
    status: EntryStatus | None = None
    type: str | None = None
    receiver: str | None = None
    deliveries: Sequence[DeliveryStatus] = ()
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self, blueprint: str) -> list[Any]:
        """The query as SQL."""
        mine = _e.blueprint == blueprint
        # Not both: SQLite would look for the names among all that are mine.
        conditions: list[Any] = [_e.id.in_(_named(mine, self.names)) if self.names else mine]
        if self.status is not None:
            conditions.append(is_(_e.status, self.status))
            if self.status in ASIDE:  # SQLite takes a partial index for its own condition only
                conditions.append(is_(_e.status, *ASIDE))
        if self.type is not None:
            conditions.append(_e.type == self.type)
        if has := self._of_deliveries():
            conditions += [_e.id.in_(select(_d.entry_id).where(*has)), _CAN_RUN]
        if self.since is not None:
            conditions.append(_e.received_at >= self.since)
        if self.until is not None:
            conditions.append(_e.received_at < self.until)
        return conditions

    @property
    def is_narrow(self) -> bool:
        """Whether few entries are meant, as far as one can tell."""
        return bool(self.names) or self.status not in (None, EntryStatus.DONE)

    def _of_deliveries(self) -> list[Any]:
        of_receiver = [] if self.receiver is None else [_d.receiver == self.receiver]
        return of_receiver + ([is_(_d.status, *self.deliveries)] if self.deliveries else [])


def _named(mine: Any, names: Sequence[str]) -> CompoundSelect[Any]:
    stored = [storable(name) for name in names]
    found = select(_e.id).where(mine)
    return union_all(found.where(_e.event_id.in_(stored)), found.where(_e.session.in_(stored)))


def search(inbox: Inbox, query: Query, *, limit: int | None = None) -> list[Entry]:
    """The newest entries first, without their bodies."""
    # SQLite would go through all entries in their order, rather than sort a few.
    received_at = literal_column("+received_at") if query.is_narrow else _e.received_at
    statement = (
        select(*DETAILS)
        .where(*query.conditions(inbox.blueprint))
        .order_by(received_at.desc(), _e.id.desc())
        .limit(limit)
    )
    return _read_entries(inbox, statement)


def ids(inbox: Inbox, query: Query) -> list[int]:
    """The keys of the entries that are meant, the oldest first."""
    statement = select(_e.id).where(*query.conditions(inbox.blueprint)).order_by(_e.id)
    return inbox.database.read(lambda c: list(c.execute(statement).scalars()))


def find(inbox: Inbox, keys: Sequence[int]) -> list[Entry]:
    """The entries of these keys, the newest first, without their bodies."""
    return _read_entries(inbox, select(*DETAILS).where(_e.id.in_(keys)).order_by(_e.id.desc()))


def _read_entries(inbox: Inbox, statement: Select[Any]) -> list[Entry]:
    return inbox.database.read(lambda c: [entry_of(row) for row in c.execute(statement)])


class Record(NamedTuple):
    """An entry with its body and its deliveries."""

    entry: Entry
    deliveries: list[Delivery]


def timeline(inbox: Inbox, name: str) -> list[Record]:
    """One entry by its event id, or all of a call or chat, in the order of arrival."""
    conditions = Query(names=[name]).conditions(inbox.blueprint)
    found = select(*DETAILS, *BODY).where(*conditions).order_by(_e.id)

    def operation(connection: Connection) -> list[Record]:
        return [
            Record(entry_of(row), find_deliveries(connection, row.id))
            for row in connection.execute(found).all()
        ]

    return inbox.database.read(operation)


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
    mine = _e.blueprint == inbox.blueprint
    by_type = select(_e.status, _e.type, func.count()).where(mine).group_by(_e.status, _e.type)
    by_status = (
        select(_d.status, func.count())
        .join(entries, _e.id == _d.entry_id)
        .where(mine, _CAN_RUN)
        .group_by(_d.status)
    )
    oldest = select(func.min(_e.received_at)).where(mine, is_(_e.status, EntryStatus.PENDING))
    newest = select(func.max(_e.received_at)).where(mine)
    size = select(func.coalesce(func.sum(func.length(_e.body)), 0)).where(mine)

    def operation(connection: Connection) -> Stats:
        return Stats(
            {(status, type_): n for status, type_, n in connection.execute(by_type)},
            {row[0]: row[1] for row in connection.execute(by_status)},
            connection.execute(oldest).scalar(),
            connection.execute(newest).scalar(),
            int(connection.execute(size).scalar_one()),
        )

    return inbox.database.read(operation)


def waiting(
    inbox: Inbox, status: DeliveryStatus = DeliveryStatus.PENDING, of: Query | None = None
) -> dict[tuple[str, str], int]:
    """How many deliveries are pending, or of another status, by signal and receiver.

    ``of`` counts those of some entries only.
    """
    conditions = (of or Query()).conditions(inbox.blueprint)
    statement = (
        select(_d.signal, _d.receiver, func.count())
        .join(entries, _e.id == _d.entry_id)
        .where(*conditions, _CAN_RUN, is_(_d.status, status))
        .group_by(_d.signal, _d.receiver)
    )
    return inbox.database.read(
        lambda c: {(signal, receiver): n for signal, receiver, n in c.execute(statement)}
    )


class Forgotten(NamedTuple):
    """How many entries were emptied, how many results of functions were deleted, and whether
    the files were cleared of them, too."""

    entries: int
    results: int
    is_erased: bool


def forget(inbox: Inbox, session: str) -> Forgotten:
    """Empty all entries of a call or chat for good.

    Their digests stay, so that neither a repeat nor a backfill brings them back.
    """
    mine = (_e.blueprint == inbox.blueprint, _e.session == storable(session))
    results = (answers.c.blueprint == inbox.blueprint, answers.c.session == storable(session))

    def operation(connection: Connection) -> tuple[int, int]:
        deleted = connection.execute(delete(answers).where(*results)).rowcount
        types: list[str] = []
        # Once more: what was being added meanwhile is seen by the next statement.
        while found := _empty(connection, mine):
            types += found
        if (types or deleted) and not _TELLING & set(types):
            NewEntry(of_forgotten(inbox.blueprint, storable(session), inbox.clock()))(connection)
        return len(types), deleted

    counts = inbox.database.write(operation)
    return Forgotten(*counts, inbox.database.erase_traces())


def _empty(connection: Connection, mine: Sequence[Any]) -> list[str]:
    """Empty entries; the types of them."""
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
        .returning(_e.id, _e.type)
    ).all()
    keys = [row.id for row in emptied]
    connection.execute(update(deliveries).where(_d.entry_id.in_(keys)).values(error=null()))
    connection.execute(
        delete(deliveries).where(
            _d.entry_id.in_(keys), is_(_d.status, DeliveryStatus.PENDING), _d.once.is_(None)
        )
    )
    return [row.type for row in emptied]


def count_results(inbox: Inbox, session: str) -> int:
    """How many results of functions are kept of a call."""
    mine = (answers.c.blueprint == inbox.blueprint, answers.c.session == storable(session))
    statement = select(func.count()).select_from(answers).where(*mine)
    return inbox.database.read(lambda connection: connection.execute(statement).scalar_one())


def prunable(inbox: Inbox, age: timedelta) -> int:
    """How many done and superseded entries are older than ``age``."""
    statement = select(func.count()).where(*_prunable(inbox, age))
    return inbox.database.read(lambda connection: connection.execute(statement).scalar_one())


def prune(inbox: Inbox, age: timedelta) -> Iterator[int]:
    """Delete them in small batches, as long a pause after each; the size of each."""
    began = time.monotonic()
    while count := prune_batch(inbox, age):
        took = time.monotonic() - began
        yield count
        time.sleep(took)
        began = time.monotonic()


def prune_batch(inbox: Inbox, age: timedelta) -> int:
    """Delete one small batch, the oldest first; how many."""
    batch = (
        select(_e.id, _e.received_at)
        .where(*_prunable(inbox, age))
        .order_by(_e.received_at)
        .limit(_PRUNED_TOGETHER)
    )

    def operation(connection: Connection) -> int:
        found = connection.execute(batch.with_for_update(skip_locked=True)).all()
        keys = [row.id for row in found]
        connection.execute(delete(deliveries).where(_d.entry_id.in_(keys)))
        connection.execute(delete(messages).where(messages.c.entry_id.in_(keys)))
        connection.execute(delete(entries).where(_e.id.in_(keys)))
        if found:
            _note_pruned(connection, inbox, found[-1].received_at)
        return len(keys)

    if not inbox.database.read(lambda connection: connection.execute(batch).first()):
        return 0
    return inbox.database.write(operation)


def _note_pruned(connection: Connection, inbox: Inbox, received_at: datetime) -> None:
    """For a backfill, to which what was pruned would look as if it never came."""
    insert = _NOTE_PRUNED[connection.dialect.name]
    connection.execute(insert, {"blueprint": inbox.blueprint, "received_until": received_at})


def _note_pruned_statement(dialect: Any) -> Any:
    insert = dialect.insert(pruned)
    newest = insert.excluded.received_until
    return insert.on_conflict_do_update(
        index_elements=["blueprint"],
        set_={"received_until": newest},
        where=pruned.c.received_until < newest,
    )


_NOTE_PRUNED = {
    "sqlite": _note_pruned_statement(sqlite),
    "postgresql": _note_pruned_statement(postgresql),
}


def prune_results(inbox: Inbox) -> int:
    """Delete one small batch of what custom functions answered, where its time is over."""
    now = inbox.clock()
    over = (
        answers.c.blueprint == inbox.blueprint,
        answers.c.expires_at <= now,
        # What was begun and never finished may run on, after an outage.
        or_(answers.c.token.is_(None), answers.c.expires_at <= now - _ABANDONED),
    )
    batch = select(answers.c.id).where(*over).limit(_PRUNED_TOGETHER)
    if not inbox.database.read(lambda connection: connection.execute(batch).first()):
        return 0
    expired = delete(answers).where(answers.c.id.in_(batch), *over)
    return inbox.database.write(lambda connection: connection.execute(expired).rowcount)


def _prunable(inbox: Inbox, age: timedelta) -> tuple[Any, ...]:
    return (
        _e.blueprint == inbox.blueprint,
        is_(_e.status, EntryStatus.DONE, EntryStatus.SUPERSEDED),
        _e.received_at < inbox.clock() - age,
    )


class Pruner:
    """Prunes by the way, a batch at a time, for whatever delivers."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._pruning = threading.Lock()
        self._next = time.monotonic() + random.SystemRandom().uniform(0, 60)  # not all at once

    def prune_some(self) -> None:
        """Delete a batch, if it is time. Raises ``InboxError``."""
        if time.monotonic() < self._next or not self._pruning.acquire(blocking=False):
            return
        began = time.monotonic()
        try:
            counts = (
                prune_batch(self._inbox, self._inbox.settings.retention),
                prune_results(self._inbox),
            )
            ended = time.monotonic()
            # Those who receive have half of the time for themselves.
            is_more = max(counts) == _PRUNED_TOGETHER
            self._next = ended + (ended - began if is_more else _PRUNE_PAUSE_SECONDS)
        finally:
            self._pruning.release()
