"""What Retell knows of calls, against what the inbox was sent: the rest is made up for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from .client import RetellClient, call_path
from .errors import ApiError, BadRequest, NotFound, PayloadError
from .events import dedupe_key, event_id, parse_event
from .inbox.entry import EntryStatus, Receipt
from .inbox.store import Inbox
from .models.call import Call

_logger = logging.getLogger(__name__)

DEFAULT_GRACE = timedelta(minutes=15)

_OVER = ["ended", "error", "not_connected"]
_LOOKED_UP_TOGETHER = 200
_MOST_FAILURES_IN_A_ROW = 5
_TOLERANCE = timedelta(minutes=1)  # between a command's "30d" and our look at the clock


@dataclass(frozen=True)
class Window:
    """The calls that ended from ``since`` to ``until``; both aware."""

    since: datetime
    until: datetime

    @classmethod
    def of(
        cls, since: datetime | timedelta, until: datetime | None, grace: timedelta, inbox: Inbox
    ) -> Window:
        """Raises ``ValueError`` for a window that nothing could be said about."""
        now = inbox.clock()
        begin = now - since if isinstance(since, timedelta) else since
        latest = now - grace
        for moment in (begin, until or latest):
            if not isinstance(moment, datetime) or moment.tzinfo is None:
                raise ValueError("since and until take datetimes with a time zone.")
        if begin < now - inbox.settings.retention - _TOLERANCE:
            raise ValueError(
                "since is longer ago than RETELL_RETENTION: events of that time were pruned, and "
                "could not be told from those that never came."
            )
        end = min(until or latest, latest)
        if begin >= end:
            raise ValueError(
                "since is not before until, or within the grace, in which calls are left to "
                "Retell: nothing could be in between."
            )
        return cls(begin, end)


def find_agents(
    inbox: Inbox, agents: Iterable[str] | None, all_agents: bool
) -> Sequence[str] | None:
    """Whose calls are looked at; None for all. Raises ``ValueError`` where there is nobody."""
    if all_agents:
        return None
    found = inbox.agents() if agents is None else list(agents)
    if not found:
        raise ValueError(
            "The inbox has not heard of any agent yet. Name those whose webhooks come here, or "
            "ask for all of the workspace."
        )
    return found


class Missed(NamedTuple):
    """A call, and the types of its events that the inbox lacks."""

    call: Call
    types: list[str]


class Progress(NamedTuple):
    """How far a backfill is: calls looked at, events made, and the call at hand if any."""

    looked_at: int
    events: int
    reached: datetime | None
    missed: Missed | None = None


@dataclass
class BackfillReport:
    """What a backfill came to.

    ``calls`` had events missing, ``events`` were made, or would be. ``gone`` calls are no
    longer there at Retell, and ``failed`` ones could not be fetched: run it again.
    """

    looked_at: int = 0
    calls: int = 0
    events: int = 0
    gone: int = 0
    failed: int = 0


class Backfill:
    """One run. ``dispatch`` sees to it that receivers run."""

    def __init__(
        self,
        inbox: Inbox,
        client: RetellClient,
        dispatch: Callable[[Receipt], Any],
        *,
        dry_run: bool = False,
    ) -> None:
        self._inbox = inbox
        self._client = client.patient()
        self._dispatch = dispatch
        self._dry_run = dry_run
        self._failures_in_a_row = 0
        self._report = BackfillReport()

    def run(
        self,
        window: Window,
        agents: Sequence[str] | None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> BackfillReport:
        """Look at all calls of a window. Raises ``ApiError`` and ``InboxError``."""
        report = self._report
        try:
            for calls in _in_batches(self._list(window, agents)):
                report.looked_at += len(calls)
                reached = max((call.ended_at for call in calls if call.ended_at), default=None)
                on_progress(Progress(report.looked_at, report.events, reached))
                for missed in self._find_missed(calls):
                    self._make_up_for(missed)
                    on_progress(Progress(report.looked_at, report.events, reached, missed))
        finally:
            self._log(window)
        return report

    def _list(self, window: Window, agents: Sequence[str] | None) -> Iterator[Call]:
        # By their end: those that did not connect have no start.
        filters: dict[str, Any] = {
            "call_status": _OVER,
            "end_timestamp": (window.since, window.until),
        }
        if agents is not None:
            filters["agent"] = agents
        return self._client.list_calls(sort_order="ascending", **filters)

    def _find_missed(self, calls: list[Call]) -> list[Missed]:
        ids = {_id(type_, call) for call in calls for type_ in _TYPES}
        found = self._inbox.find_statuses(ids)
        # After the look: what has been pruned by then is not missing.
        kept_since = self._inbox.clock() - self._inbox.settings.retention
        return [
            Missed(call, missing)
            for call in calls
            if call.ended_at is None or call.ended_at > kept_since
            if (missing := _missing(call, found))
        ]

    def _make_up_for(self, missed: Missed) -> None:
        self._report.calls += 1
        if self._dry_run:
            self._report.events += len(missed.types)
            return
        try:
            call = self._fetch(missed.call.call_id)
            for type_ in missed.types:
                self._make(type_, call)
        except NotFound:
            self._report.gone += 1
        except (BadRequest, _Odd) as error:
            self._fail(missed.call, error)
        except ApiError as error:
            if error.status is None or error.status < 500:  # no call would do any better
                raise
            self._fail(missed.call, error)
        else:
            self._failures_in_a_row = 0

    def _fetch(self, call_id: str) -> dict[str, Any]:
        call = self._client.request("GET", call_path("/v2/get-call", call_id))
        if not isinstance(call, dict) or call.get("call_id") != call_id:
            raise _Odd("Retell's API answered with another call, or none")
        return call

    def _make(self, type_: str, call: dict[str, Any]) -> None:
        if type_ == "call_analyzed" and not call.get("call_analysis"):
            return
        left_out = () if type_ == "call_analyzed" else ("call_analysis",)
        sent = {name: value for name, value in call.items() if name not in left_out}
        body = msgspec.json.encode({"event": type_, "call": sent})
        try:
            event = parse_event(body, received_at=self._inbox.clock(), quiet=True)
        except PayloadError as error:
            raise _Odd(str(error)) from None
        event = replace(event, synthetic=True)
        added = self._inbox.add(event)
        if not added.duplicate:
            self._report.events += 1
            self._dispatch(Receipt(event, added.entry_id))

    def _fail(self, call: Call, error: Exception) -> None:
        self._report.failed += 1
        self._failures_in_a_row += 1
        _logger.error("%a could not be made up for: %s", call.call_id[:80], error)
        if self._failures_in_a_row >= _MOST_FAILURES_IN_A_ROW:
            raise ApiError(f"{self._failures_in_a_row} calls in a row failed, the last: {error}")

    def _log(self, window: Window) -> None:
        if self._report.events and not self._dry_run:
            _logger.warning(
                "Backfill: %d events of %d calls that ended from %s to %s had never come. Was the "
                "application out of Retell's reach?",
                self._report.events,
                self._report.calls,
                f"{window.since:%Y-%m-%d %H:%M}",
                f"{window.until:%Y-%m-%d %H:%M} UTC",
            )


class _Odd(Exception):
    """An answer of Retell's that is not what was asked for."""


_TYPES = ("call_started", "call_ended", "call_analyzed")


def _missing(call: Call, found: dict[str, EntryStatus]) -> list[str]:
    """The types that are not there; none of a call that was to be forgotten."""
    there = {type_: found.get(_id(type_, call)) for type_ in _TYPES}
    if EntryStatus.FORGOTTEN in there.values():
        return []
    wanted = ["call_ended"] + (["call_analyzed"] if call.call_analysis else [])
    return [type_ for type_ in wanted if there[type_] is None]


def _id(type_: str, call: Call) -> str:
    return event_id(dedupe_key(type_, call.call_id, b""))


def _in_batches(calls: Iterator[Call]) -> Iterator[list[Call]]:
    while batch := list(islice(calls, _LOOKED_UP_TOGETHER)):
        yield batch
