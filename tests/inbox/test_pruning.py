"""What is old enough is deleted, in every kind of database."""

from __future__ import annotations

from datetime import timedelta

import pytest

from databases import Clock, rows
from inbox.handled import DEAD, deliver, statuses
from retell_flask import parse_event
from retell_flask.inbox import pruning
from retell_flask.inbox.store import Inbox
from retell_flask.testing import encode
from support import call_payload


def test_pruning_takes_what_is_old_and_done_in_batches(inbox: Inbox, clock: Clock) -> None:
    for number in range(3):
        deliver(inbox, call_id=f"done_{number}")
    deliver(inbox, DEAD, call_id="dead")
    inbox.keep_invalid(b"[]")
    clock.tick(86_400)
    deliver(inbox, call_id="new")
    age = timedelta(hours=24)
    assert pruning.prunable(inbox, age) == 0  # not before it is older
    clock.tick(1)
    assert pruning.prunable(inbox, age) == 3
    assert list(pruning.prune(inbox, age)) == [3]
    assert sorted(statuses(inbox)) == ["dead", "done", "invalid"]
    assert len(rows(inbox.database, "retell_delivery")) == 4


def test_batches_are_small(inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_TOGETHER", 2)
    for number in range(5):
        deliver(inbox, call_id=f"done_{number}")
    clock.tick(100)
    assert list(pruning.prune(inbox, timedelta(seconds=10))) == [2, 2, 1]


def test_whatever_delivers_prunes_by_the_way(
    inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(inbox)
    clock.tick(31 * 86_400)
    pruner = pruning.Pruner(inbox)
    pruner.prune_some()
    assert statuses(inbox) == ["done"]  # none in its first minute
    pruner._next = 0.0
    pruner.prune_some()
    assert statuses(inbox) == []


def test_a_repeat_after_pruning_is_new(inbox: Inbox, clock: Clock) -> None:
    deliver(inbox)
    clock.tick(31 * 86_400)
    list(pruning.prune(inbox, timedelta(days=30)))
    assert not inbox.add(parse_event(encode(call_payload("call_ended")))).duplicate
