"""Many workers at once, each with connections of its own."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from databases import make_inbox, open_kind, rows
from retell_flask import Event, parse_event
from retell_flask.inbox.database import Database, connect_to_server
from retell_flask.inbox.entry import Claim, DeliveryStatus, Result, Target, once_key
from retell_flask.inbox.sqlite import FileDatabase
from retell_flask.inbox.store import Inbox, utc_now
from retell_flask.testing import encode
from retell_flask.values import inbox_url
from support import call_payload

WORKERS = 8
CALLS = 25
TYPES = ("call_started", "transfer_started", "call_ended", "call_analyzed", "new_event")


class Run(NamedTuple):
    session: str | None
    type: str
    signal: str
    began: float
    ended: float


def find_targets(event: Event) -> list[Target]:
    """Its own receiver, and one of an outcome that every event of the call carries."""
    session = event.session_id or ""
    key = once_key("retell", session, "agent_transfer", "once")
    return [Target(event.type, "own"), Target("agent_transfer", "once", key)]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_again(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgresql_url: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], Inbox]]:
    """The same inbox through connections of its own, as another process has it.

    They wait longer for each other than a server may: a disk can be slow.
    """
    for name in ("database.PATIENCE", "sqlite.PATIENCE", "store.PATIENCE", "store._LONGEST"):
        monkeypatch.setattr(f"retell_flask.inbox.{name}_SECONDS", 60)
    first = open_kind(request.param, tmp_path, postgresql_url)
    databases: list[Database] = [first]

    def open_again() -> Inbox:
        if isinstance(first, FileDatabase):
            database: Database = FileDatabase(first.path)
        else:
            url = inbox_url(postgresql_url())
            assert not isinstance(url, str)
            database = connect_to_server(url)  # type: ignore[arg-type]
        databases.append(database)
        return make_inbox(database, utc_now, ORDER_WAIT=0)  # type: ignore[arg-type]

    yield open_again
    for database in databases:
        database.dispose()


def together(work: Callable[[], None], count: int = WORKERS) -> None:
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert errors == []


def test_eight_workers_never_run_two_events_of_a_call_at_once(
    open_again: Callable[[], Inbox],
) -> None:
    inbox = open_again()
    events = [
        parse_event(encode(call_payload(type_, call_id=f"call_{number}")))
        for number in range(CALLS)
        for type_ in TYPES
    ]
    random.Random(1).shuffle(events)
    for event in events:
        inbox.add(event)
    runs: list[Run] = []

    def work() -> None:
        mine = open_again()
        idle = 0
        while idle < 5:
            claim = mine.claim_due(find_targets)
            idle = idle + 1 if claim is None else 0
            if claim is None:
                time.sleep(0.01)
            while claim and claim.current:
                began = time.monotonic()
                time.sleep(0.001)
                entry = claim.entry
                run = Run(entry.session, entry.type, claim.current.signal, began, time.monotonic())
                runs.append(run)
                mine.advance(claim, Result(DeliveryStatus.DONE))

    together(work)
    assert {row["status"] for row in rows(inbox.database)} == {"done"}
    own = Counter((run.session, run.type) for run in runs if run.signal == run.type)
    assert set(own.values()) == {1}
    assert len(own) == CALLS * len(TYPES)
    once = Counter(run.session for run in runs if run.signal == "agent_transfer")
    assert set(once.values()) == {1}
    assert len(once) == CALLS
    for session in once:
        times = sorted((run.began, run.ended) for run in runs if run.session == session)
        assert all(ended <= began for (_, ended), (began, _) in pairwise(times))


def test_twins_are_one_entry(open_again: Callable[[], Inbox]) -> None:
    event = parse_event(encode(call_payload("call_ended")))
    start = threading.Barrier(WORKERS)
    fresh: list[bool] = []

    def work() -> None:
        mine = open_again()
        mine.check()
        start.wait()
        fresh.append(not mine.add(event).duplicate)

    together(work)
    assert Counter(fresh) == {True: 1, False: WORKERS - 1}
    assert len(rows(open_again().database)) == 1


def test_revisions_that_come_together_are_numbered_apart(open_again: Callable[[], Inbox]) -> None:
    start = threading.Barrier(WORKERS)
    numbers = iter(range(WORKERS))

    def work() -> None:
        payload = call_payload("call_analyzed", duration_ms=next(numbers))
        mine = open_again()
        mine.check()
        start.wait()
        mine.add(parse_event(encode(payload)))

    together(work)
    revisions = [row["revision"] for row in rows(open_again().database)]
    assert sorted(revisions) == list(range(WORKERS))


def test_one_entry_is_claimed_by_one(open_again: Callable[[], Inbox]) -> None:
    inboxes = [open_again() for _ in range(4)]
    for number in range(20):
        event = parse_event(encode(call_payload("call_ended", call_id=f"call_{number}")))
        entry_id = inboxes[0].add(event).entry_id
        claims: list[object] = []
        start = threading.Barrier(len(inboxes))
        threads = [
            threading.Thread(target=claim_entry, args=(inbox, entry_id, start, claims))
            for inbox in inboxes
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert [isinstance(claim, Claim) for claim in claims].count(True) == 1
        assert len(claims) == len(inboxes)


def claim_entry(
    inbox: Inbox, entry_id: int, start: threading.Barrier, claims: list[object]
) -> None:
    start.wait()
    claims.append(inbox.claim_entry(entry_id, find_targets))
