"""A clock that stands still, for the inbox of one blueprint."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from .. import values
from ..inbox.store import Inbox

Span = timedelta | str | float


class FrozenClock:
    """Once it is frozen, the inbox's time moves only as it is told to.

    That is the time of receipts, retries, leases and waits for order. Signatures keep to the
    clock of the machine.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._real = inbox.clock
        self._now: datetime | None = None

    @property
    def now(self) -> datetime:
        """The inbox's time, aware UTC."""
        return self._now or self._inbox.clock()

    def moment(self, when: datetime | Span) -> datetime:
        """An aware datetime as it is, or so far from now. Raises ``ValueError`` for others."""
        if not isinstance(when, datetime):
            try:
                return self.now + values.duration_or_zero(when)
            except ValueError as error:
                raise ValueError(f"A span of the clock {error}") from None
        if when.tzinfo is None:
            raise ValueError("The clock needs an aware datetime, such as one with tzinfo=UTC.")
        return when.astimezone(timezone.utc)

    def freeze(self, at: datetime | None = None) -> datetime:
        """Stand still: now, or at an aware datetime; the time that it is from here on."""
        if self._now is None:
            self._real = self._inbox.clock
        self._now = self.now if at is None else self.moment(at)
        self._inbox.clock = lambda: self.now
        return self._now

    def move(self, by: Span) -> datetime:
        """Go on by a span (``"90s"``, ``"24h"``, a timedelta or seconds), frozen from here on."""
        return self.freeze(self.moment(by))

    def thaw(self) -> None:
        """Go with the clock again that there was before it was frozen here."""
        if self._now is not None:
            self._now = None
            self._inbox.clock = self._real
