"""What Retell knows of calls, against what the inbox was sent: the rest is made up for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple, replace

from .client import RetellClient, call_path
from .errors import ApiError, BadRequest, NotFound, PayloadError, Unreachable
from .events import dedupe_key, event_id, forgotten_id, parse_event
from .inbox.entry import EntryStatus, Receipt, storable
from .inbox.store import Inbox
from .models.call import Call
from .values import duration

_logger = logging.getLogger(__name__)

DEFAULT_GRACE = timedelta(minutes=15)

Since = datetime | timedelta | str

_OVER = ["ended", "error", "not_connected"]
_LOOKED_UP_TOGETHER = 200
_MOST_FAILURES_IN_A_ROW = 5
_MARGIN = timedelta(minutes=5)  # for clocks that differ
_TOLERANCE = timedelta(minutes=1)  # between a command's "30d" and our look at the clock


@dataclass(frozen=True)
class Window:
    """The calls that ended from ``since`` to ``until``; both aware."""

    since: datetime
    until: datetime

    @classmethod
    def of(cls, since: Since, until: datetime | None, grace: timedelta, inbox: Inbox) -> Window:
        """Raises ``ValueError`` for a window that nothing could be said about."""
        now = inbox.clock()
        begin = since if isinstance(since, datetime) else now - duration(since)
        oldest, latest = _kept_since(inbox), now - grace
        if any(each is not None and each.tzinfo is None for each in (begin, until)):
            raise ValueError("since and until need a time zone: datetime.now(timezone.utc).")
        if begin < oldest - _TOLERANCE:
            raise ValueError(
                f"since is too long ago: events from before {oldest:%Y-%m-%d %H:%M} UTC were "
                "pruned, or may be at any time, and cannot be told from those that never came."
            )
        if until is not None and begin >= until:
            raise ValueError("since is not before until, so nothing could be in between.")
        if begin >= latest:
            raise ValueError(
                f"since is less than the grace of {grace} ago, in which calls are left to Retell, "
                "so there is nothing to look at."
            )
        end = latest if until is None else min(until, latest)
        return cls(begin.astimezone(timezone.utc), end.astimezone(timezone.utc))


def find_agents(
    inbox: Inbox, agents: Iterable[str] | None, all_agents: bool
) -> Sequence[str] | None:
    """Whose calls are looked at; None for all. Raises ``ValueError`` where there is nobody."""
    if all_agents:
        if agents is not None:
            raise ValueError("agents and all_agents say two things: give one of them.")
        return None
    named = [agents] if isinstance(agents, str) else agents
    found = inbox.agents() if named is None else list(named)
    if not found:
        raise ValueError(
            "The inbox has not heard of any agent yet. Name those whose webhooks come here "
            "(--agent, or agents=[…]), or take all of the workspace (--all-agents, or "
            "all_agents=True)."
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

    ``agents`` are those whose calls were looked at, None for all. Of ``calls`` calls that
    had events missing, ``events`` were made, or would be. ``gone`` calls that had, too, are no
    longer there at Retell, and ``failed`` ones could not be fetched: run it again. Of
    ``pending`` events a receiver is left to be run by ``worker --once``, with inline dispatch.
    """

    agents: Sequence[str] | None = field(default=None, compare=False)
    looked_at: int = 0
    calls: int = 0
    events: int = 0
    pending: int = 0
    gone: int = 0
    failed: int = 0


class Backfill:
    """One run. ``dispatch`` sees to it that receivers run; False where one is left to run."""

    def __init__(
        self,
        inbox: Inbox,
        client: RetellClient,
        dispatch: Callable[[Receipt], bool],
        *,
        dry_run: bool = False,
    ) -> None:
        self._inbox = inbox
        self._client = client.patient()
        self._dispatch = dispatch
        self._dry_run = dry_run
        self._failures_in_a_row = 0
        self.report: BackfillReport = BackfillReport()

    def run(
        self,
        window: Window,
        agents: Sequence[str] | None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> BackfillReport:
        """Look at all calls of a window. Raises ``ApiError`` and ``InboxError``."""
        report = self.report
        report.agents = agents
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
        found = self._inbox.find_statuses(
            each for call in calls for each in _ids(call.call_id).values()
        )
        # After the look: what has been pruned by then is not missing.
        kept_since = _kept_since(self._inbox) + _MARGIN
        return [
            Missed(call, missing)
            for call in calls
            if call.call_id
            if call.ended_at is None or call.ended_at > kept_since
            if (missing := _missing(call, found))
        ]

    def _make_up_for(self, missed: Missed) -> None:
        if self._dry_run:
            self.report.calls += 1
            self.report.events += len(missed.types)
            return
        try:
            call = self._fetch(missed.call.call_id)
            # Both: an analysis may have come since the list was made.
            made = [self._make(type_, call) for type_ in ("call_ended", "call_analyzed")]
            self.report.calls += any(made)
        except NotFound:
            self.report.gone += 1
            self._failures_in_a_row = 0
        except (BadRequest, _Odd) as error:
            self._fail(missed.call, error)
        except ApiError as error:
            if _is_of_all_calls(error):
                raise
            self._fail(missed.call, error)
        else:
            self._failures_in_a_row = 0

    def _fetch(self, call_id: str) -> dict[str, Any]:
        call = self._client.request("GET", call_path("/v2/get-call", call_id))
        if not isinstance(call, dict) or call.get("call_id") != call_id:
            raise _Odd("Retell's API answered with another call, or none")
        return call

    def _make(self, type_: str, call: dict[str, Any]) -> bool:
        """Whether it had been missing."""
        if type_ == "call_analyzed" and not call.get("call_analysis"):
            return False
        left_out = () if type_ == "call_analyzed" else ("call_analysis",)
        sent = {name: value for name, value in call.items() if name not in left_out}
        body = msgspec.json.encode({"event": type_, "call": sent})
        try:
            event = parse_event(body, received_at=self._inbox.clock(), quiet=True)
        except PayloadError as error:
            raise _Odd(str(error)) from None
        event = replace(event, synthetic=True)
        added = self._inbox.add_synthetic(event, _ids(str(event.session_id)).values())
        if added is None or added.duplicate:
            return False
        self.report.events += 1
        self.report.pending += not self._dispatch(Receipt(event, added.entry_id))
        return True

    def _fail(self, call: Call, error: Exception) -> None:
        self.report.failed += 1
        self._failures_in_a_row += 1
        _logger.error("%a could not be made up for: %s", call.call_id[:80], error)
        if self._failures_in_a_row >= _MOST_FAILURES_IN_A_ROW:
            raise ApiError(f"{self._failures_in_a_row} calls in a row failed, the last: {error}")

    def _log(self, window: Window) -> None:
        if self.report.events and not self._dry_run:
            _logger.warning(
                "Backfill: %d events of %d calls that ended from %s to %s had never come. Was the "
                "application out of Retell's reach?",
                self.report.events,
                self.report.calls,
                f"{window.since:%Y-%m-%d %H:%M}",
                f"{window.until:%Y-%m-%d %H:%M} UTC",
            )


def _is_of_all_calls(error: ApiError) -> bool:
    """Whether no other call would do better: a key, a limit, or nobody who answers."""
    if isinstance(error, Unreachable):
        return not error.may_have_arrived
    return error.status is not None and error.status < 500


class _Odd(Exception):
    """An answer of Retell's that is not what was asked for."""


_TYPES = ("call_started", "call_ended", "call_analyzed")


def _kept_since(inbox: Inbox) -> datetime:
    """What was received before is deleted, or may be at any moment."""
    oldest = inbox.clock() - inbox.settings.retention
    return max(oldest, inbox.pruned_until() or oldest)


def _missing(call: Call, found: dict[str, EntryStatus]) -> list[str]:
    """The types that are not there; none of a call that was to be forgotten."""
    there = {type_: found.get(each) for type_, each in _ids(call.call_id).items()}
    if EntryStatus.FORGOTTEN in there.values():
        return []
    wanted = ["call_ended"] + (["call_analyzed"] if _is_analyzed(call) else [])
    return [type_ for type_ in wanted if there[type_] is None]


def _is_analyzed(call: Call) -> bool:
    analysis = call.call_analysis
    return analysis is not None and any(value is not None for value in astuple(analysis))


def _ids(call_id: str) -> dict[str, str]:
    """The ids of a call's events by type, and of what stands for it if it is forgotten."""
    ids = {type_: event_id(dedupe_key(type_, call_id, b"")) for type_ in _TYPES}
    return {**ids, "": forgotten_id(storable(call_id))}


def _in_batches(calls: Iterator[Call]) -> Iterator[list[Call]]:
    while batch := list(islice(calls, _LOOKED_UP_TOGETHER)):
        yield batch
