"""The inbox of one blueprint: receipts in, claims out, and how each attempt ended.

Every transition is one short transaction of guarded statements. Whoever holds a claim
must call ``advance`` until it returns None.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import IntegrityError

from ..errors import InboxError
from ..events import Event
from ..settings import Settings
from . import receipts, statements, turns
from .claims import Claims, settle
from .database import PATIENCE_SECONDS, Database, Operation
from .entry import (
    SNAPSHOT,
    Added,
    Claim,
    Delivery,
    EntryStatus,
    FindTargets,
    Result,
    storable,
)
from .receipts import NewEntry
from .rows import entry_of
from .schema import agents, entries, messages, pruned
from .silence import patient_for

T = TypeVar("T")

_LONGEST_SECONDS = 30.0  # that anything here is waited for
_FEWEST_TOLD = 500
_SHORTEST_SILENCE = timedelta(seconds=10)
_CLAIM_TRIES = 3
_MOST_AGENTS_KNOWN = 10_000


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Inbox:
    """What one blueprint was sent. All methods raise ``InboxError``."""

    def __init__(
        self,
        database: Database,
        blueprint: str,
        settings: Settings,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.database = database
        self.blueprint = blueprint
        self.settings = settings
        self.clock = clock
        self._trusts_leases_from: datetime | None = None
        self._is_out = False
        self._known_agents: set[str] = set()
        self._claims = Claims(blueprint, settings)

    def check(self) -> None:
        """Raise ``InboxError`` unless the inbox answers in time for a request."""
        with patient_for(PATIENCE_SECONDS):
            self._read(lambda connection: connection.execute(statements.CHECK).first())

    # Receipts

    def add(self, event: Event) -> Added:
        """Commit an event, unless it is there already."""
        new = NewEntry(receipts.of_event(self.blueprint, event))
        with patient_for(PATIENCE_SECONDS):  # for all of it
            entry_id = self._write(self._superseding(new) if event.type == SNAPSHOT else new)
            self._note_agent(event)
            if entry_id is None:
                return self._write(lambda c: receipts.insert_again(c, new.values, event))
        return Added(entry_id, duplicate=False)

    def keep_invalid(self, body: bytes) -> None:
        """Commit a rightly signed body that is no event."""
        with patient_for(PATIENCE_SECONDS):
            self._write(NewEntry(receipts.of_invalid(self.blueprint, body, self.clock())))

    def add_synthetic(self, event: Event, forgotten_with: Iterable[str]) -> Added | None:
        """Commit what a backfill made, unless there is one that was sent.

        None where an event of ``forgotten_with`` is forgotten, and so the call.
        """
        new = NewEntry(receipts.of_event(self.blueprint, event))
        names = {"inbox": self.blueprint, "event_ids": list(forgotten_with)}

        def operation(connection: Connection) -> Added | None:
            entry_id = new(connection)
            if entry_id is None:
                return receipts.insert_again(connection, new.values, event)
            # Now, and under a lock: whoever forgets the call from here on finds this one, too.
            if connection.execute(statements.FIND_FORGOTTEN, names).first() is None:
                return Added(entry_id, duplicate=False)
            connection.execute(delete(entries).where(entries.c.id == entry_id))
            return None

        return self._write(operation)

    def agents(self) -> list[str]:
        """The ids of the agents whose calls or chats were heard of."""
        mine = agents.c.blueprint == self.blueprint
        statement = select(agents.c.agent_id).where(mine).order_by(agents.c.agent_id)
        return self._read(lambda connection: list(connection.execute(statement).scalars()))

    def find_statuses(self, event_ids: Iterable[str]) -> dict[str, EntryStatus]:
        """The statuses of those of these events that are here, forgotten ones included."""
        names = {"inbox": self.blueprint, "event_ids": list(event_ids)}

        def operation(connection: Connection) -> dict[str, EntryStatus]:
            rows = connection.execute(statements.FIND_STATUSES, names)
            return {event_id: EntryStatus(status) for event_id, status in rows}

        return self._read(operation)

    def pruned_until(self) -> datetime | None:
        """When the newest of the entries that were deleted had been received."""
        mine = select(pruned.c.received_until).where(pruned.c.blueprint == self.blueprint)
        return self._read(lambda connection: connection.execute(mine).scalar())

    def _note_agent(self, event: Event) -> None:
        """Once in each process, for a backfill; if it fails, the next event does it."""
        agent_id = getattr(event.call or event.chat, "agent_id", None)
        if not agent_id or agent_id in self._known_agents:
            return
        names = {"blueprint": self.blueprint, "agent_id": storable(agent_id)}
        insert = statements.INSERT_AGENT[self.database.dialect]
        with suppress(InboxError):
            self._write(lambda connection: connection.execute(insert, names) and None)
            if len(self._known_agents) < _MOST_AGENTS_KNOWN:
                self._known_agents.add(agent_id)

    def _superseding(self, new: NewEntry) -> Operation[int | None]:
        def operation(connection: Connection) -> int | None:
            entry_id = new(connection)
            if entry_id is not None:
                self._claims.supersede(connection, new.values["type"], new.values["session"])
            return entry_id

        return operation

    # Claims

    def claim_due(self, find_targets: FindTargets) -> Claim | None:
        """Lease the next entry that is due and not waiting for its turn; None if there is none.

        The first claim of an entry writes a delivery for each of the receivers that
        ``find_targets`` names: these are the entry's for good.
        """
        now = self.clock()
        names = {"inbox": self.blueprint, "now": now}
        pending, expired = self._read(
            lambda connection: connection.execute(turns.IS_ANYTHING_DUE, names).one()
        )
        if not pending and not (expired and (self._is_out or self._trusts_leases(now))):
            return None
        return self._claim(turns.TAKE_DUE, {}, find_targets, sweep=expired, with_backoff=True)

    def claim_due_entry(
        self, entry_id: int, find_targets: FindTargets, as_of: datetime | None = None
    ) -> Claim | None:
        """Lease this entry, if it is due and it is its turn: now, or ``as_of`` the clock of a host
        that said so.
        """
        names = {"entry_id": entry_id}
        return self._claim(
            turns.TAKE_DUE_ENTRY,
            names,
            find_targets,
            sweep=True,
            with_backoff=True,
            as_of=as_of,
        )

    def claim_entry(self, entry_id: int, find_targets: FindTargets) -> Claim | EntryStatus:
        """Lease this entry and run all that is pending, without order and backoff.

        The entry's status where that cannot be; ``PENDING`` where another entry of its
        call or chat runs.
        """
        names = {"entry_id": entry_id}
        claim = self._claim(turns.TAKE_ENTRY, names, find_targets, sweep=True, with_backoff=False)
        return claim or self._read(lambda connection: _status(connection, entry_id))

    def _claim(
        self,
        take: Any,
        names: dict[str, Any],
        find_targets: FindTargets,
        *,
        sweep: bool,
        with_backoff: bool,
        as_of: datetime | None = None,
    ) -> Claim | None:
        token = secrets.token_hex(16)

        def operation(connection: Connection) -> Claim | None:
            now = self.clock()  # not before it is our turn to write
            due = max(now, as_of or now)
            values = {
                **names,
                **self._at(due),
                "token": token,
                "expires": now + self.settings.lease,
            }
            if self._is_out:
                connection.execute(statements.PROBE)
            elif sweep:
                self._free_expired(connection, values)
            try:
                row = connection.execute(take, values).one_or_none()
            except IntegrityError:
                raise _SessionRuns from None
            if row is None:
                return None
            claim = Claim(entry_of(row), token, now)
            limit = due if with_backoff else None
            self._claims.open(connection, claim, find_targets, due=limit)
            return claim

        for _ in range(_CLAIM_TRIES):
            try:
                was_out = self._is_out
                claim = self._write(operation)
                self._end_outage(was_out)
                return claim
            except _SessionRuns:
                continue  # another worker took an entry of the same call: look again
        return None

    def _free_expired(self, connection: Connection, names: dict[str, Any]) -> None:
        if not self._is_out and self._trusts_leases(names["now"]):
            self._claims.free_expired(connection, names)

    def _at(self, now: datetime) -> dict[str, Any]:
        return {
            "inbox": self.blueprint,
            "now": now,
            "ordered_since": now - self.settings.order_wait,
        }

    # Progress

    def advance(self, claim: Claim, result: Result, *, stop: bool = False) -> Delivery | None:
        """Record how ``claim.current`` ended, and begin the next delivery, which is returned.

        None where the claim is over: nothing is left to run now, or ``stop`` gives the rest
        back, or the lease was lost. That a receiver finished is recorded all the same.
        """
        if claim.current is None:
            return None

        def operation(connection: Connection) -> Claim:
            return self._claims.advance(connection, claim, result, self.clock(), stop=stop)

        after = self._write(operation)
        claim.current, claim.waiting = after.current, after.waiting
        claim.lost = claim.lost or after.lost
        return claim.current

    def release(self, claim: Claim) -> None:
        """Give a claim back without a result; the attempt in flight stays counted."""
        self._write(lambda connection: settle(connection, claim))
        claim.current = None

    def extend(self, claims: Iterable[Claim]) -> None:
        """Renew the leases of claims; those that somebody else has by now are marked lost."""
        held = list(claims)

        def operation(connection: Connection) -> list[bool]:
            now = self.clock()
            return [self._claims.extend(connection, claim, now) for claim in held]

        for claim, is_held in zip(held, self._write(operation), strict=True):
            claim.lost = not is_held

    # What a cluster is told

    def mark_unsent(self, most: int) -> list[int]:
        """The entries that could be leased now and of which no worker was told, or not in a
        lease's time; they count as told from here on. What expired is freed first.

        A receipt counts as told for the time that an event waits for its turn, and at most for a
        lease.

        As many wait for workers as these got through in a lease's time, or 500: more would only
        be told again and again.
        """
        now = self.clock()
        names = {
            **self._at(now),
            "lost_before": now - self.settings.lease,
            "unheard_since": now - max(self.settings.order_wait, _SHORTEST_SILENCE),
        }

        def operation(connection: Connection) -> list[int]:
            self._free_expired(connection, names)
            told, waiting = connection.execute(turns.COUNT_SENT, names).one()
            room = max(_FEWEST_TOLD, told - waiting) - waiting
            if room <= 0:
                return []
            mark = turns.MARK_SENT[connection.dialect.name]
            return list(connection.execute(mark, {**names, "most": min(most, room)}).scalars())

        was_out = self._is_out
        marked = self._write(operation)
        self._end_outage(was_out)
        return marked

    def unmark(self, entry_ids: Sequence[int]) -> None:
        """Take back that a cluster was told of these."""
        of_these = select(messages.c.entry_id).where(messages.c.entry_id.in_(entry_ids))
        locked = of_these.order_by(messages.c.entry_id).with_for_update()
        taken_back = delete(messages).where(messages.c.entry_id.in_(locked))
        self._write(lambda connection: connection.execute(taken_back))

    def find_next(self, session: str) -> int | None:
        """The entry of a call or chat that could be leased now."""
        names = {**self._at(self.clock()), "of_session": session}
        found = self._read(lambda c: c.execute(turns.FIND_NEXT_OF_SESSION, names).scalar())
        return None if found is None else int(found)

    def has_entry(self, entry_id: int) -> bool:
        """Whether there is an entry of this id, of whatever status."""
        mine = select(entries.c.id).where(
            entries.c.id == entry_id, entries.c.blueprint == self.blueprint
        )
        return self._read(lambda connection: connection.execute(mine).first() is not None)

    # What an outage does to leases

    def _end_outage(self, was_out: bool) -> None:
        """A transaction went through."""
        if was_out:
            self._is_out = False
            self._trusts_leases_from = self.clock() + self.settings.lease / 2

    def _trusts_leases(self, now: datetime) -> bool:
        """Once an outage is over, those who are alive first get time to renew theirs."""
        return self._trusts_leases_from is None or now >= self._trusts_leases_from

    def _read(self, operation: Operation[T]) -> T:
        return self._noticing_outages(self.database.read, operation)

    def _write(self, operation: Operation[T]) -> T:
        return self._noticing_outages(self.database.write, operation)

    def _noticing_outages(self, run: Callable[[Operation[T]], T], operation: Operation[T]) -> T:
        try:
            with patient_for(_LONGEST_SECONDS):
                return run(operation)
        except InboxError:
            self._is_out = True
            raise


class _SessionRuns(Exception):
    """Another entry of the session was leased at the same moment."""


def _status(connection: Connection, entry_id: int) -> EntryStatus:
    return EntryStatus(
        connection.execute(select(entries.c.status).where(entries.c.id == entry_id)).scalar_one()
    )
