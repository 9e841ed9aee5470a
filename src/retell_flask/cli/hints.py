"""Known troubles of a call: how each shows in the inbox, and what to check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from ..errors import PayloadError
from ..events import Event
from ..inbox.entry import Delivery, Entry
from ..inbox.maintenance import Record
from ..inbox.store import Inbox
from ..state import State


@dataclass(frozen=True)
class Hint:
    """A trouble that shows in an event: what was found, what to check, and what to run."""

    trouble: str
    event_id: str
    found: str
    check: str
    run: str = ""


class Seen(NamedTuple):
    """An entry as a look at it finds it; ``event`` is None where the body is none, or freed."""

    entry: Entry
    deliveries: list[Delivery]
    event: Event | None
    fault: str


@dataclass(frozen=True)
class Case:
    """What there is of the calls that are looked at, in the order of arrival.

    ``name`` is the id that was asked for, of an event or a call.
    """

    name: str
    state: State
    inbox: Inbox
    records: list[Record]

    @cached_property
    def now(self) -> datetime:
        return self.inbox.clock()

    @cached_property
    def all_seen(self) -> list[Seen]:
        return [_see(record) for record in self.records]

    def of_type(self, *types: str) -> Iterator[Seen]:
        """The first versions of events of some types that can be read."""
        for seen in self.all_seen:
            if seen.event is not None and seen.entry.type in types and not seen.entry.revision:
                yield seen

    def beside(self, entry: Entry, *types: str) -> list[Seen]:
        """The other events of the same call or chat, of some types or of all."""
        return [
            seen
            for seen in self.all_seen
            if entry.session is not None
            and seen.entry.session == entry.session
            and seen.entry.id != entry.id
            and (not types or seen.entry.type in types)
        ]


def _see(record: Record) -> Seen:
    event, fault = None, ""
    if record.entry.body is not None:
        try:
            event = record.entry.event()
        except PayloadError as error:
            fault = str(error)
    return Seen(record.entry, record.deliveries, event, fault)
