"""What people ask of an inbox, over every kind of database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from databases import Clock, rows
from retell_flask import Event, parse_event
from retell_flask.inbox import maintenance
from retell_flask.inbox.entry import DeliveryStatus, EntryStatus, Result, Target
from retell_flask.inbox.maintenance import Query
from retell_flask.inbox.schema import entries
from retell_flask.inbox.store import Inbox
from retell_flask.testing import encode
from support import call_payload

DONE = Result(DeliveryStatus.DONE)
DEAD = Result(DeliveryStatus.DEAD, "said in confidence")


def find(*receivers: str) -> Callable[[Event], list[Target]]:
    return lambda event: [Target(event.type, receiver) for receiver in receivers]


def deliver(inbox: Inbox, result: Result = DONE, type_: str = "call_ended", **call: Any) -> int:
    """Receive an event and end its deliveries, to ``a`` and ``b``, alike."""
    body = encode(call_payload(type_, **call))
    entry_id = inbox.add(parse_event(body, received_at=inbox.clock())).entry_id
    claimed = inbox.claim_entry(entry_id, find("a", "b"))
    assert not isinstance(claimed, EntryStatus)
    while claimed.current:
        inbox.advance(claimed, result)
    return entry_id


def run(inbox: Inbox, result: Result = DONE) -> list[str]:
    ran = []
    while claimed := inbox.claim_due(find("a", "b")):
        while claimed.current:
            ran.append(claimed.current.receiver)
            inbox.advance(claimed, result)
    return ran


def statuses(inbox: Inbox, table: str = "retell_event") -> list[str]:
    return [row["status"] for row in rows(inbox.database, table)]


# Search


def test_a_search_finds_by_everything_and_the_newest_first(inbox: Inbox, clock: Clock) -> None:
    first = deliver(inbox, call_id="call_1")
    clock.tick(60)
    second = deliver(inbox, DEAD, "call_started", call_id="call_2")
    event_id = rows(inbox.database)[0]["event_id"]

    def found(**query: Any) -> list[int]:
        return [entry.id for entry in maintenance.search(inbox, Query(**query))]

    assert found() == [second, first]
    assert found(names=[event_id]) == found(names=["call_1"]) == [first]
    assert found(status=EntryStatus.DEAD) == found(type="call_started") == [second]
    assert found(receiver="a") == [second, first]
    assert found(receiver="nobody") == []
    assert found(since=clock() - timedelta(seconds=60)) == [second, first]
    assert found(since=clock() - timedelta(seconds=59)) == [second]
    assert found(until=clock()) == [first]
    assert len(maintenance.search(inbox, Query(), limit=1)) == 1
    assert maintenance.ids(inbox, Query()) == [first, second]


def test_a_search_stays_with_its_blueprint(inbox: Inbox) -> None:
    deliver(inbox)
    other = Inbox(inbox.database, "other", inbox.settings, inbox.clock)
    assert maintenance.search(other, Query()) == []
    assert maintenance.stats(other).entries == {}


def test_a_timeline_tells_a_call_in_order_of_arrival(inbox: Inbox) -> None:
    for type_ in ("call_ended", "call_started"):
        deliver(inbox, type_=type_)
    deliver(inbox, call_id="call_2")
    told = maintenance.timeline(inbox, "call_1")
    assert [record.entry.type for record in told] == ["call_ended", "call_started"]
    assert [delivery.receiver for delivery in told[0].deliveries] == ["a", "b"]
    assert told[0].entry.body == encode(call_payload("call_ended"))


def test_stats_count(inbox: Inbox, clock: Clock) -> None:
    deliver(inbox)
    deliver(inbox, DEAD, call_id="call_2")
    oldest = clock()
    inbox.add(parse_event(encode(call_payload("call_started", call_id="c3")), received_at=oldest))
    counted = maintenance.stats(inbox)
    assert counted.entries == {
        ("done", "call_ended"): 1,
        ("dead", "call_ended"): 1,
        ("pending", "call_started"): 1,
    }
    assert counted.deliveries == {"done": 2, "dead": 2}
    assert (counted.oldest_pending, counted.newest) == (oldest, oldest)
    assert counted.body_bytes > 100


def test_waiting_counts_by_receiver(inbox: Inbox) -> None:
    deliver(inbox, Result(DeliveryStatus.PENDING, "x", inbox.clock() + timedelta(seconds=9)))
    assert maintenance.waiting(inbox) == {("call_ended", "a"): 1, ("call_ended", "b"): 1}


# Forget


def test_forgetting_empties_a_call_and_leaves_what_keeps_it_away(inbox: Inbox) -> None:
    for type_ in ("call_started", "call_ended"):
        deliver(inbox, DEAD, type_)
    deliver(inbox, call_id="call_2")
    assert maintenance.forget(inbox, "call_1") == (2, 0, True)
    forgotten = rows(inbox.database)[:2]
    assert {row["status"] for row in forgotten} == {"forgotten"}
    assert {(row["session"], row["body"]) for row in forgotten} == {(None, None)}
    errors = {row["error"] for row in rows(inbox.database, "retell_delivery")}
    assert errors == {None}
    assert rows(inbox.database)[2]["status"] == "done"
    for version in (None, 5):  # neither a repeat nor a revision comes back
        call = {} if version is None else {"duration_ms": version}
        event = parse_event(encode(call_payload("call_ended", **call)))
        assert inbox.add(event).duplicate
    assert run(inbox) == []
    assert maintenance.forget(inbox, "call_1") == (0, 0, True)


def test_forgetting_an_event_that_runs_ends_its_claim(inbox: Inbox) -> None:
    body = encode(call_payload("call_ended"))
    inbox.add(parse_event(body, received_at=inbox.clock()))
    claimed = inbox.claim_due(find("a", "b"))
    assert claimed is not None
    maintenance.forget(inbox, "call_1")
    assert inbox.advance(claimed, DONE) is None
    assert claimed.lost
    assert statuses(inbox) == ["forgotten"]


# Prune


def test_pruning_takes_what_is_old_and_done_in_batches(inbox: Inbox, clock: Clock) -> None:
    for number in range(3):
        deliver(inbox, call_id=f"done_{number}")
    deliver(inbox, DEAD, call_id="dead")
    inbox.keep_invalid(b"[]")
    clock.tick(86_400)
    deliver(inbox, call_id="new")
    age = timedelta(hours=24)
    assert maintenance.prunable(inbox, age) == 0  # not before it is older
    clock.tick(1)
    assert maintenance.prunable(inbox, age) == 3
    assert list(maintenance.prune(inbox, age)) == [3]
    assert sorted(statuses(inbox)) == ["dead", "done", "invalid"]
    assert len(rows(inbox.database, "retell_delivery")) == 4


def test_batches_are_small(inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "_PRUNED_TOGETHER", 2)
    for number in range(5):
        deliver(inbox, call_id=f"done_{number}")
    clock.tick(100)
    assert list(maintenance.prune(inbox, timedelta(seconds=10))) == [2, 2, 1]


def test_whatever_delivers_prunes_by_the_way(
    inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(inbox)
    clock.tick(31 * 86_400)
    pruner = maintenance.Pruner(inbox)
    pruner.prune_some()
    assert statuses(inbox) == ["done"]  # none in its first minute
    pruner._next = 0.0
    pruner.prune_some()
    assert statuses(inbox) == []


def test_a_repeat_after_pruning_is_new(inbox: Inbox, clock: Clock) -> None:
    deliver(inbox)
    clock.tick(31 * 86_400)
    list(maintenance.prune(inbox, timedelta(days=30)))
    assert not inbox.add(parse_event(encode(call_payload("call_ended")))).duplicate


def test_a_body_of_another_release_stays_what_it_was(inbox: Inbox) -> None:
    deliver(inbox)
    inbox.database.write(lambda c: c.execute(entries.update().values(type="unknown")))
    (entry,) = maintenance.search(inbox, Query(type="unknown"))
    assert entry.status is EntryStatus.DONE
