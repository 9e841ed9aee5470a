"""The statements that move an entry, each guarded by what it expects to find.

States are literals in them, since partial indexes do not serve parameters.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Insert,
    Select,
    Table,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from .entry import SNAPSHOT, DeliveryStatus, EntryStatus, Stage
from .schema import Moment, deliveries, entries, schema_version

e, d = entries.c, deliveries.c
other = entries.alias("other")
o = other.c

_UNFINISHED = (EntryStatus.PENDING, EntryStatus.RUNNING)
_MOST_SWEPT = 20

DETAILS = (
    e.id,
    e.event_id,
    e.blueprint,
    e.type,
    e.session,
    e.received_at,
    e.status,
    e.next_attempt_at,
    e.revision,
    e.synthetic,
    e.lease_expires_at,
)
BODY = (e.compressed, e.body)


def literal(status: Enum) -> ColumnElement[str]:
    """A state as part of the statement's text."""
    return literal_column(f"'{status.value}'")


def is_(column: Any, *states: Enum) -> ColumnElement[bool]:
    """Whether a status column is one of ``states``."""
    if len(states) == 1:
        return column == literal(states[0])  # type: ignore[no-any-return]
    return column.in_([literal(state) for state in states])  # type: ignore[no-any-return]


def at(name: str) -> Any:
    """A parameter that is a moment."""
    return bindparam(name, type_=Moment)


def _insert_unless_there(table: Table, *unique: str) -> dict[str, Insert]:
    """By dialect: an insert that leaves alone what is there, and returns the new row's id."""
    return {
        "sqlite": sqlite.insert(table)
        .on_conflict_do_nothing(index_elements=list(unique))
        .returning(table.c.id),
        "postgresql": postgresql.insert(table)
        .on_conflict_do_nothing(index_elements=list(unique))
        .returning(table.c.id),
    }


def _find_same() -> Select[Any]:
    """The entry of an event id, locked."""
    return (
        select(*DETAILS, e.revises, *BODY)
        .where(e.blueprint == bindparam("inbox"), e.event_id == bindparam("event_id"))
        .with_for_update()
    )


def _supersede() -> Update:
    """Free the snapshots of a session that wait behind a newer one."""
    newer = exists().where(
        o.blueprint == e.blueprint,
        o.session == e.session,
        o.type == e.type,
        o.id > e.id,
        ~is_(o.status, EntryStatus.INVALID),
    )
    return (
        update(entries)
        .where(
            e.blueprint == bindparam("inbox"),
            e.session == bindparam("of_session"),
            e.type == SNAPSHOT,
            is_(e.status, EntryStatus.PENDING),
            newer,
        )
        .values(status=EntryStatus.SUPERSEDED.value, compressed=False, body=null())
        .returning(e.id)
    )


def _is_anything_due() -> Select[bool, bool]:
    """Whether an entry is due, and whether a lease has run out."""
    pending = exists().where(
        e.blueprint == bindparam("inbox"),
        is_(e.status, EntryStatus.PENDING),
        e.next_attempt_at <= at("now"),
    )
    expired = exists().where(
        e.blueprint == bindparam("inbox"),
        is_(e.status, EntryStatus.RUNNING),
        e.lease_expires_at <= at("now"),
    )
    return select(pending.label("pending"), expired.label("expired"))


def _sweep() -> Update:
    """Make pending again what was leased by somebody who is gone."""
    expired = (
        select(o.id)
        .where(
            o.blueprint == bindparam("inbox"),
            is_(o.status, EntryStatus.RUNNING),
            o.lease_expires_at <= at("now"),
        )
        .order_by(o.lease_expires_at)
        .limit(_MOST_SWEPT)
        .with_for_update(skip_locked=True)
    )
    return (
        update(entries)
        .where(e.id.in_(expired))
        .values(
            status=EntryStatus.PENDING.value,
            next_attempt_at=at("now"),
            lease_token=null(),
            lease_expires_at=null(),
        )
    )


def _take() -> Update:
    return (
        update(entries)
        .values(
            status=EntryStatus.RUNNING.value,
            lease_token=bindparam("token"),
            lease_expires_at=at("expires"),
        )
        .returning(*DETAILS, *BODY)
    )


def _take_due() -> Update:
    """Lease the entry that is due the longest and has to wait for no other."""
    candidate = entries.alias("candidate")
    c = candidate.c
    in_session = and_(o.blueprint == c.blueprint, o.session == c.session, o.id != c.id)
    runs = exists().where(in_session, is_(o.status, EntryStatus.RUNNING))
    earlier = exists().where(in_session, is_(o.status, *_UNFINISHED), _comes_before(o, c))
    has_ended = exists().where(in_session, o.stage == Stage.ENDED.value)
    may_run = or_(
        c.session.is_(None),
        and_(
            ~runs,
            or_(
                c.received_at <= at("ordered_since"),
                and_(~earlier, or_(c.stage != Stage.ANALYZED.value, has_ended)),
            ),
        ),
    )
    first = (
        select(c.id)
        .where(
            c.blueprint == bindparam("inbox"),
            is_(c.status, EntryStatus.PENDING),
            c.next_attempt_at <= at("now"),
            may_run,
        )
        .order_by(c.next_attempt_at, c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=candidate)
        .scalar_subquery()
    )
    return _take().where(e.id == first, is_(e.status, EntryStatus.PENDING))


def _comes_before(one: Any, another: Any) -> ColumnElement[bool]:
    """By stage, then by arrival; a revision right after what it revises."""
    place, other_place = (
        func.coalesce(one.revises, one.id),
        func.coalesce(another.revises, another.id),
    )
    return or_(
        one.stage < another.stage,
        and_(
            one.stage == another.stage,
            or_(place < other_place, and_(place == other_place, one.id < another.id)),
        ),
    )


def _take_entry() -> Update:
    """Lease one entry, whatever its turn, unless its session is running."""
    runs = exists().where(
        o.blueprint == e.blueprint,
        o.session == e.session,
        is_(o.status, EntryStatus.RUNNING),
    )
    return _take().where(e.id == bindparam("entry_id"), is_(e.status, EntryStatus.PENDING), ~runs)


def _extend() -> Update:
    """Renew a lease that is still held."""
    return (
        update(entries)
        .where(e.id == bindparam("entry_id"), e.lease_token == bindparam("token"))
        .values(lease_expires_at=at("expires"))
    )


def _begin() -> Update:
    """Count an attempt before it is made."""
    return (
        update(deliveries)
        .where(d.id == bindparam("delivery_id"), is_(d.status, DeliveryStatus.PENDING))
        .values(attempts=d.attempts + 1, started_at=at("now"), finished_at=null())
        .returning(d.attempts)
    )


def _record(*, pending_only: bool) -> Update:
    """Write how an attempt ended."""
    statement = (
        update(deliveries)
        .where(d.id == bindparam("delivery_id"))
        .values(
            status=bindparam("new_status"),
            error=bindparam("new_error"),
            next_attempt_at=at("retry_at"),
            finished_at=at("now"),
        )
    )
    return statement.where(is_(d.status, DeliveryStatus.PENDING)) if pending_only else statement


def _settle(*guards: ColumnElement[bool]) -> Update:
    """Give an entry the status that its deliveries add up to, and end its lease."""

    def one(status: DeliveryStatus) -> Any:
        return exists().where(d.entry_id == e.id, is_(d.status, status))

    first_due = (
        select(func.min(d.next_attempt_at))
        .where(d.entry_id == e.id, is_(d.status, DeliveryStatus.PENDING))
        .scalar_subquery()
    )
    return (
        update(entries)
        .where(e.id == bindparam("entry_id"), *guards)
        .values(
            status=case(
                (one(DeliveryStatus.PENDING), literal(EntryStatus.PENDING)),
                (one(DeliveryStatus.DEAD), literal(EntryStatus.DEAD)),
                else_=literal(EntryStatus.DONE),
            ),
            next_attempt_at=func.coalesce(first_due, e.next_attempt_at),
            lease_token=null(),
            lease_expires_at=null(),
        )
    )


def _make_invalid() -> Update:
    """Keep an entry that this release cannot read."""
    return (
        update(entries)
        .where(e.id == bindparam("entry_id"))
        .values(status=EntryStatus.INVALID.value, lease_token=null(), lease_expires_at=null())
    )


def _find_deliveries() -> Select[Any]:
    """The deliveries of an entry, in order."""
    columns = [column for column in d if column.name != "once"]
    return select(*columns).where(d.entry_id == bindparam("entry_id")).order_by(d.position)


def _count_revisions() -> Select[Any]:
    """How many later versions a first one has."""
    # The session is an index; of a first version without one there are no revisions.
    same = (e.blueprint == o.blueprint, e.session == o.session)
    return (
        select(func.count())
        .select_from(entries.join(other, and_(*same)))
        .where(o.id == bindparam("first"), e.revises == o.id)
    )


CHECK = select(schema_version.c.version)
INSERT_ENTRY = _insert_unless_there(entries, "blueprint", "event_id")
INSERT_DELIVERY = _insert_unless_there(deliveries, "once")
DIALECTS = tuple(INSERT_ENTRY)
FIND_SAME = _find_same()
SUPERSEDE = _supersede()
IS_ANYTHING_DUE = _is_anything_due()
SWEEP = _sweep()
TAKE_DUE = _take_due()
TAKE_ENTRY = _take_entry()
EXTEND = _extend()
BEGIN = _begin()
MAKE_INVALID = _make_invalid()
FIND_DELIVERIES = _find_deliveries()
COUNT_REVISIONS = _count_revisions()
RECORD = _record(pending_only=False)
RECORD_PENDING = _record(pending_only=True)
SETTLE_LEASE = _settle(e.lease_token == bindparam("token"))
SETTLE_LEFT = _settle(is_(e.status, EntryStatus.PENDING, EntryStatus.DEAD))
