"""Deliveries run again, over every kind of database."""

from __future__ import annotations

from databases import rows
from inbox.handled import DEAD, DONE, deliver, find, run, statuses
from retell_flask import parse_event
from retell_flask.inbox import maintenance
from retell_flask.inbox.entry import EntryStatus, Target, once_key
from retell_flask.inbox.maintenance import Query
from retell_flask.inbox.replay import Replay, rehearse_entry, replay_entry
from retell_flask.inbox.schema import entries
from retell_flask.inbox.store import Inbox
from retell_flask.testing import encode
from support import call_payload


def test_a_replay_runs_the_dead_ones_again(inbox: Inbox) -> None:
    entry_id = deliver(inbox, DEAD)
    assert replay_entry(inbox, entry_id, Replay(find("a", "b"))) == 2
    assert [row["attempts"] for row in rows(inbox.database, "retell_delivery")] == [0, 0]
    assert run(inbox) == ["a", "b"]
    assert statuses(inbox) == ["done"]


def test_a_rehearsal_counts_and_changes_nothing(inbox: Inbox) -> None:
    entry_id = deliver(inbox, DEAD)
    invalid = b'{"event": "call_ended"}'
    inbox.keep_invalid(invalid)
    tables = ("retell_event", "retell_delivery")
    before = [rows(inbox.database, table) for table in tables]
    assert rehearse_entry(inbox, entry_id, Replay(find("a", "b"))) == 2
    assert rehearse_entry(inbox, entry_id, Replay(find("a", "new"), receiver="new")) == 1
    assert rehearse_entry(inbox, before[0][1]["id"], Replay(find("a"))) == 0
    assert [rows(inbox.database, table) for table in tables] == before
    assert replay_entry(inbox, entry_id, Replay(find("a", "b"))) == 2


def test_what_is_done_is_replayed_only_if_asked_for(inbox: Inbox) -> None:
    entry_id = deliver(inbox)
    assert replay_entry(inbox, entry_id, Replay(find("a", "b"))) == 0
    assert statuses(inbox) == ["done"]
    assert replay_entry(inbox, entry_id, Replay(find("a", "b"), done_too=True)) == 2
    assert run(inbox) == ["a", "b"]


def test_one_receiver_can_be_replayed(inbox: Inbox) -> None:
    entry_id = deliver(inbox, DEAD)
    assert replay_entry(inbox, entry_id, Replay(find("a", "b"), receiver="b")) == 1
    assert run(inbox) == ["b"]


def test_a_new_receiver_hears_an_older_event_by_a_replay(inbox: Inbox) -> None:
    entry_id = deliver(inbox)
    wanted = Replay(find("a", "b", "new"), receiver="new")
    assert replay_entry(inbox, entry_id, wanted) == 1
    assert run(inbox) == ["new"]
    assert replay_entry(inbox, entry_id, wanted) == 0


def test_a_renamed_receiver_takes_over(inbox: Inbox) -> None:
    entry_id = deliver(inbox, DEAD)
    wanted = Replay(find("a", "b"), receiver="a", rename="new")
    assert replay_entry(inbox, entry_id, wanted) == 1
    assert run(inbox) == ["new"]


def test_a_renamed_receiver_of_an_outcome_still_hears_it_once(inbox: Inbox) -> None:
    def outcome(receiver: str) -> Target:
        return Target("call_error", receiver, once_key("retell", "call_1", "call_error", receiver))

    body = encode(call_payload("call_ended"))
    entry_id = inbox.add(parse_event(body, received_at=inbox.clock())).entry_id
    claimed = inbox.claim_due(lambda event: [outcome("old")])
    assert claimed is not None
    inbox.advance(claimed, DEAD)
    wanted = Replay(lambda event: [outcome("new")], receiver="old", rename="new")
    assert replay_entry(inbox, entry_id, wanted) == 1
    assert run(inbox) == ["new"]
    body = encode(call_payload("call_analyzed"))
    inbox.add(parse_event(body, received_at=inbox.clock()))
    again = inbox.claim_due(lambda event: [outcome("new")])
    assert again is not None
    assert again.current is None


def test_an_event_that_nobody_heard_is_heard_by_who_is_there_now(inbox: Inbox) -> None:
    body = encode(call_payload("call_ended"))
    entry_id = inbox.add(parse_event(body, received_at=inbox.clock())).entry_id
    inbox.claim_due(lambda event: [])
    assert replay_entry(inbox, entry_id, Replay(find("a"))) == 0
    assert replay_entry(inbox, entry_id, Replay(find("a"), done_too=True)) == 1
    assert run(inbox) == ["a", "b"]


def test_an_invalid_entry_is_read_again(inbox: Inbox) -> None:
    inbox.keep_invalid(b"[]")
    inbox.keep_invalid(b'{"event":"new_at_retell","call":{"call_id":"c"}}')
    first, second = maintenance.ids(inbox, Query(status=EntryStatus.INVALID))
    assert replay_entry(inbox, first, Replay(find("a"))) == 0
    assert replay_entry(inbox, second, Replay(find("a"))) == 1
    assert statuses(inbox) == ["invalid", "pending"]
    assert rows(inbox.database)[1]["session"] == "c"
    assert run(inbox) == ["a", "b"]


def test_a_freed_body_is_not_replayed(inbox: Inbox) -> None:
    for number in (1, 2):
        body = encode(call_payload("transcript_updated", transcript=str(number)))
        inbox.add(parse_event(body, received_at=inbox.clock()))
    superseded, _ = maintenance.ids(inbox, Query())
    assert replay_entry(inbox, superseded, Replay(find("a"), done_too=True)) == 0
    assert replay_entry(inbox, 999, Replay(find("a"))) == 0


def test_what_is_replayed_while_it_runs_runs_once_more(inbox: Inbox) -> None:
    body = encode(call_payload("call_ended"))
    entry_id = inbox.add(parse_event(body, received_at=inbox.clock())).entry_id
    claimed = inbox.claim_due(find("a", "b"))
    assert claimed is not None
    inbox.advance(claimed, DONE)
    assert replay_entry(inbox, entry_id, Replay(find("a", "b"), done_too=True)) == 2
    inbox.advance(claimed, DONE)
    assert statuses(inbox) == ["pending"]
    assert run(inbox) == ["a"]


def test_a_receiver_that_does_not_hear_an_event_is_not_replayed_to(inbox: Inbox) -> None:
    body = encode(call_payload("call_ended"))
    entry_id = inbox.add(parse_event(body, received_at=inbox.clock())).entry_id
    inbox.claim_due(lambda event: [])
    assert replay_entry(inbox, entry_id, Replay(find("other"), receiver="new")) == 0
    assert replay_entry(inbox, entry_id, Replay(find("other", "new"), receiver="new")) == 1
    assert run(inbox) == ["new"]


def test_an_event_that_this_release_cannot_read_is_not_replayed(inbox: Inbox) -> None:
    entry_id = deliver(inbox, DEAD)
    change = entries.update().values(body=b"[]", compressed=False)
    inbox.database.write(lambda connection: connection.execute(change))
    assert replay_entry(inbox, entry_id, Replay(find("new"), receiver="new")) == 0


def test_what_was_not_begun_is_left_to_its_first_claim(inbox: Inbox) -> None:
    body = encode(call_payload("call_ended"))
    entry_id = inbox.add(parse_event(body, received_at=inbox.clock())).entry_id
    assert replay_entry(inbox, entry_id, Replay(find("a", "b"), receiver="a")) == 0
    assert run(inbox) == ["a", "b"]


def test_a_snapshot_is_not_replayed_behind_a_newer_one(inbox: Inbox) -> None:
    keys = [deliver(inbox, type_="transcript_updated", transcript=str(n)) for n in (1, 2)]
    wanted = Replay(find("a", "b"), done_too=True)
    assert [replay_entry(inbox, key, wanted) for key in keys] == [0, 2]
    assert run(inbox) == ["a", "b"]
    assert statuses(inbox) == ["done", "done"]


def test_what_was_invalid_and_came_again_is_delivered_once(inbox: Inbox) -> None:
    body = encode(call_payload("call_ended"))
    inbox.keep_invalid(body)  # it was cut short, and Retell sent it again
    inbox.add(parse_event(body, received_at=inbox.clock()))
    assert run(inbox) == ["a", "b"]
    (invalid,) = maintenance.ids(inbox, Query(status=EntryStatus.INVALID))
    assert replay_entry(inbox, invalid, Replay(find("a"))) == 0
    assert statuses(inbox) == ["invalid", "done"]
