"""What was sent, stored and run, held against each other after the kill test."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from journal import Line
from retell_flask.inbox.entry import stage_of
from sender import Posting

Row = dict[str, Any]
SECOND = 1_000_000_000
ANSWERS = {"200", "200 duplicate", "503"}
NO_ANSWER = {
    "no connection",
    "no connection in time",
    "no answer in time",
    "connection broken off",
}


@dataclass(frozen=True)
class Kill:
    """``at`` is when the process was gone."""

    pid: int
    at: int
    kind: str


@dataclass
class Run:
    """One call of a receiver. It was over, or cut off, at ``ended_at``."""

    begin: Line
    ended_at: int
    how: str  # end, failed, killed, or lost: no process that was killed wrote it
    in_flight: bool = False  # its process was killed before another line of the thread


@dataclass(repr=False)
class Account:
    postings: Sequence[Posting]
    lines: Sequence[Line]
    entries: Sequence[Row]
    deliveries: Sequence[Row]
    kills: Sequence[Kill]
    order_wait: float
    figures: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.by_id = {posting.id: posting for posting in self.postings}
        self.entry_by_id = {entry["event_id"]: entry for entry in self.entries}
        self.runs = list(_runs(self.lines, {kill.pid: kill.at for kill in self.kills}))
        self.faults = [
            f"{check.__name__.strip('_')}: {fault}" for check in CHECKS for fault in check(self)
        ]
        self._count()

    def __str__(self) -> str:
        lines = [f"{count:8} {what}" for what, count in self.figures.items()]
        return "\n".join([*lines, *(f"FAULT {fault[:500]}" for fault in self.faults)])

    def _count(self) -> None:
        repeated = Counter(run.begin.delivery for run in self.runs if run.how != "failed")
        self.figures.update(
            {
                "events": len(self.by_id),
                "acknowledged": sum(bool(each.acknowledged_at) for each in self.postings),
                "entries": len(self.entries),
                "superseded": sum(each["status"] == "superseded" for each in self.entries),
                "receivers begun": len(self.runs),
                "receivers that failed": sum(run.how == "failed" for run in self.runs),
                "in flight at a kill": sum(run.in_flight for run in self.runs),
                "ran again after a kill": sum(count - 1 for count in repeated.values()),
            }
        )
        self.figures.update(Counter(f"kills: {kill.kind}" for kill in self.kills))


def _runs(lines: Sequence[Line], killed: dict[int, int]) -> Iterator[Run]:
    by_worker: defaultdict[tuple[int, int], list[Line]] = defaultdict(list)
    for line in lines:
        by_worker[line.worker].append(line)
    for written in by_worker.values():
        pid = written[0].pid
        for number, line in enumerate(written):
            if line.phase != "begin":
                continue
            after = written[number + 1] if number + 1 < len(written) else None
            is_last = number + 2 >= len(written)
            if after is not None and after.phase != "begin":
                yield Run(line, after.at, after.phase, in_flight=is_last and pid in killed)
            elif pid in killed and is_last:
                yield Run(line, killed[pid], "killed", in_flight=True)
            else:
                yield Run(line, line.at, "lost")


def expected(type_: str) -> set[tuple[str, str]]:
    """Signal and receiver of each delivery of an event, outcomes aside."""
    if type_ == "alert_triggered":
        return {("event_received", "store"), (type_, "react")}
    own = "unknown_event" if type_ == "noted_by_nobody" else type_
    return {("event_received", "store"), (own, "react")}


def _answers_are_those_of_the_contract(account: Account) -> Iterator[str]:
    for posting in account.postings:
        odd = set(posting.answers) - ANSWERS - NO_ANSWER
        if odd:
            yield f"{posting.type} of {posting.session} was answered {odd}"


def _what_was_acknowledged_is_done(account: Account) -> Iterator[str]:
    for posting in account.postings:
        entry = account.entry_by_id.get(posting.id)
        if posting.acknowledged_at and entry is None:
            yield f"{posting.id} was acknowledged and is not there"


def _what_is_there_is_done(account: Account) -> Iterator[str]:
    newest: dict[str, int] = {}
    for entry in account.entries:
        if entry["type"] == "transcript_updated":
            newest[entry["session"]] = max(entry["id"], newest.get(entry["session"], 0))
    for entry in account.entries:
        is_old = newest.get(entry["session"], 0) > entry["id"]
        is_old_snapshot = entry["type"] == "transcript_updated" and is_old
        if entry["status"] == "done" or (entry["status"] == "superseded" and is_old_snapshot):
            continue
        yield f"{entry['event_id']} ({entry['type']}) is {entry['status']}"


def _one_entry_for_each_event(account: Account) -> Iterator[str]:
    if len(account.entry_by_id) != len(account.entries):
        yield "an event id is there twice"
    for event_id in account.entry_by_id.keys() - account.by_id.keys():
        yield f"{event_id} was never sent"


def _every_receiver_has_its_record(account: Account) -> Iterator[str]:
    found: defaultdict[int, set[tuple[str, str]]] = defaultdict(set)
    announced: Counter[str] = Counter()
    session_of = {entry["id"]: entry["session"] for entry in account.entries}
    for each in account.deliveries:
        if each["signal"] == "agent_transfer":
            announced[session_of[each["entry_id"]]] += 1
        else:
            found[each["entry_id"]].add((each["signal"], each["receiver"]))
    for entry in account.entries:
        if entry["status"] == "done" and found[entry["id"]] != expected(entry["type"]):
            yield f"{entry['event_id']} ({entry['type']}) has {found[entry['id']]}"
        if entry["type"] == "transfer_started" and announced[entry["session"]] != 1:
            yield f"{entry['session']} was announced {announced[entry['session']]} times"


def _every_receiver_has_its_effect(account: Account) -> Iterator[str]:
    event_of = {entry["id"]: entry["event_id"] for entry in account.entries}
    ended = Counter(run.begin.delivery for run in account.runs if run.how == "end")
    begun = Counter(run.begin.delivery for run in account.runs)
    for each in account.deliveries:
        delivery = (event_of[each["entry_id"]], each["signal"], each["receiver"])
        if each["status"] != "done":
            yield f"{delivery} is {each['status']}"
        if not ended[delivery]:
            yield f"{delivery} never ended"
        if begun[delivery] > each["attempts"]:
            yield f"{delivery} began {begun[delivery]} times in {each['attempts']} attempts"


def _only_what_was_in_flight_at_a_kill_ran_again(account: Account) -> Iterator[str]:
    by_delivery: defaultdict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in account.runs:
        by_delivery[run.begin.delivery].append(run)
    for delivery, runs in by_delivery.items():
        runs.sort(key=lambda run: run.begin.at)
        for earlier, later in pairwise(runs):
            if earlier.how != "failed" and not earlier.in_flight:
                yield f"{delivery} ran again after {earlier} as {later}"
            if later.begin.attempt <= earlier.begin.attempt:
                yield f"{delivery} made its attempt {later.begin.attempt} twice"


def _nothing_broke_off_without_a_kill(account: Account) -> Iterator[str]:
    yield from (f"{run.begin} has no end" for run in account.runs if run.how == "lost")


def _one_at_a_time_in_a_call(account: Account) -> Iterator[str]:
    by_call: defaultdict[str, list[Run]] = defaultdict(list)
    for run in account.runs:
        by_call[run.begin.session or run.begin.event].append(run)
    for call, runs in by_call.items():
        runs.sort(key=lambda run: run.begin.at)
        for earlier, later in pairwise(runs):
            if later.begin.at < earlier.ended_at:
                yield f"{call}: {later} began before {earlier} was over"


def _what_was_there_before_is_told_before(account: Account) -> Iterator[str]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for run in account.runs:
        event, at = run.begin.event, run.begin.at
        first[event] = min(at, first.get(event, at))
        last[event] = max(run.ended_at, last.get(event, 0))
    by_call: defaultdict[str, list[Posting]] = defaultdict(list)
    for posting in account.postings:
        if posting.id in first and posting.session:
            by_call[posting.session].append(posting)
    for postings in by_call.values():
        for one in postings:
            for other in postings:
                waited = first[other.id] - other.sent_at > account.order_wait * SECOND
                if _comes_before(one, other) and first[other.id] < last[one.id] and not waited:
                    yield f"{other.type} of {other.session} was told before {one.type}"


def _comes_before(one: Posting, other: Posting) -> bool:
    """Whether it was there when the other arrived, and is of an earlier stage, or of the same."""
    was_there = 0 < one.acknowledged_at < other.sent_at
    return was_there and stage_of(one.type) <= stage_of(other.type)


Check = Callable[[Account], Iterator[str]]
CHECKS: tuple[Check, ...] = (
    _answers_are_those_of_the_contract,
    _what_was_acknowledged_is_done,
    _what_is_there_is_done,
    _one_entry_for_each_event,
    _every_receiver_has_its_record,
    _every_receiver_has_its_effect,
    _only_what_was_in_flight_at_a_kill_ran_again,
    _nothing_broke_off_without_a_kill,
    _one_at_a_time_in_a_call,
    _what_was_there_before_is_told_before,
)
