"""Thousands of calls, and a process that is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter, deque
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from backfilling import ALL, Aftermath, OpenShop, both, fill, own, report
from databases import Clock, postgresql
from retell_flask import Event, RetellBlueprint
from retell_flask.inbox.store import utc_now
from retell_flask.testing import Capture
from retellapi import Call, RetellApi, make_call
from servers import eventually
from support import KEY


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/retell.sqlite3"
        return
    with postgresql() as created:
        yield created


def short(type_: str, call: Call) -> dict[str, Any]:
    """An event of which only matters that it is there."""
    return {"event": type_, "call": {"call_id": call["call_id"]}}


@pytest.mark.parametrize(
    ("url", "count", "missed"), [("sqlite", 5000, 300), ("postgresql", 1100, 66)], indirect=["url"]
)
def test_exactly_what_is_missing_is_delivered_once(
    retell: RetellBlueprint, open_shop: OpenShop, clock: Clock, url: str, count: int, missed: int
) -> None:
    draw = random.Random(count)
    gaps = [("call_ended",), ("call_analyzed",), ("call_ended", "call_analyzed")]
    missing = {number: draw.choice(gaps) for number in draw.sample(range(count), missed)}
    shop = open_shop(RETELL_INBOX_URL=url)
    shop.hear_of("agent_1")
    calls = [make_call(number) for number in range(count)]
    shop.api.calls.update({call["call_id"]: call for call in calls})
    fill(
        shop.inbox,
        (
            short(type_, call)
            for number, call in enumerate(calls)
            for type_ in ALL
            if type_ not in missing.get(number, ())
        ),
    )
    heard: list[tuple[str, str | None, bool]] = []

    @retell.on("call_ended", "call_analyzed")
    def receive(sender: Any, event: Event, **extra: Any) -> None:
        heard.append((event.type, event.session_id, event.synthetic))

    clock.now = datetime(2026, 1, 10, tzinfo=timezone.utc)
    events = [
        (type_, f"call_{number:06}", True) for number in missing for type_ in missing[number]
    ]
    found = shop.backfill(timedelta(days=20))
    assert found == report(looked_at=count, calls=missed, events=len(events))
    assert sorted(heard) == sorted(events)
    assert Counter(shop.fetched()) == {f"call_{number:06}": 1 for number in missing}
    assert shop.backfill(timedelta(days=20)) == report(looked_at=count)
    assert len(shop.fetched()) == missed
    assert len(heard) == len(events)


def held_by_a_run(shop: Aftermath, count: int) -> int:
    """The most memory that is held at a time, where 50 of so many calls miss both events."""
    calls = [shop.happened(number) for number in range(count)]
    received = [call for number, call in enumerate(calls) if number % (count // 50)]
    fill(shop.inbox, (short(type_, call) for call in received for type_ in ALL))
    shop.api.requests = deque(maxlen=1)  # type: ignore[assignment]
    held: list[int] = []
    tracemalloc.start()
    try:
        found = shop.backfill(
            on_progress=lambda _: held.append(tracemalloc.get_traced_memory()[0])
        )
    finally:
        tracemalloc.stop()
    assert (found.looked_at, found.events) == (count, 100)
    return max(held)


def test_memory_does_not_grow_with_the_number_of_calls(open_shop: OpenShop) -> None:
    held = []
    for count in (100, 1000, 3000):  # the first fills caches
        shop = open_shop()
        shop.hear_of("agent_1")
        held.append(held_by_a_run(shop, count))
    assert held[2] < 2 * held[1]


BACKFILL = """
from datetime import timedelta

from flask import Flask

from retell_flask import RetellBlueprint

app, retell = Flask("host"), RetellBlueprint()
app.register_blueprint(retell)
with app.app_context():
    retell.backfill(timedelta(days=1))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_run_that_was_killed_is_gone_on_with(
    open_shop: OpenShop, api: RetellApi, tmp_path: Path, captured: Capture
) -> None:
    options = {"RETELL_INBOX_URL": f"sqlite:///{tmp_path}/retell.sqlite3"}
    shop = open_shop(**options)
    shop.inbox.clock = utc_now
    shop.hear_of("agent_1")
    for number in range(200):
        shop.happened(number)
    process = subprocess.Popen(
        [sys.executable, "-c", BACKFILL],
        env={
            "RETELL_API_KEY": KEY,
            "RETELL_API_URL": api.url,
            "RETELL_WORKERS": "0",  # it makes events, and delivers none
            **options,
        },
    )
    try:
        eventually(lambda: len(shop.made()) > 50, 20)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    made = shop.made()
    assert 50 < len(made) < 400
    found = shop.backfill()
    assert (found.events, found.failed) == (400 - len(made), 0)
    assert sorted(shop.made()) == sorted(both(*range(200)))
    shop.deliver_all()
    assert Counter(own(captured)) == {
        (type_, f"call_{number:06}"): 1 for number, type_ in both(*range(200))
    }
