"""Whose turn it is: what may be leased now, and what a cluster has to be told of.

States are literals in these statements, since partial indexes do not serve parameters.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Insert,
    Select,
    Update,
    and_,
    bindparam,
    case,
    exists,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from .entry import EntryStatus, Stage
from .schema import entries, messages
from .statements import BODY, DETAILS, at, is_

_e = entries.c
_other = entries.alias("other")
_o = _other.c
_candidate = entries.alias("candidate")

_MOST_SWEPT = 20


def _is_anything_due() -> Select[bool, bool]:
    """Whether an entry is due, and whether a lease has run out."""
    pending = exists().where(
        _e.blueprint == bindparam("inbox"),
        is_(_e.status, EntryStatus.PENDING),
        _e.next_attempt_at <= at("now"),
    )
    expired = exists().where(
        _e.blueprint == bindparam("inbox"),
        is_(_e.status, EntryStatus.RUNNING),
        _e.lease_expires_at <= at("now"),
    )
    return select(pending.label("pending"), expired.label("expired"))


def _sweep() -> Update:
    """Make pending again what was leased by somebody who is gone."""
    expired = (
        select(_o.id)
        .where(
            _o.blueprint == bindparam("inbox"),
            is_(_o.status, EntryStatus.RUNNING),
            _o.lease_expires_at <= at("now"),
        )
        .order_by(_o.lease_expires_at)
        .limit(_MOST_SWEPT)
        .with_for_update(skip_locked=True)
    )
    return (
        update(entries)
        .where(_e.id.in_(expired))
        .values(
            status=EntryStatus.PENDING.value,
            next_attempt_at=at("now"),
            lease_token=null(),
            lease_expires_at=null(),
        )
        .returning(_e.type, _e.session)
    )


def _take_due(*guards: Any, by_any_clock: bool = False, skip_locked: bool = True) -> Update:
    """Lease the entry that is due the longest and has to wait for no other."""
    c = _candidate.c
    first = (
        select(c.id)
        .where(*_runnable(by_any_clock=by_any_clock), *guards)
        .order_by(c.next_attempt_at, c.id)
        .limit(1)
        .with_for_update(skip_locked=skip_locked, of=_candidate)
        .scalar_subquery()
    )
    return _take().where(_e.id == first)


def _take_entry() -> Update:
    """Lease one entry, whatever its turn, unless its session is running."""
    runs = exists().where(
        _o.blueprint == _e.blueprint,
        _o.session == _e.session,
        is_(_o.status, EntryStatus.RUNNING),
    )
    return _take().where(
        _e.id == bindparam("entry_id"), is_(_e.status, EntryStatus.PENDING), ~runs
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


def _runnable(*, by_any_clock: bool = False) -> list[ColumnElement[bool]]:
    """What is due, and has to wait for no other.

    ``by_any_clock``: what was never tried is due however late this host's clock is.
    """
    c = _candidate.c
    is_due = _is_due(c, by_any_clock=by_any_clock)
    in_session = and_(_o.blueprint == c.blueprint, _o.session == c.session, _o.id != c.id)
    runs = exists().where(in_session, is_(_o.status, EntryStatus.RUNNING))
    # What can be run now goes first however long the others waited; what cannot be run yet
    # holds them up until their wait is over. One condition for both: by itself the first would
    # lead PostgreSQL to look through all that is due.
    has_waited = c.received_at <= at("ordered_since")
    earlier = exists().where(
        in_session,
        is_(_o.status, EntryStatus.PENDING, EntryStatus.RUNNING),
        _comes_before(_o, c),
        or_(~has_waited, _o.next_attempt_at <= at("now")),
    )
    has_ended = exists().where(in_session, _o.stage == Stage.ENDED.value)
    may_run = or_(
        c.session.is_(None),
        and_(
            ~runs,
            ~earlier,
            or_(has_waited, c.stage != Stage.ANALYZED.value, has_ended),
        ),
    )
    return [
        c.blueprint == bindparam("inbox"),
        is_(c.status, EntryStatus.PENDING),
        is_due,
        may_run,
    ]


def _is_due(c: Any, *, by_any_clock: bool) -> ColumnElement[bool]:
    is_due: ColumnElement[bool] = c.next_attempt_at <= at("now")
    return or_(is_due, c.next_attempt_at == c.received_at) if by_any_clock else is_due


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


def _mark_sent(dialect: Any) -> Insert:
    """Note that a message is sent for what could be leased now and has none, and return it.

    The receipt counts as the first message, but for what was to wait longer: a retry that is
    due, and an event that has waited for its turn by now.
    """
    c, sent_at = _candidate.c, messages.c.sent_at
    is_unsent = and_(
        sent_at.is_(None),
        or_(
            c.next_attempt_at > c.received_at,
            c.received_at <= at("unheard_since"),
            c.received_at <= at("lost_before"),
        ),
    )
    was_sent_too_early = or_(sent_at < c.next_attempt_at, sent_at <= at("lost_before"))
    found = (
        select(c.id, at("now").label("sent_at"))
        .select_from(_candidate.outerjoin(messages, messages.c.entry_id == c.id))
        .where(*_runnable(by_any_clock=True), or_(is_unsent, was_sent_too_early))
        .order_by(c.next_attempt_at, c.id)
        .limit(bindparam("most"))
        .subquery()
    )
    # In one order for all: two sweeps that marked the same would wait for each other.
    in_order = select(found.c.id, found.c.sent_at).order_by(found.c.id)
    insert: Any = dialect.insert(messages).from_select(["entry_id", "sent_at"], in_order)
    marked: Insert = insert.on_conflict_do_update(
        index_elements=["entry_id"], set_={"sent_at": insert.excluded.sent_at}
    ).returning(messages.c.entry_id)
    return marked


def _count_sent() -> Select[int, int]:
    """How much a cluster was told of in a lease's time, and how much of that waits for it."""
    waits = and_(is_(_e.status, EntryStatus.PENDING), _e.next_attempt_at <= messages.c.sent_at)
    return (
        select(func.count(), func.count(case((waits, 1))))
        .select_from(entries.join(messages, messages.c.entry_id == _e.id))
        .where(_e.blueprint == bindparam("inbox"), messages.c.sent_at > at("lost_before"))
    )


def _find_next_of_session() -> Select[int]:
    """The entry of a call or chat that could be leased now.

    Only the first that is due is looked at, since it holds up whatever comes after it.
    """
    first = (
        select(_o.id)
        .where(
            _o.blueprint == bindparam("inbox"),
            _o.session == bindparam("of_session"),
            is_(_o.status, EntryStatus.PENDING),
            _is_due(_o, by_any_clock=True),
        )
        .order_by(_o.stage, func.coalesce(_o.revises, _o.id), _o.id)
        .limit(1)
        .scalar_subquery()
    )
    return select(_candidate.c.id).where(*_runnable(by_any_clock=True), _candidate.c.id == first)


IS_ANYTHING_DUE = _is_anything_due()
SWEEP = _sweep()
TAKE_DUE = _take_due()
# Whoever locks the one that is asked for does not do so for long: a repeat of Retell's, say.
TAKE_DUE_ENTRY = _take_due(
    _candidate.c.id == bindparam("entry_id"), by_any_clock=True, skip_locked=False
)
TAKE_ENTRY = _take_entry()
MARK_SENT = {
    name: _mark_sent(dialect) for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}
COUNT_SENT = _count_sent()
FIND_NEXT_OF_SESSION = _find_next_of_session()
