"""What the inbox has, as tests look at it."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select, update

from ..events import Event
from ..inbox import maintenance
from ..inbox.entry import Delivery, Entry, EntryStatus
from ..inbox.maintenance import Query
from ..inbox.schema import entries
from ..inbox.statements import is_
from ..inbox.store import Inbox
from .capture import LISTENERS


class InboxView:
    """What came into a blueprint's inbox since this was made."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        newest = select(func.max(entries.c.id))
        self._known = inbox.database.read(lambda c: c.execute(newest).scalar()) or 0

    def entries(
        self,
        type: str | None = None,  # noqa: A002
        *,
        status: str | None = None,
        call_id: str | None = None,
    ) -> list[Entry]:
        """The entries, of a type, in a status, of a call or chat, or all; the oldest first."""
        query = Query(
            names=[call_id] if call_id else (),
            type=type,
            status=EntryStatus(status) if status else None,
        )
        found = maintenance.search(self._inbox, query)
        return sorted((each for each in found if each.id > self._known), key=lambda each: each.id)

    def statuses(self, *, call_id: str | None = None) -> dict[str, list[str]]:
        """How the entries stand: ``{"call_ended": ["done"]}``, the oldest of a type first."""
        found: dict[str, list[str]] = {}
        for entry in self.entries(call_id=call_id):
            found.setdefault(entry.type, []).append(entry.status.value)
        return found

    def deliveries(self, event: Event | Entry | str) -> list[Delivery]:
        """One record for each receiver of an event (or of all events of a call, by its id):
        ``signal``, ``receiver``, ``status``, ``attempts``, ``error``. Captures are left out."""
        if isinstance(event, Event):
            name = event.id
        else:
            name = event.event_id if isinstance(event, Entry) else event
        records = maintenance.timeline(self._inbox, name)
        return [
            delivery
            for record in records
            for delivery in record.deliveries
            if not delivery.receiver.startswith(LISTENERS)
        ]

    def give_up(self) -> None:
        """Leave what is pending undone, for good."""
        pending = is_(entries.c.status, EntryStatus.PENDING)
        given_up = (
            update(entries)
            .where(entries.c.id > self._known, pending)
            .values(status=EntryStatus.FORGOTTEN.value)
        )
        self._inbox.database.write(lambda c: c.execute(given_up) and None)

    def next_due(self, after: datetime) -> datetime | None:
        """When something that is not done may go on, of what cannot now."""
        wait = self._inbox.settings.order_wait
        is_open = is_(entries.c.status, EntryStatus.PENDING, EntryStatus.RUNNING)
        mine = (entries.c.blueprint == self._inbox.blueprint, is_open)

        def find(connection: Connection) -> list[datetime]:
            found = []
            for moment, later in (
                (entries.c.next_attempt_at, timedelta(0)),
                (entries.c.lease_expires_at, timedelta(0)),
                (entries.c.received_at, wait),
            ):
                first = select(func.min(moment)).where(*mine, moment > after - later)
                if (at := connection.execute(first).scalar()) is not None:
                    found.append(at + later)
            return found

        return min(self._inbox.database.read(find), default=None)
