"""What becomes of claims and their deliveries, step by step in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from ..errors import PayloadError
from ..settings import Settings
from . import receipts, statements, turns
from .entry import SNAPSHOT, Claim, Delivery, DeliveryStatus, FindTargets, Result
from .rows import find_deliveries, insert_delivery

_DIED = "The process ended while it ran."
_AFTER_A_FAULT = timedelta(minutes=1)


@dataclass(frozen=True)
class Claims:
    """Those of one blueprint."""

    blueprint: str
    settings: Settings

    def open(
        self,
        connection: Connection,
        claim: Claim,
        find_targets: FindTargets,
        *,
        due: datetime | None,
    ) -> None:
        """Write the deliveries of an entry that has none yet, and begin the first that is due.

        Without ``due``, all that are pending are run.
        """
        found = find_deliveries(connection, claim.entry.id)
        try:
            claim.event = claim.entry.event()
            targets = [] if found else find_targets(claim.event)
        except Exception as error:
            _set_aside(connection, claim, error)
            return
        claim.is_unheard = not found and not targets
        for position, target in enumerate(targets):
            insert_delivery(connection, claim.entry.id, position, target, claim.claimed_at)
        self._line_up(connection, claim, due)
        self._step(connection, claim, claim.claimed_at, stop=False)

    def advance(
        self, connection: Connection, claim: Claim, result: Result, now: datetime, *, stop: bool
    ) -> Claim:
        """The claim as it is once the result of ``claim.current`` is recorded."""
        ended = claim.current
        after = replace(claim, current=None, waiting=list(claim.waiting))
        after.lost = not self.extend(connection, claim, now)
        if ended and (not after.lost or result.status is DeliveryStatus.DONE):
            _record(connection, ended, result, now, pending_only=not after.lost)
        if after.lost:
            connection.execute(statements.SETTLE_LEFT, {"entry_id": claim.entry.id})
        else:
            self._step(connection, after, now, stop=stop)
        return after

    def extend(self, connection: Connection, claim: Claim, now: datetime) -> bool:
        """Renew the lease, if it is still held."""
        names = {
            "entry_id": claim.entry.id,
            "token": claim.token,
            "expires": now + self.settings.lease,
        }
        return connection.execute(statements.EXTEND, names).rowcount == 1

    def free_expired(self, connection: Connection, names: dict[str, Any]) -> None:
        """Make pending again what was leased by those who are gone."""
        for swept in connection.execute(turns.SWEEP, names).all():
            self.supersede(connection, swept.type, swept.session)

    def supersede(self, connection: Connection, type_: str, session: str | None) -> None:
        """Free the older ones, if this is a snapshot."""
        if type_ == SNAPSHOT and session and self.settings.transcripts == "latest":
            receipts.supersede(connection, self.blueprint, session)

    def _line_up(self, connection: Connection, claim: Claim, due: datetime | None) -> None:
        """The deliveries that are due: fewest attempts first, so that none waits for another."""
        pending = [
            delivery
            for delivery in find_deliveries(connection, claim.entry.id)
            if delivery.status is DeliveryStatus.PENDING
            and (due is None or delivery.next_attempt_at <= due)
        ]
        for delivery in sorted(pending, key=lambda each: (each.attempts, each.position)):
            if delivery.attempts < self.settings.max_attempts:
                claim.waiting.append(delivery)
            else:
                error = delivery.error if delivery.finished_at else _DIED
                dead = Result(DeliveryStatus.DEAD, error)
                _record(connection, delivery, dead, claim.claimed_at)
                claim.exhausted.append(delivery)

    def _step(self, connection: Connection, claim: Claim, now: datetime, *, stop: bool) -> None:
        """Begin the next delivery that is still pending, or end the claim."""
        while claim.waiting and not stop:
            following = claim.waiting.pop(0)
            names = {"delivery_id": following.id, "now": now}
            attempts = connection.execute(statements.BEGIN, names).scalar()
            if attempts is not None:
                claim.current = replace(following, attempts=attempts, started_at=now)
                return
        settle(connection, claim)
        self.supersede(connection, claim.entry.type, claim.entry.session)


def settle(connection: Connection, claim: Claim) -> None:
    """End the lease, and give the entry the status that its deliveries have."""
    names = {"entry_id": claim.entry.id, "token": claim.token}
    connection.execute(statements.SETTLE_LEASE, names)


def _set_aside(connection: Connection, claim: Claim, fault: Exception) -> None:
    """Whatever is wrong with an entry, it is kept, and in nobody's way."""
    claim.event, claim.fault = None, fault
    if isinstance(fault, PayloadError):  # accepted by another release, or damaged
        connection.execute(statements.MAKE_INVALID, {"entry_id": claim.entry.id})
    else:
        later = {"entry_id": claim.entry.id, "later": claim.claimed_at + _AFTER_A_FAULT}
        connection.execute(statements.POSTPONE, later)


def _record(
    connection: Connection,
    delivery: Delivery,
    result: Result,
    now: datetime,
    *,
    pending_only: bool = True,
) -> None:
    names = {
        "delivery_id": delivery.id,
        "new_status": result.status.value,
        "new_error": result.error,
        "retry_at": result.retry_at or now,
        "now": now,
    }
    connection.execute(statements.RECORD_PENDING if pending_only else statements.RECORD, names)
