"""Where a backfill runs, and what it says."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from backfilling import (
    ALL,
    HOUR,
    Aftermath,
    Meanwhile,
    OpenShop,
    both,
    break_calls,
    fill,
    now,
    own,
    report,
    webhook,
)
from databases import Clock
from retell_flask import (
    BackfillReport,
    ConfigurationError,
    Event,
    KeyRefused,
    RetellBlueprint,
    backfilled,
)
from retell_flask.backfill import Progress
from retell_flask.dispatch.threads import Threads
from retell_flask.testing import Capture
from retellapi import Reply, RetellApi
from servers import eventually
from support import KEY, make_app

# Where it runs


def test_without_an_inbox_nothing_can_be_missing(retell: RetellBlueprint, api: RetellApi) -> None:
    app = make_app(retell, RETELL_INBOX_URL="", RETELL_API_URL=api.url)
    with app.app_context(), pytest.raises(ConfigurationError, match="needs an inbox"):
        retell.backfill(HOUR)


def test_a_test_does_not_ask_retell(open_shop: OpenShop) -> None:
    shop = open_shop(RETELL_API_URL=None)
    with pytest.raises(ConfigurationError, match="RETELL_API_URL"):
        shop.backfill(agents=["agent_1"])


def test_it_is_for_the_current_application(shop: Aftermath, retell: RetellBlueprint) -> None:
    with pytest.raises(RuntimeError, match="app_context"):
        retell.backfill(HOUR)
    with make_app().app_context(), pytest.raises(ConfigurationError, match="not registered"):
        retell.backfill(HOUR)


def test_a_receiver_that_fails_stops_nothing(
    retell: RetellBlueprint, shop: Aftermath, caplog: pytest.LogCaptureFixture
) -> None:
    @retell.on("call_ended")
    def receive(sender: Any, event: Event, **extra: Any) -> None:
        raise RuntimeError("later")

    shop.happened(1)
    shop.happened(2)
    found = shop.backfill()
    assert (found.events, found.pending) == (4, 2)
    assert shop.statuses() == ["done", *["pending", "done"] * 2]


def test_threads_deliver_what_is_made(
    open_shop: OpenShop, tmp_path: Path, captured: Capture
) -> None:
    url = f"sqlite:///{tmp_path}/retell.sqlite3"
    shop = open_shop(RETELL_INBOX_URL=url, RETELL_DISPATCH="threads", RETELL_WORKERS=2)
    shop.hear_of("agent_1")
    threads = shop.state.dispatcher
    assert isinstance(threads, Threads)
    threads.start()
    try:
        for number in range(5):
            shop.happened(number)
        assert shop.backfill().events == 10
        eventually(lambda: len(own(captured)) == 10)
    finally:
        threads.stop()
    for call_id in shop.api.calls:
        types = [type_ for type_, session in own(captured) if session == call_id]
        assert types == ["call_ended", "call_analyzed"]


def test_two_runs_at_once_make_each_event_once(shop: Aftermath, captured: Capture) -> None:
    for number in range(30):
        shop.happened(number)
    reports: list[BackfillReport] = []
    threads = [threading.Thread(target=lambda: reports.append(shop.backfill())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.events for each in reports) == 60
    assert sorted(shop.made()) == sorted(both(*range(30)))
    shop.deliver_all()  # what had to wait while another event of its call ran
    assert Counter(own(captured)) == {
        (type_, f"call_{number:06}"): 1 for number, type_ in both(*range(30))
    }


# What is said of it


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_run_is_told_by_signal_and_warning(
    shop: Aftermath,
    retell: RetellBlueprint,
    captured: Capture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop.happened(1)
    shop.happened(2, *ALL)
    shop.backfill(4 * HOUR)
    (told,) = captured.of(backfilled)
    assert told.sender is retell
    assert told.keywords == {
        "since": now(hours=4),
        "until": now(minutes=15),
        "looked_at": 2,
        "events": 2,
    }
    (warning,) = warnings(caplog)
    assert "2 events of 1 calls" in warning
    assert "from 2026-11-01 08:00 to 2026-11-01 11:45 UTC" in warning


def test_a_run_that_finds_nothing_is_told_by_signal_alone(
    shop: Aftermath, captured: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    shop.happened(1, *ALL)
    shop.backfill()
    (told,) = captured.of(backfilled)
    assert (told.keywords["looked_at"], told.keywords["events"]) == (1, 0)
    assert warnings(caplog) == []


def test_a_run_that_breaks_off_tells_what_it_made(
    shop: Aftermath, captured: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    shop.happened(1)
    shop.happened(2)
    shop.api.faults += [Meanwhile(), Meanwhile(), Reply(401)]
    with pytest.raises(KeyRefused):
        shop.backfill()
    (told,) = captured.of(backfilled)
    assert (told.keywords["looked_at"], told.keywords["events"]) == (2, 2)
    (warning,) = warnings(caplog)
    assert "Backfill: 2 events of 1 calls" in warning


def test_a_run_that_breaks_off_before_it_made_something_says_nothing(
    shop: Aftermath, captured: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    shop.happened(1)
    shop.api.faults += [Meanwhile(), Reply(401)]
    with pytest.raises(KeyRefused):
        shop.backfill()
    assert captured.of(backfilled) == []
    assert warnings(caplog) == []


def test_the_warning_is_in_utc(
    shop: Aftermath, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    shop.happened(1)
    since = (clock() - 4 * HOUR).astimezone(timezone(timedelta(hours=9)))
    shop.backfill(since, clock() - HOUR)
    assert "from 2026-11-01 08:00 to 2026-11-01 11:00 UTC" in caplog.text


def test_a_receiver_of_the_signal_cannot_spoil_the_run(
    retell: RetellBlueprint, shop: Aftermath, caplog: pytest.LogCaptureFixture
) -> None:
    @retell.on(backfilled)
    def receive(sender: Any, **extra: Any) -> None:
        raise RuntimeError("of the host's")

    assert shop.backfill() == report()
    assert "of the host's" in caplog.text


def test_log_lines_say_nothing_of_what_was_said(
    shop: Aftermath, slept: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for number in (1, 2, 3):
        shop.happened(number, transcript="Secret", metadata=7, to_number="+14155550188")
    break_calls(shop.api, 2, status=200, body={"call_id": 7, "transcript": "Secret"})
    shop.api.faults += [Meanwhile(), *[Reply(429)] * 4]
    assert shop.backfill().failed == 1
    ours = [record for record in caplog.records if record.name.startswith("retell_flask")]
    text = "\n".join(record.getMessage() for record in ours)
    assert "Backfill" in text
    assert not any(each in text for each in ("Secret", "Hello", "+1415", KEY))


def test_a_dry_run_makes_nothing(
    shop: Aftermath, captured: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    shop.happened(1)
    shop.happened(2, "call_analyzed")
    shop.happened(3, *ALL)
    captured.clear()
    found = shop.backfill(dry_run=True)
    assert found == report(looked_at=3, calls=2, events=3)
    assert (shop.made(), shop.fetched(), captured) == ([], [], [])
    assert warnings(caplog) == []
    assert shop.backfill() == found


@pytest.mark.parametrize("dry_run", [False, True])
def test_progress_names_each_call_that_missed_something(shop: Aftermath, dry_run: bool) -> None:
    shop.happened(1, ago=3 * HOUR)
    shop.happened(2, *ALL, ago=2 * HOUR)
    shop.happened(3, "call_ended")
    seen: list[Progress] = []
    shop.backfill(dry_run=dry_run, on_progress=seen.append)
    assert [(at.looked_at, at.events, at.reached) for at in seen] == [
        (3, 0, now(hours=1)),
        (3, 2, now(hours=1)),
        (3, 3, now(hours=1)),
    ]
    assert seen[0].missed is None
    assert [(at.missed.call.call_id, at.missed.types) for at in seen if at.missed] == [
        ("call_000001", ["call_ended", "call_analyzed"]),
        ("call_000003", ["call_analyzed"]),
    ]


def test_progress_goes_on_where_nothing_is_missing(shop: Aftermath) -> None:
    minutes = timedelta(minutes=1)
    calls = [shop.happened(number, ago=20 * HOUR - number * minutes) for number in range(450)]
    fill(shop.inbox, (webhook(type_, call) for call in calls for type_ in ALL))
    seen: list[Progress] = []
    shop.backfill(on_progress=seen.append)
    assert seen[-1] == Progress(450, 0, now(hours=20) + 449 * minutes)
    assert len(seen) > 2
    assert seen == sorted(seen, key=lambda at: (at.looked_at, at.reached))
