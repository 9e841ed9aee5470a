"""What people ask of an inbox, over every kind of database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from databases import Clock, rows
from inbox.handled import DEAD, DONE, deliver, find, run, statuses
from retell_flask import parse_event
from retell_flask.inbox import maintenance
from retell_flask.inbox.entry import DeliveryStatus, EntryStatus, Result
from retell_flask.inbox.maintenance import Query
from retell_flask.inbox.schema import entries
from retell_flask.inbox.store import Inbox
from retell_flask.testing import encode
from support import call_payload

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


def test_a_body_of_another_release_stays_what_it_was(inbox: Inbox) -> None:
    deliver(inbox)
    inbox.database.write(lambda c: c.execute(entries.update().values(type="unknown")))
    (entry,) = maintenance.search(inbox, Query(type="unknown"))
    assert entry.status is EntryStatus.DONE
