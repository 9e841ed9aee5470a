"""What people ask of an inbox: look, count and forget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Select,
    delete,
    func,
    literal_column,
    null,
    select,
    union_all,
    update,
)

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
from .schema import answers, deliveries, entries
from .statements import BODY, DETAILS, is_
from .store import Inbox

_e, _d = entries.c, deliveries.c

# What is left of the others' deliveries is never run again.
_CAN_RUN = ~is_(_e.status, EntryStatus.FORGOTTEN, EntryStatus.SUPERSEDED)
# Whose event ids are made of the call's, and so can be looked for without their bodies.
_TELLING = {"call_started", "call_ended", "call_analyzed", "chat_started", "chat_ended"}


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
