"""What the inbox holds, as values: entries, their deliveries, and the states of both."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from msgspec.structs import replace

from ..errors import PayloadError
from ..events import Event, parse_event


class EntryStatus(str, Enum):
    """Where an entry stands. All but the first two are final until somebody replays it."""

    PENDING = "pending"  # a receiver has to run, now or at next_attempt_at
    RUNNING = "running"  # leased by a worker
    DONE = "done"  # every receiver ran to success, or there was none
    DEAD = "dead"  # none is pending and one gave up, or failed for the last time
    INVALID = "invalid"  # rightly signed, and no event
    SUPERSEDED = "superseded"  # a snapshot behind which a newer one came
    FORGOTTEN = "forgotten"  # emptied at somebody's wish; kept so that no repeat brings it back


# Final, and not the rule.
ASIDE = (
    EntryStatus.DEAD,
    EntryStatus.INVALID,
    EntryStatus.SUPERSEDED,
    EntryStatus.FORGOTTEN,
)


class DeliveryStatus(str, Enum):
    """Where one receiver of an entry stands."""

    PENDING = "pending"
    DONE = "done"
    DEAD = "dead"


class Stage(int, Enum):
    """The order in which the events of one call or chat are delivered."""

    STARTED = 0
    BETWEEN = 1
    ENDED = 2
    ANALYZED = 3


_STAGES = {
    "call_started": Stage.STARTED,
    "chat_started": Stage.STARTED,
    "call_ended": Stage.ENDED,
    "chat_ended": Stage.ENDED,
    "call_analyzed": Stage.ANALYZED,
    "chat_analyzed": Stage.ANALYZED,
}
_LONGEST_NAME = 200

SNAPSHOT = "transcript_updated"  # the type of which only the newest of a session matters


def stage_of(type_: str) -> Stage:
    """The stage of a call or chat that an event belongs to."""
    return _STAGES.get(type_, Stage.BETWEEN)


def storable(text: str, longest: int = _LONGEST_NAME) -> str:
    """A foreign text as every database takes it: short, no NUL, no surrogates."""
    short = text[:longest].replace("\0", "\ufffd")
    return short.encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class Entry:
    """One row of the inbox. Times are aware UTC; ``body`` is the exact bytes, if kept."""

    id: int
    event_id: str
    blueprint: str
    type: str
    session: str | None
    received_at: datetime
    status: EntryStatus
    next_attempt_at: datetime
    revision: int = 0
    synthetic: bool = False
    lease_expires_at: datetime | None = None
    body: bytes | None = field(default=None, repr=False)

    def event(self) -> Event:
        """Parse the body. Raises ``PayloadError`` where this version cannot."""
        try:
            event = self._parse()
        except PayloadError:
            # What is nested deeply may have been read on a shallower stack than ours.
            with ThreadPoolExecutor(1) as thread:
                event = thread.submit(self._parse).result()
        return replace(event, id=self.event_id, revision=self.revision, synthetic=self.synthetic)

    def _parse(self) -> Event:
        # What is odd in it was said when it came in.
        return parse_event(self.body or b"", received_at=self.received_at, quiet=True)


@dataclass(frozen=True)
class Delivery:
    """One receiver's record for one entry. ``attempts`` counts what was begun."""

    id: int
    entry_id: int
    position: int
    signal: str
    receiver: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str | None = field(default=None, repr=False)


class Target(NamedTuple):
    """A receiver that an entry has to reach. ``once`` is unique for what fires once per call."""

    signal: str
    receiver: str
    once: bytes | None = None


FindTargets = Callable[[Event], Sequence[Target]]


class Receipt(NamedTuple):
    """An event that was received; where there is an inbox, it is committed there."""

    event: Event
    entry_id: int | None = None
    duplicate: bool = False


class Added(NamedTuple):
    """What became of a receipt in the inbox."""

    entry_id: int
    duplicate: bool


class Result(NamedTuple):
    """How one attempt of one delivery ended. A pending one is tried again at ``retry_at``."""

    status: DeliveryStatus
    error: str | None = None
    retry_at: datetime | None = None


@dataclass(eq=False)
class Claim:
    """The right to run the receivers of an entry, as long as the lease is held.

    ``current`` was begun, ``waiting`` follow, ``exhausted`` were found dead: each of their
    attempts ended with the process. ``lost`` says that somebody else may run it now.
    ``event`` is None where the body could not be read, and ``fault`` says why;
    ``is_unheard`` where nobody listens to it.
    """

    entry: Entry
    token: str
    claimed_at: datetime
    event: Event | None = None
    current: Delivery | None = None
    waiting: list[Delivery] = field(default_factory=list)
    exhausted: list[Delivery] = field(default_factory=list)
    lost: bool = False
    is_unheard: bool = False
    fault: Exception | None = None

    @property
    def started_at(self) -> datetime | None:
        """When the delivery that runs was begun."""
        return self.current.started_at if self.current else None

    @property
    def description(self) -> str:
        """What runs, for the log."""
        receiver = self.current.receiver if self.current else "Nothing"
        return f"{receiver} on {self.entry.type} of {self.entry.event_id}"


def once_key(blueprint: str, session: str, signal: str, receiver: str) -> bytes:
    """The digest under which an outcome reaches a receiver once per call."""
    parts = "\0".join((blueprint, storable(session), signal, receiver))
    return hashlib.sha256(parts.encode("utf-8", "replace")).digest()
