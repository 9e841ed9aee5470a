"""Events that a backfill made, and the real ones that come after all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace

from databases import Clock, rows
from retell_flask import Event, parse_event
from retell_flask.inbox.entry import Added, Claim, DeliveryStatus, EntryStatus, Result, Target
from retell_flask.inbox.maintenance import forget, timeline
from retell_flask.inbox.store import Inbox
from retell_flask.testing import encode
from support import call_payload

DONE = Result(DeliveryStatus.DONE)


def real(call_id: str = "call_1", **call: Any) -> Event:
    body = encode(call_payload("call_ended", **{"call_id": call_id, **call}))
    return parse_event(body, received_at=Clock().now)


def synthetic(call_id: str = "call_1", **call: Any) -> Event:
    return replace(real(call_id, made_up=True, **call), synthetic=True)


def add(inbox: Inbox, event: Event) -> Added:
    added = inbox.add_synthetic(event, []) if event.synthetic else inbox.add(event)
    assert added is not None
    return added


def kept(inbox: Inbox, call_id: str = "call_1") -> list[tuple[bytes | None, bool, int]]:
    """Bytes, whether synthetic, and revision."""
    found = [record.entry for record in timeline(inbox, call_id)]
    return [(entry.body, entry.synthetic, entry.revision) for entry in found]


def claim(inbox: Inbox, entry_id: int) -> Claim:
    claimed = inbox.claim_entry(entry_id, lambda event: [Target(event.type, "a")])
    assert isinstance(claimed, Claim)
    return claimed


@pytest.mark.parametrize("sent", [real(), real(made_up=True), real(text="long " * 1000)])
def test_the_first_real_event_takes_the_place_of_the_synthetic(inbox: Inbox, sent: Event) -> None:
    first = add(inbox, synthetic())
    assert kept(inbox) == [(synthetic().raw, True, 0)]
    assert add(inbox, sent) == Added(first.entry_id, duplicate=True)
    assert kept(inbox) == [(sent.raw, False, 0)]
    assert add(inbox, sent) == Added(first.entry_id, duplicate=True)
    assert kept(inbox) == [(sent.raw, False, 0)]


def test_it_takes_the_place_of_one_that_was_compressed(inbox: Inbox) -> None:
    add(inbox, synthetic(text="long " * 1000))
    add(inbox, real())
    assert kept(inbox) == [(real().raw, False, 0)]


def test_a_receiver_that_is_pending_is_given_the_real_event(inbox: Inbox) -> None:
    entry_id = add(inbox, synthetic()).entry_id
    add(inbox, real(duration_ms=7))
    event = claim(inbox, entry_id).event
    assert event is not None
    assert (event.raw, event.synthetic) == (real(duration_ms=7).raw, False)


def test_nothing_that_is_done_runs_again(inbox: Inbox) -> None:
    entry_id = add(inbox, synthetic()).entry_id
    inbox.advance(claim(inbox, entry_id), DONE)
    add(inbox, real())
    assert inbox.claim_entry(entry_id, lambda _: []) is EntryStatus.DONE
    assert inbox.claim_due(lambda _: []) is None


def test_a_receiver_that_runs_meanwhile_ends_as_usual(inbox: Inbox) -> None:
    entry_id = add(inbox, synthetic()).entry_id
    claimed = claim(inbox, entry_id)
    add(inbox, real())
    inbox.advance(claimed, DONE)
    assert not claimed.lost
    assert [row["status"] for row in rows(inbox.database)] == ["done"]
    assert kept(inbox) == [(real().raw, False, 0)]


def test_a_second_real_version_is_a_revision(inbox: Inbox) -> None:
    add(inbox, synthetic())
    add(inbox, real())
    assert not add(inbox, real(duration_ms=7)).duplicate
    assert kept(inbox) == [(real().raw, False, 0), (real(duration_ms=7).raw, False, 1)]


@pytest.mark.parametrize("first", [real(), real(duration_ms=7), synthetic(duration_ms=7)])
def test_a_synthetic_event_changes_nothing_that_is_there(inbox: Inbox, first: Event) -> None:
    entry_id = add(inbox, first).entry_id
    assert add(inbox, synthetic()) == Added(entry_id, duplicate=True)
    assert kept(inbox) == [(first.raw, first.synthetic, 0)]


def test_what_was_forgotten_stays_empty(inbox: Inbox) -> None:
    add(inbox, synthetic())
    forget(inbox, "call_1")
    for event in (real(), real(duration_ms=7), synthetic()):
        assert add(inbox, event).duplicate
    (row,) = rows(inbox.database)
    assert (row["status"], row["body"], row["session"]) == ("forgotten", None, None)


def test_synthetic_events_of_another_blueprint_are_left_alone(inbox: Inbox) -> None:
    add(inbox, synthetic())
    other = Inbox(inbox.database, "other", inbox.settings, inbox.clock)
    assert not add(other, real()).duplicate
    assert kept(inbox) == [(synthetic().raw, True, 0)]


def add_at_once(inbox: Inbox, *events: Event) -> list[bool]:
    """Whether each was a duplicate."""
    together = threading.Barrier(len(events))

    def add_together(event: Event) -> bool:
        together.wait(10)
        return add(inbox, event).duplicate

    with ThreadPoolExecutor(len(events)) as pool:
        return list(pool.map(add_together, events))


def test_the_real_event_wins_every_race(inbox: Inbox) -> None:
    for number in range(20):
        call_id = f"call_{number}"
        made_up = [synthetic(call_id, duration_ms=number) for number in range(3)]
        duplicates = add_at_once(inbox, *made_up, real(call_id), real(call_id))
        assert duplicates.count(False) == 1
        assert kept(inbox, call_id) == [(real(call_id).raw, False, 0)]


@pytest.mark.parametrize("is_there", [False, True])
def test_of_two_real_versions_that_race_one_is_a_revision(inbox: Inbox, is_there: bool) -> None:
    for number in range(20):
        call_id = f"call_{number}"
        versions = [real(call_id, duration_ms=number) for number in (1, 2)]
        if is_there:
            add(inbox, synthetic(call_id))
        add_at_once(inbox, *versions, synthetic(call_id))
        found = kept(inbox, call_id)
        assert [entry[1:] for entry in found] == [(False, 0), (False, 1)]
        assert {body for body, *_ in found} == {event.raw for event in versions}


def test_nothing_is_made_of_a_forgotten_call(inbox: Inbox) -> None:
    started = parse_event(encode(call_payload("call_started")))
    inbox.add(started)
    assert inbox.add_synthetic(synthetic("call_2"), [started.id]) is not None
    forget(inbox, "call_1")
    assert inbox.add_synthetic(synthetic(), [started.id]) is None
    assert kept(inbox) == []


def test_a_call_that_is_forgotten_as_its_event_is_made_stays_empty(inbox: Inbox) -> None:
    together = threading.Barrier(2)

    def make(event: Event, started: Event) -> None:
        together.wait(10)
        inbox.add_synthetic(event, [started.id])

    for number in range(20):
        call_id = f"call_{number}"
        started = parse_event(encode(call_payload("call_started", call_id=call_id)))
        inbox.add(started)
        with ThreadPoolExecutor(1) as pool:
            made = pool.submit(make, synthetic(call_id), started)
            together.wait(10)
            forget(inbox, call_id)
            made.result()
        assert kept(inbox, call_id) == []
    assert {row["status"] for row in rows(inbox.database)} == {"forgotten"}
