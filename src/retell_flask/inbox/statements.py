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
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from .entry import SNAPSHOT, DeliveryStatus, EntryStatus
from .schema import Moment, agents, deliveries, entries, schema_version

_e, _d = entries.c, deliveries.c
_other = entries.alias("other")
_o = _other.c

DETAILS = (
    _e.id,
    _e.event_id,
    _e.blueprint,
    _e.type,
    _e.session,
    _e.received_at,
    _e.status,
    _e.next_attempt_at,
    _e.revision,
    _e.synthetic,
    _e.lease_expires_at,
)
BODY = (_e.compressed, _e.body)


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
    """By dialect: an insert that leaves alone what is there."""
    return {
        name: dialect.insert(table).on_conflict_do_nothing(index_elements=list(unique))
        for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
    }


def _returning_id(inserts: dict[str, Insert], table: Table) -> dict[str, Insert]:
    return {name: insert.returning(table.c.id) for name, insert in inserts.items()}


def _find_same() -> Select[Any]:
    """The entry of an event id, locked."""
    return (
        select(_e.id, _e.synthetic, *BODY)
        .where(_e.blueprint == bindparam("inbox"), _e.event_id == bindparam("event_id"))
        .with_for_update()
    )


def _find_statuses() -> Select[Any]:
    """Those of some event ids that are there."""
    wanted: Any = bindparam("event_ids", expanding=True)
    return select(_e.event_id, _e.status).where(
        _e.blueprint == bindparam("inbox"), _e.event_id.in_(wanted)
    )


def _find_forgotten() -> Select[Any]:
    """Which of some events are forgotten; all that are there are locked."""
    wanted: Any = bindparam("event_ids", expanding=True)
    there = (
        select(_e.status)
        .where(_e.blueprint == bindparam("inbox"), _e.event_id.in_(wanted))
        .with_for_update()
        .cte("there")
    )
    return select(there.c.status).where(there.c.status == literal(EntryStatus.FORGOTTEN))


def _replace_synthetic() -> Update:
    """Put what was really sent in the place of what a backfill had made."""
    return (
        update(entries)
        .where(_e.id == bindparam("entry_id"), _e.synthetic)
        .values(
            synthetic=False,
            compressed=bindparam("new_compressed"),
            body=bindparam("new_body"),
        )
    )


def _supersede() -> Update:
    """Free the snapshots of a session that wait behind a newer one."""
    newer = exists().where(
        _o.blueprint == _e.blueprint,
        _o.session == _e.session,
        _o.type == _e.type,
        _o.id > _e.id,
        ~is_(_o.status, EntryStatus.INVALID),
    )
    return (
        update(entries)
        .where(
            _e.blueprint == bindparam("inbox"),
            _e.session == bindparam("of_session"),
            _e.type == SNAPSHOT,
            is_(_e.status, EntryStatus.PENDING),
            newer,
        )
        .values(status=EntryStatus.SUPERSEDED.value, compressed=False, body=null())
        .returning(_e.id)
    )


def _extend() -> Update:
    """Renew a lease that is still held."""
    return (
        update(entries)
        .where(_e.id == bindparam("entry_id"), _e.lease_token == bindparam("token"))
        .values(lease_expires_at=at("expires"))
    )


def _begin() -> Update:
    """Count an attempt before it is made."""
    return (
        update(deliveries)
        .where(_d.id == bindparam("delivery_id"), is_(_d.status, DeliveryStatus.PENDING))
        .values(attempts=_d.attempts + 1, started_at=at("now"), finished_at=null())
        .returning(_d.attempts)
    )


def _record(*, pending_only: bool) -> Update:
    """Write how an attempt ended."""
    statement = (
        update(deliveries)
        .where(_d.id == bindparam("delivery_id"))
        .values(
            status=bindparam("new_status"),
            error=bindparam("new_error"),
            next_attempt_at=at("retry_at"),
            finished_at=at("now"),
        )
    )
    return statement.where(is_(_d.status, DeliveryStatus.PENDING)) if pending_only else statement


def _settle(*guards: ColumnElement[bool]) -> Update:
    """Give an entry the status that its deliveries add up to, and end its lease."""
    # Counted, and not looked for by their status: that would lead PostgreSQL through the index of
    # what is unfinished, with all that others left in it.
    of_entry = _d.entry_id == _e.id

    def has(status: DeliveryStatus) -> ColumnElement[bool]:
        return func.count(case((is_(_d.status, status), 1))) > 0

    outcome = select(
        case(
            (has(DeliveryStatus.PENDING), literal(EntryStatus.PENDING)),
            (has(DeliveryStatus.DEAD), literal(EntryStatus.DEAD)),
            else_=literal(EntryStatus.DONE),
        )
    ).where(of_entry)
    due_at = case((is_(_d.status, DeliveryStatus.PENDING), _d.next_attempt_at))
    first_due = select(func.min(due_at)).where(of_entry)
    return (
        update(entries)
        .where(_e.id == bindparam("entry_id"), *guards)
        .values(
            status=outcome.scalar_subquery(),
            next_attempt_at=func.coalesce(first_due.scalar_subquery(), _e.next_attempt_at),
            lease_token=null(),
            lease_expires_at=null(),
        )
    )


def _make_invalid() -> Update:
    """Keep an entry that this release cannot read."""
    return (
        update(entries)
        .where(_e.id == bindparam("entry_id"))
        .values(status=EntryStatus.INVALID.value, lease_token=null(), lease_expires_at=null())
    )


def _postpone() -> Update:
    """Give an entry back for later, whatever its deliveries are."""
    return (
        update(entries)
        .where(_e.id == bindparam("entry_id"))
        .values(
            status=EntryStatus.PENDING.value,
            next_attempt_at=at("later"),
            lease_token=null(),
            lease_expires_at=null(),
        )
    )


def _find_deliveries() -> Select[Any]:
    """The deliveries of an entry, in order."""
    columns = [column for column in _d if column.name != "once"]
    return select(*columns).where(_d.entry_id == bindparam("entry_id")).order_by(_d.position)


def _count_revisions() -> Select[Any]:
    """How many later versions a first one has."""
    # The session is an index; of a first version without one there are no revisions.
    same = (_e.blueprint == _o.blueprint, _e.session == _o.session)
    return (
        select(func.count())
        .select_from(entries.join(_other, and_(*same)))
        .where(_o.id == bindparam("first"), _e.revises == _o.id)
    )


CHECK = select(schema_version.c.version)
_new_entry = _insert_unless_there(entries, "blueprint", "event_id")
INSERT_ENTRIES = _new_entry["sqlite"]  # for the driver, which tells the last id unasked
INSERT_ENTRY = _returning_id(_new_entry, entries)
INSERT_DELIVERY = _returning_id(_insert_unless_there(deliveries, "once"), deliveries)
DIALECTS = tuple(INSERT_ENTRY)
INSERT_AGENT = _insert_unless_there(agents, "blueprint", "agent_id")
FIND_SAME = _find_same()
FIND_STATUSES = _find_statuses()
FIND_FORGOTTEN = _find_forgotten()
REPLACE_SYNTHETIC = _replace_synthetic()
SUPERSEDE = _supersede()
EXTEND = _extend()
BEGIN = _begin()
MAKE_INVALID = _make_invalid()
POSTPONE = _postpone()
# A full disk takes a transaction that changes nothing: this one dirties a page.
PROBE = update(schema_version).values(version=schema_version.c.version)
FIND_DELIVERIES = _find_deliveries()
COUNT_REVISIONS = _count_revisions()
RECORD = _record(pending_only=False)
RECORD_PENDING = _record(pending_only=True)
SETTLE_LEASE = _settle(_e.lease_token == bindparam("token"))
SETTLE_LEFT = _settle(is_(_e.status, EntryStatus.PENDING, EntryStatus.DEAD))
