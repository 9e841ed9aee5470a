"""Which calls a backfill looks at, and what of them it misses."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from backfilling import ALL, HOUR, Aftermath, OpenShop, both, fill, now, report, webhook
from databases import Clock
from retell_flask.backfill import Progress
from retell_flask.inbox.maintenance import forget
from retell_flask.inbox.pruning import prune_batch

MILLISECOND = timedelta(milliseconds=1)


# Which calls


@pytest.mark.parametrize(
    ("status", "made"),
    [
        ("ended", both(1)),
        ("error", both(1)),
        ("not_connected", both(1)),
        ("registered", []),
        ("ongoing", []),
    ],
)
def test_only_calls_that_are_over_have_events(
    shop: Aftermath, status: str, made: list[tuple[int, str]]
) -> None:
    shop.happened(1, call_status=status)
    assert shop.backfill().looked_at == bool(made)
    assert shop.made() == made


def test_calls_that_did_not_connect_have_no_start(shop: Aftermath) -> None:
    shop.happened(1, call_status="not_connected", start_timestamp=None, call_analysis=None)
    shop.happened(2, start_timestamp=None)
    assert shop.backfill(2 * HOUR) == report(looked_at=2, calls=2, events=3)
    assert shop.made() == [(1, "call_ended"), *both(2)]


def test_a_call_counts_by_its_end(shop: Aftermath, clock: Clock) -> None:
    shop.happened(1, start_timestamp=round((clock() - 5 * HOUR).timestamp() * 1000))
    assert shop.backfill(2 * HOUR).calls == 1


@pytest.mark.parametrize(
    ("grace", "ago", "found"),
    [
        (timedelta(minutes=15), timedelta(minutes=15), 1),
        (timedelta(minutes=15), timedelta(minutes=15) - MILLISECOND, 0),
        (2 * HOUR, 2 * HOUR, 1),
        (2 * HOUR, 2 * HOUR - MILLISECOND, 0),
        (timedelta(0), timedelta(0), 1),
    ],
)
def test_calls_that_ended_within_the_grace_are_left_to_retell(
    shop: Aftermath, grace: timedelta, ago: timedelta, found: int
) -> None:
    shop.happened(1, ago=ago)
    assert shop.backfill(grace=grace).calls == found


def test_the_grace_is_15_minutes_unless_another_is_given(shop: Aftermath) -> None:
    for number, minutes in enumerate((14, 15, 16)):
        shop.happened(number, ago=timedelta(minutes=minutes))
    assert shop.backfill(until=shop.inbox.clock()).calls == 2


@pytest.mark.parametrize(
    ("ago", "found"),
    [
        (3 * HOUR + MILLISECOND, 0),
        (3 * HOUR, 1),
        (2 * HOUR + MILLISECOND, 1),
        (2 * HOUR - MILLISECOND, 0),
    ],
)
def test_calls_that_ended_in_between_are_looked_at(
    shop: Aftermath, clock: Clock, ago: timedelta, found: int
) -> None:
    shop.happened(1, ago=ago)
    run = shop.backfill(clock() - 3 * HOUR, clock() - 2 * HOUR)
    assert (run.looked_at, run.calls) == (found, found)


def test_a_span_and_a_moment_say_the_same(shop: Aftermath, clock: Clock) -> None:
    shop.happened(1, ago=3 * HOUR)
    east = timezone(timedelta(hours=9))
    for since in (3 * HOUR, "3h", clock() - 3 * HOUR, (clock() - 3 * HOUR).astimezone(east)):
        assert shop.backfill(since, dry_run=True).calls == 1


def test_the_retention_is_the_longest_ago(shop: Aftermath, clock: Clock) -> None:
    shop.happened(1, ago=timedelta(days=29))
    since = clock() - timedelta(days=30)
    clock.tick(5)  # as between a command's start and its run
    assert shop.backfill(since).calls == 1
    assert shop.backfill(timedelta(days=30)).looked_at == 1


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        (timedelta(days=31), None, "too long ago"),
        (now(days=31), None, "too long ago"),
        (datetime.min.replace(tzinfo=timezone.utc), None, "too long ago"),
        (timedelta.max, None, "takes a duration"),
        (now(hours=5).replace(tzinfo=None), None, "time zone"),
        (now(hours=5), now(hours=3).replace(tzinfo=None), "time zone"),
        (now(hours=5), now(hours=5), "not before until"),
        (now(hours=5), now(hours=6), "not before until"),
        (now(minutes=15), None, "less than the grace"),
        ("10m", None, "less than the grace"),
        (timedelta(minutes=-5), None, "takes a duration"),
        (date(2026, 10, 31), None, "takes a duration"),
        ("yesterday", None, "24h"),
    ],
)
def test_times_without_an_answer_are_refused(
    shop: Aftermath, since: Any, until: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        shop.backfill(since, until)
    assert shop.api.requests == []


def test_a_shorter_retention_refuses_sooner(open_shop: OpenShop) -> None:
    shop = open_shop(RETELL_RETENTION="2d")
    shop.hear_of("agent_1")
    with pytest.raises(ValueError, match="too long ago: events from before 2026-10-30 12:00 UTC"):
        shop.backfill(timedelta(days=3))
    assert shop.backfill(timedelta(days=2)) == report()


# Whose calls


def test_agents_that_never_sent_anything_are_not_looked_at(shop: Aftermath) -> None:
    shop.happened(1)
    shop.happened(2, agent_id="agent_of_another_application")
    assert shop.backfill() == report(looked_at=1, calls=1, events=2)
    assert shop.made() == both(1)


def test_an_agent_is_heard_of_through_its_calls_and_chats(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.deliver("call_started", "call_000009", agent_id="agent_1")
    shop.deliver("chat_ended", agent_id="agent_2")
    for number in (1, 2, 3):
        shop.happened(number, agent_id=f"agent_{number}")
    shop.backfill()
    assert shop.made() == both(1, 2)


def test_an_agent_is_known_when_its_events_are_pruned(shop: Aftermath, clock: Clock) -> None:
    clock.tick(31 * 86_400)
    while prune_batch(shop.inbox, timedelta(days=30)):
        pass
    assert shop.entries() == []
    shop.happened(1)
    assert shop.backfill().calls == 1


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ({"agents": ["agent_2"]}, both(2)),
        ({"agents": ("agent_2", "agent_3")}, both(2, 3)),
        ({"agents": iter(["agent_3"])}, both(3)),
        ({"agents": "agent_3"}, both(3)),
        ({"all_agents": True}, both(1, 2, 3)),
    ],
)
def test_other_agents_can_be_named(
    shop: Aftermath, options: dict[str, Any], made: list[tuple[int, str]]
) -> None:
    for number in (1, 2, 3):
        shop.happened(number, agent_id=f"agent_{number}")
    shop.backfill(**options)
    assert shop.made() == made


def test_an_inbox_that_heard_of_nobody_needs_names(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.happened(1)
    with pytest.raises(ValueError, match="not heard of any agent"):
        shop.backfill()
    assert shop.api.requests == []
    assert shop.backfill(agents=["agent_1"]).calls == 1


def test_agents_are_not_heard_of_through_a_backfill(shop: Aftermath) -> None:
    shop.happened(1, agent_id="agent_of_another_application")
    shop.backfill(all_agents=True)
    assert shop.inbox.agents() == ["agent_1"]


# What is not missing


@pytest.mark.parametrize("types", [[type_] for type_ in ALL] + [["call_started", "call_ended"]])
def test_forgotten_calls_stay_forgotten(shop: Aftermath, types: list[str]) -> None:
    shop.happened(1, *types)
    forget(shop.inbox, "call_000001")
    assert shop.backfill() == report(looked_at=1)
    assert shop.fetched() == []
    assert shop.made() == []


@pytest.mark.parametrize("type_", ["transcript_updated", "transfer_started"])
def test_calls_of_which_only_events_in_between_came_stay_forgotten(
    shop: Aftermath, type_: str
) -> None:
    shop.happened(1, type_)
    forget(shop.inbox, "call_000001")
    shop.backfill()
    assert shop.made() == []


def test_a_call_that_is_forgotten_during_the_run_stays_forgotten(shop: Aftermath) -> None:
    shop.happened(1, "call_started", ago=2 * HOUR)
    shop.happened(2, "call_started")

    def forget_the_second(progress: Progress) -> None:
        if progress.missed is not None and progress.missed.call.call_id == "call_000001":
            forget(shop.inbox, "call_000002")

    shop.backfill(on_progress=forget_the_second)
    assert shop.made() == both(1)


def test_what_is_pruned_during_the_run_is_not_missing(shop: Aftermath, clock: Clock) -> None:
    shop.happened(1, *ALL, ago=timedelta(days=29, hours=23))
    shop.happened(2)

    def prune(progress: Progress) -> None:
        if progress.missed is None:
            clock.tick(2 * 3600)
            prune_batch(shop.inbox, timedelta(days=30))

    shop.backfill(timedelta(days=30), on_progress=prune)
    assert shop.made() == both(2)


def test_what_was_pruned_before_its_time_is_not_missing(shop: Aftermath) -> None:
    shop.happened(1, *ALL, ago=3 * HOUR)
    shop.happened(2, *ALL, ago=HOUR)
    shop.happened(3, ago=HOUR)
    prune_batch(shop.inbox, 2 * HOUR)
    with pytest.raises(ValueError, match="too long ago: events from before 2026-11-01 09:00 UTC"):
        shop.backfill()
    shop.backfill(timedelta(hours=3))
    assert shop.made() == both(3)


def test_a_longer_retention_brings_nothing_back(open_shop: OpenShop, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/retell.sqlite3"
    shop = open_shop(RETELL_INBOX_URL=url, RETELL_RETENTION="1d")
    shop.happened(1, *ALL, ago=timedelta(days=2))
    prune_batch(shop.inbox, timedelta(days=1))
    later = open_shop(RETELL_INBOX_URL=url)
    with pytest.raises(ValueError, match="too long ago"):
        later.backfill(timedelta(days=3))
    assert later.backfill(timedelta(days=2)) == report(looked_at=1)


@pytest.mark.parametrize("status", ["pending", "dead", "done"])
def test_what_is_not_done_yet_is_there(shop: Aftermath, status: str) -> None:
    call = shop.happened(1)
    fill(shop.inbox, [webhook(type_, call) for type_ in ALL], status)
    assert shop.backfill() == report(looked_at=1)
