"""The contract of an inbox, over every kind of database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from databases import Clock, rows
from retell_flask import Event, parse_event
from retell_flask.inbox.entry import (
    Claim,
    DeliveryStatus,
    EntryStatus,
    Result,
    Target,
    once_key,
    storable,
)
from retell_flask.inbox.schema import entries
from retell_flask.inbox.store import Inbox
from retell_flask.testing import encode
from support import call_payload

DONE = Result(DeliveryStatus.DONE)
DEAD = Result(DeliveryStatus.DEAD, "gave up")


def event(type_: str = "call_ended", call_id: str = "call_1", **call: Any) -> Event:
    body = encode(call_payload(type_, **{"call_id": call_id, **call}))
    return parse_event(body, received_at=Clock().now)


def add(inbox: Inbox, type_: str = "call_ended", call_id: str = "call_1", **call: Any) -> int:
    """Received now, by the inbox's clock."""
    body = encode(call_payload(type_, **{"call_id": call_id, **call}))
    return inbox.add(parse_event(body, received_at=inbox.clock())).entry_id


def targets(*receivers: str) -> Callable[[Event], Sequence[Target]]:
    return lambda event: [Target(event.type, receiver) for receiver in receivers]


def claim(inbox: Inbox, *receivers: str) -> Claim | None:
    return inbox.claim_due(targets(*(receivers or ("a",))))


def run(inbox: Inbox, *receivers: str, result: Result = DONE) -> list[str]:
    """Claim one entry and end all of its deliveries alike; the receivers in order."""
    claimed = claim(inbox, *receivers)
    ran = []
    while claimed and claimed.current:
        ran.append(claimed.current.receiver)
        inbox.advance(claimed, result)
    return ran


def fail(inbox: Inbox, seconds: float) -> Result:
    return Result(DeliveryStatus.PENDING, "failed", inbox.clock() + timedelta(seconds=seconds))


def states(inbox: Inbox) -> list[str]:
    return [row["status"] for row in rows(inbox.database)]


def claimed_types(inbox: Inbox) -> list[str]:
    """What is delivered, in order, until nothing is due."""
    types = []
    while claimed := claim(inbox):
        types.append(claimed.entry.type)
        inbox.advance(claimed, DONE)
    return types


# Receipts


def test_an_event_is_there_with_its_exact_bytes(inbox: Inbox) -> None:
    body = b'{ "event":"call_ended", "call":{"call_id":"c", "x":"\\ud800"}}\n' + b" " * 1000
    added = inbox.add(parse_event(body, received_at=inbox.clock()))
    assert not added.duplicate
    claimed = claim(inbox)
    assert claimed is not None
    assert claimed.entry.body == body
    assert claimed.event is not None
    assert claimed.event.raw == body


def test_a_repeat_is_a_duplicate_of_the_same_entry(inbox: Inbox) -> None:
    first, second = inbox.add(event()), inbox.add(event())
    assert (first.duplicate, second.duplicate) == (False, True)
    assert first.entry_id == second.entry_id
    assert len(rows(inbox.database)) == 1


def test_a_repeat_is_a_duplicate_whatever_became_of_the_first(inbox: Inbox) -> None:
    inbox.add(event())
    run(inbox)
    assert inbox.add(event()).duplicate
    assert states(inbox) == ["done"]


def test_blueprints_share_a_database_and_no_entries(inbox: Inbox) -> None:
    other = Inbox(inbox.database, "other", inbox.settings, inbox.clock)
    add(inbox)
    assert not other.add(event()).duplicate
    claimed = claim(other)
    assert claimed is not None
    assert claimed.entry.blueprint == "other"
    assert claim(other) is None


def test_an_invalid_body_is_kept_once_and_never_delivered(inbox: Inbox) -> None:
    inbox.keep_invalid(b"\xff\x00 no event")
    inbox.keep_invalid(b"\xff\x00 no event")
    (row,) = rows(inbox.database)
    assert (row["status"], row["body"]) == ("invalid", b"\xff\x00 no event")
    assert claim(inbox) is None


@pytest.mark.parametrize("session", ["a\0b", "\ud800", "x" * 5000, "é🙂" * 150])
def test_odd_ids_are_stored_short_and_clean(session: str, inbox: Inbox) -> None:
    body = encode({"event": "new", "call": {"call_id": "c"}})
    inbox.add(msgspec.structs.replace(parse_event(body), session_id=session))
    (row,) = rows(inbox.database)
    assert row["session"] == storable(session)
    assert len(row["session"]) <= 200
    assert not set(row["session"]) & {"\0", "\ud800"}


# Revisions


def test_other_bytes_under_the_same_key_are_revisions_counted_from_1(inbox: Inbox) -> None:
    first = add(inbox, duration_ms=1)
    for number in (2, 3):
        added = inbox.add(event(duration_ms=number))
        assert not added.duplicate
    assert [row["revision"] for row in rows(inbox.database)] == [0, 1, 2]
    assert [row["revises"] for row in rows(inbox.database)] == [None, first, first]
    assert len({row["event_id"] for row in rows(inbox.database)}) == 3


def test_an_equal_revision_is_a_duplicate(inbox: Inbox) -> None:
    add(inbox, duration_ms=1)
    revision = inbox.add(event(duration_ms=2))
    again = inbox.add(event(duration_ms=2))
    assert (again.duplicate, again.entry_id) == (True, revision.entry_id)
    assert inbox.add(event(duration_ms=1)).duplicate


def test_a_revision_says_its_number(inbox: Inbox) -> None:
    add(inbox, duration_ms=1)
    add(inbox, duration_ms=2)
    revisions = []
    while claimed := claim(inbox):
        assert claimed.event is not None
        revisions.append((claimed.event.revision, claimed.event.id == claimed.entry.event_id))
        inbox.advance(claimed, DONE)
    assert revisions == [(0, True), (1, True)]


def test_events_that_may_come_often_have_no_revisions(inbox: Inbox) -> None:
    for number in (1, 2):
        add(inbox, "transfer_started", duration_ms=number)
    assert [row["revision"] for row in rows(inbox.database)] == [0, 0]


# Claims and records


def test_the_first_claim_writes_the_receivers_for_good(inbox: Inbox) -> None:
    add(inbox)
    claimed = claim(inbox, "a", "b")
    assert claimed is not None
    assert claimed.current is not None
    inbox.advance(claimed, fail(inbox, 0), stop=True)
    assert run(inbox, "c") == ["b", "a"]
    assert [row["receiver"] for row in rows(inbox.database, "retell_delivery")] == ["a", "b"]


def test_an_attempt_is_counted_before_it_is_made(inbox: Inbox) -> None:
    add(inbox)
    claimed = claim(inbox, "a", "b")
    assert claimed is not None
    assert [row["attempts"] for row in rows(inbox.database, "retell_delivery")] == [1, 0]
    following = inbox.advance(claimed, DONE)
    assert following is not None
    assert (following.receiver, following.attempts) == ("b", 1)
    found = rows(inbox.database, "retell_delivery")
    assert [(row["status"], row["attempts"]) for row in found] == [("done", 1), ("pending", 1)]


def test_an_entry_without_receivers_is_done_at_once(inbox: Inbox) -> None:
    add(inbox)
    claimed = inbox.claim_due(targets())
    assert claimed is not None
    assert claimed.current is None
    assert states(inbox) == ["done"]


def test_a_failed_receiver_is_tried_again_alone_and_when_it_is_due(
    inbox: Inbox, clock: Clock
) -> None:
    add(inbox)
    claimed = claim(inbox, "a", "b", "c")
    assert claimed is not None
    for result in (DONE, fail(inbox, 10), DONE):
        inbox.advance(claimed, result)
    assert states(inbox) == ["pending"]
    clock.tick(9.9)
    assert claim(inbox) is None
    clock.tick(0.1)
    assert run(inbox) == ["b"]
    assert states(inbox) == ["done"]
    assert [row["attempts"] for row in rows(inbox.database, "retell_delivery")] == [1, 2, 1]


def test_an_entry_is_dead_once_none_is_pending_and_one_is_dead(inbox: Inbox) -> None:
    add(inbox)
    claimed = claim(inbox, "a", "b")
    assert claimed is not None
    inbox.advance(claimed, DEAD)
    assert states(inbox) == ["running"]
    inbox.advance(claimed, DONE)
    assert states(inbox) == ["dead"]
    assert rows(inbox.database, "retell_delivery")[0]["error"] == "gave up"


def test_a_running_entry_is_nobody_elses(inbox: Inbox) -> None:
    add(inbox)
    assert claim(inbox) is not None
    assert claim(inbox) is None


def test_claims_take_what_is_due_the_longest(inbox: Inbox, clock: Clock) -> None:
    for call_id in ("first", "second", "third"):
        add(inbox, call_id=call_id)
        clock.tick(1)
    sessions = []
    while claimed := claim(inbox):
        sessions.append(claimed.entry.session)
    assert sessions == ["first", "second", "third"]


def test_a_claim_can_be_given_back(inbox: Inbox) -> None:
    add(inbox)
    claimed = claim(inbox, "a", "b")
    assert claimed is not None
    inbox.advance(claimed, DONE, stop=True)
    assert states(inbox) == ["pending"]
    assert run(inbox) == ["b"]


def test_one_entry_can_be_claimed_whatever_its_turn_and_its_backoff(inbox: Inbox) -> None:
    analyzed = add(inbox, "call_analyzed")
    assert claim(inbox) is None
    claimed = inbox.claim_entry(analyzed, targets("a"))
    assert isinstance(claimed, Claim)
    inbox.advance(claimed, fail(inbox, 1000))
    again = inbox.claim_entry(analyzed, targets("a"))
    assert isinstance(again, Claim)
    inbox.advance(again, DONE)
    assert inbox.claim_entry(analyzed, targets("a")) is EntryStatus.DONE


def test_one_entry_cannot_be_claimed_while_its_session_runs(inbox: Inbox) -> None:
    started, ended = add(inbox, "call_started"), add(inbox)
    running = inbox.claim_entry(started, targets("a"))
    assert isinstance(running, Claim)
    assert inbox.claim_entry(started, targets("a")) is EntryStatus.RUNNING
    assert inbox.claim_entry(ended, targets("a")) is EntryStatus.PENDING
    inbox.advance(running, DONE)
    assert isinstance(inbox.claim_entry(ended, targets("a")), Claim)


def test_an_entry_that_this_release_cannot_read_is_kept(inbox: Inbox) -> None:
    entry_id = add(inbox)
    change = entries.update().values(body=b"[]", compressed=False)
    inbox.database.write(lambda connection: connection.execute(change))
    claimed = claim(inbox)
    assert claimed is not None
    assert (claimed.entry.id, claimed.event, claimed.current) == (entry_id, None, None)
    assert states(inbox) == ["invalid"]


def test_a_body_that_is_damaged_is_kept_and_in_nobodys_way(inbox: Inbox, clock: Clock) -> None:
    damaged = add(inbox, transcript="x" * 5000)
    change = entries.update().values(body=b"(\xb5/\xfd damaged", compressed=True)
    inbox.database.write(lambda connection: connection.execute(change))
    clock.tick(1)
    add(inbox, call_id="call_2")
    claimed = claim(inbox)
    assert claimed is not None
    assert (claimed.entry.id, claimed.current) == (damaged, None)
    assert run(inbox) == ["a"]
    assert states(inbox) == ["invalid", "done"]


def test_a_search_for_receivers_that_fails_is_in_nobodys_way(inbox: Inbox, clock: Clock) -> None:
    add(inbox)
    claimed = inbox.claim_due(lambda event: 1 / 0)  # type: ignore[arg-type,return-value]
    assert claimed is not None
    assert isinstance(claimed.fault, ZeroDivisionError)
    assert states(inbox) == ["pending"]
    add(inbox, call_id="call_2")
    assert run(inbox) == ["a"]
    clock.tick(60)
    assert run(inbox) == ["a"]  # what was wrong may be over
    assert states(inbox) == ["done", "done"]


def test_an_error_is_kept_when_fewer_attempts_are_allowed(
    make: Callable[..., Inbox], clock: Clock
) -> None:
    inbox = make(MAX_ATTEMPTS=3)
    add(inbox)
    for _ in range(2):
        run(inbox, result=Result(DeliveryStatus.PENDING, "why", inbox.clock()))
    fewer = make(MAX_ATTEMPTS=2)
    claimed = claim(fewer)
    assert claimed is not None
    assert [delivery.error for delivery in claimed.exhausted] == ["why"]
    assert rows(inbox.database, "retell_delivery")[0]["error"] == "why"


# Leases


def test_an_expired_lease_is_taken_over(inbox: Inbox, clock: Clock) -> None:
    add(inbox)
    assert claim(inbox) is not None
    clock.tick(59.9)
    assert claim(inbox) is None
    clock.tick(0.1)
    again = claim(inbox)
    assert again is not None
    assert again.current is not None
    assert again.current.attempts == 2


def test_a_lease_that_is_extended_holds(inbox: Inbox, clock: Clock) -> None:
    add(inbox)
    claimed = claim(inbox)
    assert claimed is not None
    for _ in range(5):
        clock.tick(40)
        inbox.extend([claimed])
        assert claim(inbox) is None
    assert not claimed.lost


def test_a_lost_lease_is_noticed_and_fences_a_failure(inbox: Inbox, clock: Clock) -> None:
    add(inbox)
    slow = claim(inbox, "a", "b")
    assert slow is not None
    clock.tick(60)
    fast = claim(inbox)
    assert fast is not None
    inbox.extend([slow])
    assert slow.lost
    assert inbox.advance(slow, DEAD) is None
    found = rows(inbox.database, "retell_delivery")
    assert [row["status"] for row in found] == ["pending", "pending"]
    assert states(inbox) == ["running"]


def test_that_a_receiver_finished_is_recorded_without_the_lease(
    inbox: Inbox, clock: Clock
) -> None:
    add(inbox)
    slow = claim(inbox, "a", "b")
    assert slow is not None
    clock.tick(60)
    fast = claim(inbox)
    assert fast is not None
    assert fast.current is not None
    assert fast.current.receiver == "b"  # fewest attempts first
    assert inbox.advance(slow, DONE) is None
    assert slow.lost
    assert inbox.advance(fast, DONE) is None  # a is done, and not begun again
    assert states(inbox) == ["done"]


def test_a_result_that_came_late_makes_a_dead_entry_done(inbox: Inbox, clock: Clock) -> None:
    add(inbox)
    slow = claim(inbox)
    clock.tick(60)
    fast = claim(inbox)
    assert slow is not None
    assert fast is not None
    inbox.advance(fast, DEAD)
    assert states(inbox) == ["dead"]
    inbox.advance(slow, DONE)
    assert states(inbox) == ["done"]


def test_what_kills_its_process_dies_after_its_own_attempts(
    make: Callable[..., Inbox], clock: Clock
) -> None:
    inbox = make(MAX_ATTEMPTS=3)
    add(inbox)
    began = []
    for _ in range(3):
        claimed = claim(inbox, "killer", "neighbour")
        assert claimed is not None
        while claimed.current and claimed.current.receiver != "killer":
            began.append(claimed.current.receiver)
            inbox.advance(claimed, DONE)
        assert claimed.current is not None
        began.append("killer")
        clock.tick(60)
    claimed = claim(inbox)
    assert claimed is not None
    assert [delivery.receiver for delivery in claimed.exhausted] == ["killer"]
    assert claimed.current is None
    assert sorted(began) == ["killer"] * 3 + ["neighbour"]
    assert states(inbox) == ["dead"]


# Order in a session


def test_a_call_is_told_in_order(inbox: Inbox) -> None:
    stages = ["call_analyzed", "call_ended", "transfer_started", "new_event", "call_started"]
    for type_ in stages:
        add(inbox, type_)
    expected = ["call_started", "transfer_started", "new_event", "call_ended", "call_analyzed"]
    assert claimed_types(inbox) == expected


PAIRS = [
    ("call_started", "call_ended"),
    ("call_started", "call_analyzed"),
    ("call_started", "transcript_updated"),
    ("transcript_updated", "call_ended"),
    ("transfer_started", "call_analyzed"),
    ("call_ended", "call_analyzed"),
]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_both_orders_of_a_pair_are_delivered_in_order(
    pair: tuple[str, str], turned: bool, inbox: Inbox, clock: Clock
) -> None:
    for type_ in reversed(pair) if turned else pair:
        add(inbox, type_)
        clock.tick(0.001)
    in_order = claimed_types(inbox)
    clock.tick(30)  # where no call_ended comes, the analysis has waited enough
    assert in_order + claimed_types(inbox) == list(pair)


def test_an_analysis_waits_for_the_end_of_its_call_and_no_longer_than_said(
    inbox: Inbox, clock: Clock
) -> None:
    add(inbox, "call_analyzed")
    clock.tick(29.9)
    assert claim(inbox) is None
    clock.tick(0.1)
    assert claimed_types(inbox) == ["call_analyzed"]


def test_what_waited_while_nothing_ran_is_still_told_in_order(inbox: Inbox, clock: Clock) -> None:
    for type_ in ("call_analyzed", "call_ended", "call_started"):
        add(inbox, type_)
        clock.tick(1)
    clock.tick(3600)
    assert claimed_types(inbox) == ["call_started", "call_ended", "call_analyzed"]


def test_an_analysis_goes_on_as_soon_as_the_end_is_done(inbox: Inbox, clock: Clock) -> None:
    add(inbox, "call_analyzed")
    clock.tick(5)
    add(inbox, "call_ended")
    assert claimed_types(inbox) == ["call_ended", "call_analyzed"]


def test_a_predecessor_that_keeps_failing_holds_nobody_longer_than_said(
    inbox: Inbox, clock: Clock
) -> None:
    add(inbox, "call_started")
    assert run(inbox, result=fail(inbox, 1000)) == ["a"]
    add(inbox, "call_ended")
    clock.tick(29.9)
    assert claim(inbox) is None
    clock.tick(0.1)
    assert claimed_types(inbox) == ["call_ended"]


def test_a_dead_predecessor_holds_nobody(inbox: Inbox) -> None:
    add(inbox, "call_started")
    add(inbox, "call_ended")
    assert run(inbox, result=DEAD) == ["a"]
    assert claimed_types(inbox) == ["call_ended"]


def test_the_wait_for_order_can_be_turned_off(make: Callable[..., Inbox], clock: Clock) -> None:
    inbox = make(ORDER_WAIT=0)
    add(inbox, "call_analyzed")
    assert claimed_types(inbox) == ["call_analyzed"]


def test_no_wait_ends_while_an_event_of_the_call_runs(inbox: Inbox, clock: Clock) -> None:
    add(inbox, "call_started")
    running = claim(inbox)
    assert running is not None
    add(inbox, "call_ended")
    for _ in range(3):
        clock.tick(50)
        inbox.extend([running])
        assert claim(inbox) is None
    inbox.advance(running, DONE)
    assert claimed_types(inbox) == ["call_ended"]


def test_other_calls_do_not_wait(inbox: Inbox) -> None:
    add(inbox, "call_started", "call_1")
    add(inbox, "call_ended", "call_1")
    add(inbox, "call_started", "call_2")
    first, second = claim(inbox), claim(inbox)
    assert first is not None
    assert second is not None
    assert (first.entry.session, second.entry.session) == ("call_1", "call_2")
    assert claim(inbox) is None


def test_a_revision_comes_right_after_what_it_revises(inbox: Inbox) -> None:
    add(inbox, "voicemail_detected", duration_ms=1)
    add(inbox, "transfer_started")
    add(inbox, "voicemail_detected", duration_ms=2)
    sequence = []
    while claimed := claim(inbox):
        sequence.append((claimed.entry.type, claimed.entry.revision))
        inbox.advance(claimed, DONE)
    assert sequence == [
        ("voicemail_detected", 0),
        ("voicemail_detected", 1),
        ("transfer_started", 0),
    ]


def test_events_without_a_session_wait_for_nobody(inbox: Inbox) -> None:
    for number in (1, 2):
        body = encode({"event": "alert_triggered", "alert": {"n": number}})
        inbox.add(parse_event(body, received_at=inbox.clock()))
    assert claim(inbox) is not None
    assert claim(inbox) is not None


# Snapshots


def snapshot(inbox: Inbox, turns: int, type_: str = "transcript_updated") -> int:
    return add(inbox, type_, transcript="x" * turns)


def test_a_newer_snapshot_takes_the_place_of_those_that_wait(inbox: Inbox) -> None:
    for turns in (1, 2, 3):
        snapshot(inbox, turns)
    assert states(inbox) == ["superseded", "superseded", "pending"]
    assert [row["body"] is None for row in rows(inbox.database)] == [True, True, False]


def test_a_snapshot_that_runs_is_left_alone_and_superseded_if_it_fails(inbox: Inbox) -> None:
    snapshot(inbox, 1)
    running = claim(inbox, "a", "b")
    assert running is not None
    snapshot(inbox, 2)
    assert states(inbox) == ["running", "pending"]
    inbox.advance(running, DONE)
    inbox.advance(running, fail(inbox, 10))
    assert states(inbox) == ["superseded", "pending"]
    assert [row["status"] for row in rows(inbox.database, "retell_delivery")] == ["done"]


def test_a_snapshot_that_waits_for_a_retry_is_superseded(inbox: Inbox) -> None:
    snapshot(inbox, 1)
    run(inbox, result=fail(inbox, 100))
    snapshot(inbox, 2)
    assert states(inbox) == ["superseded", "pending"]


def test_a_snapshot_whose_process_died_is_superseded(inbox: Inbox, clock: Clock) -> None:
    snapshot(inbox, 1)
    assert claim(inbox) is not None
    snapshot(inbox, 2)
    clock.tick(60)
    assert run(inbox) == ["a"]
    assert states(inbox) == ["superseded", "done"]


def test_a_repeat_of_a_superseded_snapshot_is_a_duplicate(inbox: Inbox) -> None:
    snapshot(inbox, 1)
    snapshot(inbox, 2)
    assert inbox.add(event("transcript_updated", transcript="x")).duplicate


def test_all_snapshots_can_be_asked_for(make: Callable[..., Inbox]) -> None:
    inbox = make(TRANSCRIPTS="all")
    for turns in (1, 2):
        snapshot(inbox, turns)
    assert claimed_types(inbox) == ["transcript_updated"] * 2


def test_snapshots_of_another_call_are_left_alone(inbox: Inbox) -> None:
    add(inbox, "transcript_updated", "call_1")
    add(inbox, "transcript_updated", "call_2")
    assert states(inbox) == ["pending", "pending"]


# Outcomes


def test_an_outcome_reaches_a_receiver_once_per_call(inbox: Inbox) -> None:
    def find(event: Event) -> list[Target]:
        key = once_key("retell", event.session_id or "", "voicemail_detected", "a")
        return [Target(event.type, "own"), Target("voicemail_detected", "a", key)]

    add(inbox, "call_ended")
    add(inbox, "call_analyzed")
    ran = []
    while claimed := inbox.claim_due(find):
        while claimed.current:
            ran.append((claimed.entry.type, claimed.current.signal))
            inbox.advance(claimed, DONE)
    assert ran == [
        ("call_ended", "call_ended"),
        ("call_ended", "voicemail_detected"),
        ("call_analyzed", "call_analyzed"),
    ]


def test_the_key_of_an_outcome_tells_calls_signals_and_receivers_apart() -> None:
    keys = {
        once_key("b", session, signal, receiver)
        for session in ("c1", "c2")
        for signal in ("call_error", "agent_transfer")
        for receiver in ("x", "y")
    }
    assert len(keys) == 8


def test_entries_are_values(inbox: Inbox) -> None:
    add(inbox)
    claimed = claim(inbox)
    assert claimed is not None
    assert "call_id" not in repr(claimed)
    assert replace(claimed.entry, revision=2).revision == 2
    assert claimed.entry.received_at.tzinfo is not None
