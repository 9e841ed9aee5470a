"""The inbox against a plain model of it: any order of whatever can happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from databases import Clock, make_inbox, open_kind, rows
from retell_flask import Event, parse_event
from retell_flask.inbox import pruning
from retell_flask.inbox.database import Database
from retell_flask.inbox.entry import (
    SNAPSHOT,
    Claim,
    DeliveryStatus,
    Result,
    Stage,
    Target,
    stage_of,
)
from retell_flask.inbox.replay import Replay, replay_entry
from retell_flask.testing import encode
from support import call_payload

LEASE = timedelta(seconds=60)
WAIT = timedelta(seconds=30)
RETENTION = timedelta(days=30)
MOST_ATTEMPTS = 3
RECEIVERS = ("a", "b")

LEGAL = {
    ("pending", "running"),
    ("running", "pending"),
    ("running", "done"),
    ("running", "dead"),
    ("pending", "superseded"),
    ("running", "superseded"),  # it failed, and a newer one was there
    ("done", "pending"),  # replayed
    ("dead", "pending"),
    ("pending", "done"),  # a result that came late
    ("pending", "dead"),
    ("dead", "done"),
}


@dataclass
class ModelDelivery:
    status: str = "pending"
    attempts: int = 0
    due: datetime = Clock().now


@dataclass
class ModelEntry:
    id: int
    type: str
    session: str
    received_at: datetime
    due: datetime
    place: int
    status: str = "pending"
    deliveries: dict[str, ModelDelivery] = field(default_factory=dict)
    lease_ends: datetime | None = None
    token: str | None = None

    @property
    def stage(self) -> Stage:
        return stage_of(self.type)

    @property
    def turn(self) -> tuple[int, int, int]:
        return self.stage.value, self.place, self.id

    def settle(self) -> None:
        states = {delivery.status for delivery in self.deliveries.values()}
        self.status = next((s for s in ("pending", "dead") if s in states), "done")
        pending = [d.due for d in self.deliveries.values() if d.status == "pending"]
        self.due = min(pending, default=self.due)
        self.token = self.lease_ends = None


@dataclass
class Versions:
    """The entries that have a type and a session in common, by what differs in their bodies."""

    first: tuple[int, int] | None = None
    others: dict[int, int] = field(default_factory=dict)

    def find(self, version: int) -> int | None:
        if self.first is not None and self.first[0] == version:
            return self.first[1]
        # A revision whose first version was pruned is not looked for.
        may_be_other = self.first is not None or self.others_are_equals
        return self.others.get(version) if may_be_other else None

    others_are_equals: bool = False

    def add(self, version: int, entry_id: int) -> int:
        """The id of the first version."""
        if self.first is None:
            self.first = (version, entry_id)
        else:
            self.others[version] = entry_id
        return self.first[1]

    def remove(self, entry_id: int) -> None:
        if self.first is not None and self.first[1] == entry_id:
            self.first = None
        self.others = {v: each for v, each in self.others.items() if each != entry_id}


class Model:
    """What the inbox should hold, and what it may hand out."""

    def __init__(self) -> None:
        self.entries: dict[int, ModelEntry] = {}
        self.versions: dict[tuple[str, str], Versions] = {}

    def sweep(self, now: datetime) -> None:
        for entry in self.entries.values():
            if entry.status == "running" and entry.lease_ends and entry.lease_ends <= now:
                entry.status, entry.due, entry.token, entry.lease_ends = "pending", now, None, None
                if entry.type == SNAPSHOT:
                    self.supersede(entry.session)

    def of_session(self, entry: ModelEntry) -> Iterator[ModelEntry]:
        return (
            other
            for other in self.entries.values()
            if other.session == entry.session and other is not entry
        )

    def may_be_claimed(self, entry: ModelEntry, now: datetime) -> bool:
        if entry.status != "pending" or entry.due > now:
            return False
        others = list(self.of_session(entry))
        if any(other.status == "running" for other in others):
            return False
        if any(o.status == "pending" and o.due <= now and o.turn < entry.turn for o in others):
            return False
        if entry.received_at <= now - WAIT:
            return True
        if any(o.status in ("pending", "running") and o.turn < entry.turn for o in others):
            return False
        return entry.stage is not Stage.ANALYZED or any(o.stage is Stage.ENDED for o in others)

    def supersede(self, session: str) -> None:
        snapshots = [
            entry
            for entry in self.entries.values()
            if entry.session == session and entry.type == "transcript_updated"
        ]
        for entry in snapshots:
            if entry.status == "pending" and entry.id < max(other.id for other in snapshots):
                entry.status = "superseded"
                entry.deliveries = {
                    name: d for name, d in entry.deliveries.items() if d.status != "pending"
                }


class InboxMachine(RuleBasedStateMachine):
    claims: Bundle[Claim] = Bundle("claims")
    open_database: Callable[[], Database]

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.database = type(self).open_database()
        self.inbox = make_inbox(
            self.database,
            self.clock,
            LEASE=LEASE,
            ORDER_WAIT=WAIT,
            MAX_ATTEMPTS=MOST_ATTEMPTS,
            RETENTION=RETENTION,
        )
        self.model = Model()
        self.seen: dict[int, str] = {}
        self.pruned: set[int] = set()

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.dispose()

    # What happens

    @rule(
        type_=st.sampled_from(
            ["call_started", "transcript_updated", "transfer_started", "call_ended"]
            + ["call_analyzed", "new_event"]
        ),
        session=st.sampled_from(["c1", "c2"]),
        version=st.integers(0, 2),
    )
    def add(self, type_: str, session: str, version: int) -> None:
        """New, a twin, or a revision."""
        body = encode(call_payload(type_, call_id=session, duration_ms=version))
        added = self.inbox.add(parse_event(body, received_at=self.clock()))
        versions = self.model.versions.setdefault((type_, session), Versions())
        known = versions.find(version)
        if known is not None:
            assert (added.duplicate, added.entry_id) == (True, known)
            return
        assert not added.duplicate
        comes_once = stage_of(type_) is not Stage.BETWEEN
        place = versions.add(version, added.entry_id) if comes_once else added.entry_id
        if not comes_once:
            versions.others[version], versions.others_are_equals = added.entry_id, True
        now = self.clock()
        self.model.entries[added.entry_id] = ModelEntry(
            added.entry_id, type_, session, now, now, place
        )
        if type_ == SNAPSHOT:
            self.model.supersede(session)

    @rule(target=claims)
    def claim(self) -> object:
        claim = self.inbox.claim_due(self.find_targets)
        self.model.sweep(self.clock())
        may_be = {e.id for e in self.model.entries.values() if self.claimable(e)}
        if claim is None:
            assert may_be == set()
            return multiple()
        assert claim.entry.id in may_be
        entry = self.model.entries[claim.entry.id]
        assert entry.due == min(self.model.entries[each].due for each in may_be)
        entry.status, entry.token = "running", claim.token
        entry.lease_ends = self.clock() + LEASE
        if not entry.deliveries:
            entry.deliveries = {name: ModelDelivery(due=self.clock()) for name in RECEIVERS}
        due = [
            name
            for name, d in entry.deliveries.items()
            if d.status == "pending" and d.due <= self.clock()
        ]
        for name in due:
            if entry.deliveries[name].attempts >= MOST_ATTEMPTS:
                entry.deliveries[name].status = "dead"
        self.after_step(claim, entry)
        return claim

    @rule(
        claim=claims, outcome=st.sampled_from(["done", "failed", "dead"]), pause=st.integers(0, 90)
    )
    def finish(self, claim: Claim, outcome: str, pause: int) -> None:
        """A receiver ends; perhaps long after its lease has."""
        running = claim.current
        if running is None:
            return
        retry_at = self.clock() + timedelta(seconds=pause)
        result = {
            "done": Result(DeliveryStatus.DONE),
            "failed": Result(DeliveryStatus.PENDING, "failed", retry_at),
            "dead": Result(DeliveryStatus.DEAD, "gave up"),
        }[outcome]
        entry = self.model.entries.get(claim.entry.id)
        self.inbox.advance(claim, result)
        if entry is None:  # pruned meanwhile
            assert claim.lost
            return
        is_held = entry.token == claim.token
        assert claim.lost is not is_held
        record = entry.deliveries.get(running.receiver)
        if record is not None and (outcome == "done" or (is_held and record.status == "pending")):
            record.status = {"failed": "pending"}.get(outcome, outcome)
            record.due = retry_at if outcome == "failed" else self.clock()
        if is_held:
            entry.lease_ends = self.clock() + LEASE
            self.after_step(claim, entry)
        elif entry.status in ("pending", "dead") and entry.deliveries:
            entry.settle()

    @rule(claim=consumes(claims))
    def crash(self, claim: Claim) -> None:
        """Its process is gone; nobody ever hears of the claim again."""

    @rule(claim=claims)
    def extend(self, claim: Claim) -> None:
        self.inbox.extend([claim])
        entry = self.model.entries.get(claim.entry.id)
        is_held = entry is not None and entry.token == claim.token
        assert claim.lost is not is_held
        if entry is not None and is_held:
            entry.lease_ends = self.clock() + LEASE

    @rule(seconds=st.sampled_from([0.001, 1, 29, 31, 59, 60, 61]))
    def tick(self, seconds: float) -> None:
        self.clock.tick(seconds)

    @rule(done_too=st.booleans(), data=st.data())
    def replay(self, done_too: bool, data: st.DataObject) -> None:
        if not self.model.entries:
            return
        entry = self.model.entries[data.draw(st.sampled_from(sorted(self.model.entries)))]
        wanted = Replay(self.find_targets, done_too=done_too)
        count = replay_entry(self.inbox, entry.id, wanted)
        newer = any(o.type == entry.type and o.id > entry.id for o in self.model.of_session(entry))
        is_begun = bool(entry.deliveries) or entry.status != "pending"
        if (entry.type == "transcript_updated" and newer) or not is_begun:
            assert count == 0
            return
        reset = [d for d in entry.deliveries.values() if d.status != "done" or done_too]
        if not entry.deliveries:
            assert count == int(done_too)
        else:
            assert count == len(reset)
        for delivery in reset:
            delivery.status, delivery.attempts, delivery.due = "pending", 0, self.clock()
        if count and entry.status != "running":
            entry.status, entry.due = "pending", self.clock()

    @rule(days=st.sampled_from([0, 31]))
    def prune(self, days: int) -> None:
        self.clock.tick(days * 86_400)
        list(pruning.prune(self.inbox, RETENTION))
        for entry in list(self.model.entries.values()):
            is_old = entry.received_at < self.clock() - RETENTION
            if entry.status in ("done", "superseded") and is_old:
                del self.model.entries[entry.id]
                self.pruned.add(entry.id)
                for versions in self.model.versions.values():
                    versions.remove(entry.id)

    # What holds

    @invariant()
    def the_inbox_is_as_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        found = {row["id"]: row for row in rows(self.database)}
        assert set(found) == set(self.model.entries), "no entry is lost, and none comes back"
        for entry in self.model.entries.values():
            assert found[entry.id]["status"] == entry.status
            assert (found[entry.id]["body"] is None) == (entry.status == "superseded")
        deliveries = {
            (row["entry_id"], row["receiver"]): (row["status"], row["attempts"])
            for row in rows(self.database, "retell_delivery")
        }
        assert deliveries == {
            (entry.id, name): (delivery.status, delivery.attempts)
            for entry in self.model.entries.values()
            for name, delivery in entry.deliveries.items()
        }

    @invariant()
    def no_two_of_a_call_run_at_once(self) -> None:
        if hasattr(self, "model"):
            running = [r["session"] for r in rows(self.database) if r["status"] == "running"]
            assert len(running) == len(set(running))

    @invariant()
    def no_transition_is_illegal(self) -> None:
        if not hasattr(self, "model"):
            return
        now = {row["id"]: row["status"] for row in rows(self.database)}
        for key, status in now.items():
            before = self.seen.get(key, "pending")
            # What happens within one step may pass through "running".
            steps = {(before, status), (before, "running"), ("running", status)}
            assert (
                before == status
                or (before, status) in LEGAL
                or steps - {(before, status)} <= LEGAL
            )
        self.seen = now

    # How the model follows

    def find_targets(self, event: Event) -> list[Target]:
        return [Target(event.type, receiver) for receiver in RECEIVERS]

    def claimable(self, entry: ModelEntry) -> bool:
        return self.model.may_be_claimed(entry, self.clock())

    def after_step(self, claim: Claim, entry: ModelEntry) -> None:
        """The next delivery was begun, or the entry settled."""
        if claim.current is None:
            entry.settle()
            if entry.type == SNAPSHOT:
                self.model.supersede(entry.session)
            return
        record = entry.deliveries[claim.current.receiver]
        assert record.status == "pending", "none that is done is begun again"
        record.attempts += 1
        assert claim.current.attempts == record.attempts <= MOST_ATTEMPTS


@contextmanager
def machine(open_database: Callable[[], Database]) -> Iterator[type[InboxMachine]]:
    class Machine(InboxMachine):
        pass

    Machine.open_database = staticmethod(open_database)
    yield Machine


@pytest.mark.parametrize(
    ("kind", "examples"),
    [("sqlite-memory", 100), ("sqlite", 15), ("sqlite-fallback", 8), ("postgresql", 15)],
)
def test_the_inbox_does_what_its_model_does(
    kind: str,
    examples: int,
    tmp_path_factory: pytest.TempPathFactory,
    postgresql_url: Callable[[], str],
) -> None:
    def open_database() -> Database:
        directory: Path = tmp_path_factory.mktemp("model")
        return open_kind(kind, directory, postgresql_url)

    with machine(open_database) as machine_class:
        run_state_machine_as_test(
            machine_class,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
