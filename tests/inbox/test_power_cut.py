"""At the default settings no acknowledged event is lost when the power goes."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from databases import fallback, make_inbox
from powercut import PowerCut, Snapshot, states
from retell_flask import parse_event
from retell_flask.inbox.entry import DeliveryStatus, Result, Target
from retell_flask.inbox.sqlite import FileDatabase
from retell_flask.inbox.store import Inbox, utc_now
from retell_flask.testing import encode
from support import call_payload

THREADS = 3
EVENTS = 12


def receive(
    inbox: Inbox, power: PowerCut, acknowledged: list[tuple[str, int]], first: int
) -> None:
    """Events one by one, each delivered and recorded, as a server does."""
    for number in range(first, first + EVENTS):
        payload = call_payload("call_ended", call_id=f"call_{number}", transcript="x " * 3000)
        event = parse_event(encode(payload))
        inbox.add(event)
        acknowledged.append((event.id, power.operations))
        claim = inbox.claim_due(lambda event: [Target("call_ended", "a")])
        if claim is not None:
            inbox.advance(claim, Result(DeliveryStatus.DONE))


def left_by(snapshot: Snapshot, live: Path, directory: Path) -> set[str]:
    snapshot.restore(live, directory)
    path = directory / "inbox.sqlite3"
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        made = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'retell_event'")
        if made.fetchone() is None:  # before the first receipt
            return set()
        return {key for (key,) in connection.execute("SELECT event_id FROM retell_event")}


@pytest.mark.parametrize("kind", ["fixed", "affected"])
def test_no_acknowledged_event_is_lost(kind: str, tmp_path: Path) -> None:
    if kind == "fixed":
        pytest.importorskip("pysqlite3")
    live = tmp_path / "live"
    path = live / "inbox.sqlite3"
    database = fallback(path) if kind == "affected" else FileDatabase(path)
    snapshots: list[Snapshot] = []
    acknowledged: list[tuple[str, int]] = []
    with PowerCut(database._module, snapshots.append) as power:
        inbox = make_inbox(database, utc_now)  # type: ignore[arg-type]
        threads = [
            threading.Thread(target=receive, args=(inbox, power, acknowledged, 100 * n))
            for n in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        database.dispose()
    assert len(acknowledged) == THREADS * EVENTS
    cuts = list(states(snapshots))
    assert len(cuts) > len(acknowledged) / 2
    for number, snapshot in enumerate(cuts):
        owed = {event_id for event_id, at in acknowledged if at <= snapshot.number}
        assert owed <= left_by(snapshot, live, tmp_path / f"cut_{number}")


def test_the_setting_that_trades_it_away_does(tmp_path: Path) -> None:
    pytest.importorskip("pysqlite3")
    live = tmp_path / "live"
    database = FileDatabase(live / "inbox.sqlite3", "NORMAL")
    snapshots: list[Snapshot] = []
    acknowledged: list[tuple[str, int]] = []
    with PowerCut(database._module, snapshots.append) as power:
        receive(make_inbox(database, utc_now), power, acknowledged, 0)  # type: ignore[arg-type]
        left = left_by(snapshots[-1], live, tmp_path / "cut")
        database.dispose()
    assert len(left) < len(acknowledged)
