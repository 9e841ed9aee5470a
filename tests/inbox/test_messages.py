"""What a cluster has to be told of, in every kind of database."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from databases import Clock
from retell_flask import InboxError, parse_event
from retell_flask.inbox import store
from retell_flask.inbox.entry import DeliveryStatus, Result, Target
from retell_flask.inbox.store import Inbox
from retell_flask.testing import encode
from support import call_payload

TARGETS = [Target("call_started", "host:handler")]


def add(inbox: Inbox, type_: str = "call_started", call_id: str = "call_1") -> int:
    body = encode(call_payload(type_, call_id=call_id))
    return inbox.add(parse_event(body, received_at=inbox.clock())).entry_id


@pytest.fixture
def inbox(make: Callable[..., Inbox]) -> Inbox:
    return make(LEASE=60, ORDER_WAIT=30)


def test_a_receipt_counts_as_a_message_for_its_wait(inbox: Inbox, clock: Clock) -> None:
    entry_id = add(inbox)
    clock.tick(29)
    assert inbox.mark_unsent(10) == []
    clock.tick(1)
    assert inbox.mark_unsent(10) == [entry_id]
    clock.tick(59)
    assert inbox.mark_unsent(10) == []
    clock.tick(60)
    assert inbox.mark_unsent(10) == [entry_id]


def test_what_waits_for_no_turn_is_not_told_of_twice(
    make: Callable[..., Inbox], clock: Clock
) -> None:
    inbox = make(LEASE=60, ORDER_WAIT=0)
    entry_id = add(inbox)
    clock.tick(9)
    assert inbox.mark_unsent(10) == []
    clock.tick(1)
    assert inbox.mark_unsent(10) == [entry_id]


def test_sweeps_whose_broker_fails_do_not_wait_for_each_other(inbox: Inbox, clock: Clock) -> None:
    for number in range(300):
        clock.tick(-0.001)  # the last to come is the first that is due
        add(inbox, call_id=f"call_{number}")
    clock.tick(60)

    def sweep_in_vain(_: int) -> None:
        for _ in range(20):
            marked = inbox.mark_unsent(300)
            inbox.unmark(marked[:100])
            inbox.unmark(marked[100:])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(sweep_in_vain, range(4)))  # else InboxError: a deadlock
    assert len(inbox.mark_unsent(1000)) == 300


def test_what_could_not_be_sent_is_told_of_again(inbox: Inbox, clock: Clock) -> None:
    entry_id = add(inbox)
    clock.tick(60)
    assert inbox.mark_unsent(10) == [entry_id]
    inbox.unmark([entry_id])
    assert inbox.mark_unsent(10) == [entry_id]


def test_a_retry_is_due_for_a_worker_whose_clock_is_behind(inbox: Inbox, clock: Clock) -> None:
    entry_id = add(inbox)
    claim = inbox.claim_due_entry(entry_id, lambda event: TARGETS)
    assert claim
    inbox.advance(claim, Result(DeliveryStatus.PENDING, "why", clock.now + timedelta(seconds=9)))
    assert inbox.claim_due_entry(entry_id, lambda event: TARGETS) is None
    as_of = clock.now + timedelta(seconds=9)
    again = inbox.claim_due_entry(entry_id, lambda event: TARGETS, as_of)
    assert again
    assert again.current


def test_a_retry_has_to_be_told_of_as_soon_as_it_is_due(inbox: Inbox, clock: Clock) -> None:
    entry_id = add(inbox)
    claim = inbox.claim_due_entry(entry_id, lambda event: TARGETS)
    assert claim
    later = clock.now.replace(minute=clock.now.minute + 1)
    inbox.advance(claim, Result(DeliveryStatus.PENDING, "why", later))
    assert inbox.mark_unsent(10) == []
    clock.tick(60)
    assert inbox.mark_unsent(10) == [entry_id]


def test_an_event_that_waited_for_its_turn_is_told_of_when_that_is_over(
    inbox: Inbox, clock: Clock
) -> None:
    entry_id = add(inbox, "call_analyzed")
    assert inbox.claim_due_entry(entry_id, lambda event: TARGETS) is None
    clock.tick(30)
    assert inbox.mark_unsent(10) == [entry_id]


def test_what_a_dead_worker_held_is_told_of_with_the_end_of_its_lease(
    inbox: Inbox, clock: Clock
) -> None:
    entry_ids = [add(inbox, call_id=f"call_{number}") for number in range(3)]
    for entry_id in entry_ids:
        assert inbox.claim_due_entry(entry_id, lambda event: TARGETS)
    clock.tick(59)
    assert inbox.mark_unsent(10) == []
    clock.tick(1)
    assert sorted(inbox.mark_unsent(10)) == entry_ids


def test_leases_end_after_an_outage_too_where_nobody_claims(
    inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_id = add(inbox)
    assert inbox.claim_due_entry(entry_id, lambda event: TARGETS)
    with monkeypatch.context() as patch:

        def fail(operation: object) -> None:
            raise InboxError("down")

        patch.setattr(inbox.database, "write", fail)
        with pytest.raises(InboxError):
            inbox.mark_unsent(10)
    clock.tick(3600)
    assert inbox.mark_unsent(10) == []  # those who live get time to renew theirs
    clock.tick(31)
    assert inbox.mark_unsent(10) == [entry_id]


def test_a_fresh_event_is_due_by_any_clock(inbox: Inbox, clock: Clock) -> None:
    first, second = add(inbox), add(inbox, "call_ended")
    clock.tick(-5)
    claim = inbox.claim_due_entry(first, lambda event: TARGETS)
    assert claim
    assert claim.current
    inbox.advance(claim, Result(DeliveryStatus.DONE))
    assert inbox.find_next("call_1") == second


def test_an_event_whose_turn_has_not_come_is_not_leased(inbox: Inbox) -> None:
    first, second = add(inbox), add(inbox, "call_ended")
    assert inbox.claim_due_entry(second, lambda event: TARGETS) is None
    assert inbox.find_next("call_1") == first
    assert inbox.claim_due_entry(first, lambda event: TARGETS)
    assert inbox.claim_due_entry(first, lambda event: TARGETS) is None
    assert inbox.find_next("call_1") is None


def test_no_more_is_told_than_workers_get_through(
    inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_FEWEST_TOLD", 2)
    for number in range(9):
        add(inbox, call_id=f"call_{number}")
    clock.tick(60)
    told = inbox.mark_unsent(10)
    assert len(told) == 2
    assert inbox.mark_unsent(10) == []
    finish(inbox, *told)
    told = inbox.mark_unsent(10)
    assert len(told) == 2
    finish(inbox, *told)
    assert len(inbox.mark_unsent(10)) == 4  # as many as were done in a lease


def finish(inbox: Inbox, *entry_ids: int) -> None:
    for entry_id in entry_ids:
        claim = inbox.claim_due_entry(entry_id, lambda event: TARGETS)
        assert claim
        inbox.advance(claim, Result(DeliveryStatus.DONE))


def test_what_was_told_in_vain_makes_room_after_a_lease(
    inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_FEWEST_TOLD", 2)
    for number in range(3):
        add(inbox, call_id=f"call_{number}")
    clock.tick(60)
    assert len(inbox.mark_unsent(10)) == 2
    clock.tick(60)
    assert len(inbox.mark_unsent(10)) == 2
