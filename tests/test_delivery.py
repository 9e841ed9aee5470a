from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from databases import Clock, make_inbox, rows
from retell_flask import (
    Event,
    GiveUp,
    RetellBlueprint,
    Retry,
    call_ended,
    delivery,
    delivery_dead,
    delivery_failed,
    parse_event,
)
from retell_flask.delivery import Deliverer, Verdict, backoff
from retell_flask.errors import InboxError
from retell_flask.inbox.entry import Target
from retell_flask.inbox.sqlite import MemoryDatabase
from retell_flask.inbox.store import Inbox
from retell_flask.invocation import Invoker
from retell_flask.testing import capture, encode, sample
from support import call_payload


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inbox(clock: Clock) -> Iterator[Inbox]:
    database = MemoryDatabase()
    yield make_inbox(database, clock, MAX_ATTEMPTS=6)
    database.dispose()


@pytest.fixture
def deliverer(app: Flask, retell: RetellBlueprint, inbox: Inbox) -> Deliverer:
    return Deliverer(Invoker(app, retell), inbox)


@pytest.fixture
def add(inbox: Inbox) -> Callable[..., int]:
    def add(type_: str = "call_ended", **call: Any) -> int:
        body = encode(call_payload(type_, **call))
        return inbox.add(parse_event(body, received_at=inbox.clock())).entry_id

    return add


def statuses(inbox: Inbox) -> list[str]:
    return [row["status"] for row in rows(inbox.database)]


def run_all(deliverer: Deliverer) -> None:
    while deliverer.deliver_next():
        pass


def test_a_failing_receiver_is_retried_alone(
    retell: RetellBlueprint,
    deliverer: Deliverer,
    inbox: Inbox,
    clock: Clock,
    add: Callable[..., int],
) -> None:
    ran: list[str] = []
    for name in ("first", "second", "third"):

        @retell.on("call_ended", name=name)
        def receive(sender: Any, event: Event, name: str = name, **extra: Any) -> None:
            ran.append(f"{name} {event.attempt}")
            if name == "second" and event.attempt < 5:
                raise ValueError

    add()
    for _ in range(5):
        run_all(deliverer)
        clock.tick(3600)
    assert ran == [
        "first 1",
        "second 1",
        "third 1",
        "second 2",
        "second 3",
        "second 4",
        "second 5",
    ]
    assert statuses(inbox) == ["done"]


def test_after_the_last_attempt_a_delivery_is_dead_and_reported(
    retell: RetellBlueprint,
    deliverer: Deliverer,
    inbox: Inbox,
    clock: Clock,
    add: Callable[..., int],
) -> None:
    @retell.on("call_ended", name="broken")
    def broken(sender: Any, **extra: Any) -> None:
        raise ValueError("why")

    add()
    with capture(delivery_failed, delivery_dead) as reports:
        for _ in range(8):
            run_all(deliverer)
            clock.tick(3600)
    assert reports.signals == ["delivery_failed"] * 5 + ["delivery_dead"]
    assert [each.keywords["attempt"] for each in reports] == [1, 2, 3, 4, 5, 6]
    assert ["retry_at" in each.keywords for each in reports] == [True] * 5 + [False]
    (delivery,) = rows(inbox.database, "retell_delivery")
    assert (delivery["status"], delivery["error"]) == ("dead", "ValueError: why")
    assert statuses(inbox) == ["dead"]


def test_giving_up_is_dead_at_once_and_takes_no_neighbour_along(
    retell: RetellBlueprint, deliverer: Deliverer, inbox: Inbox, add: Callable[..., int]
) -> None:
    @retell.on("call_ended", name="quitter")
    def quitter(sender: Any, **extra: Any) -> None:
        raise GiveUp("no such customer")

    retell.on("call_ended", name="next")(lambda _, **extra: None)
    add()
    run_all(deliverer)
    found = rows(inbox.database, "retell_delivery")
    assert [row["status"] for row in found] == ["dead", "done"]
    assert found[0]["error"] == "no such customer"
    assert statuses(inbox) == ["dead"]


def test_a_receiver_chooses_when_it_is_tried_again(
    retell: RetellBlueprint,
    deliverer: Deliverer,
    clock: Clock,
    add: Callable[..., int],
) -> None:
    attempts: list[int] = []

    @retell.on("call_ended")
    def later(sender: Any, event: Event, **extra: Any) -> None:
        attempts.append(event.attempt)
        raise Retry(after=timedelta(minutes=10))

    add()
    run_all(deliverer)
    clock.tick(599)
    run_all(deliverer)
    assert attempts == [1]
    clock.tick(1)
    run_all(deliverer)
    assert attempts == [1, 2]


@pytest.mark.parametrize("after", [-5, 10**9 * 60])
def test_no_wish_for_a_retry_is_out_of_range(
    after: float,
    retell: RetellBlueprint,
    deliverer: Deliverer,
    inbox: Inbox,
    clock: Clock,
    add: Callable[..., int],
) -> None:
    @retell.on("call_ended")
    def later(sender: Any, **extra: Any) -> None:
        raise Retry(after=after)

    add()
    assert deliverer.deliver_next()
    (row,) = rows(inbox.database)
    assert clock() <= row["next_attempt_at"] <= clock() + timedelta(days=365)


def test_the_backoff_grows_from_5_seconds_to_an_hour_with_jitter() -> None:
    for attempts in (1, 2, 5, 30):
        longest = min(5 * 2**attempts, 3600)
        drawn = {backoff(attempts).total_seconds() for _ in range(200)}
        assert len(drawn) > 100
        assert 5 <= min(drawn) < 5 + 0.2 * longest
        assert 0.8 * longest < max(drawn) <= longest


def test_a_receiver_that_is_not_connected_here_is_a_failed_attempt_and_never_done(
    retell: RetellBlueprint,
    deliverer: Deliverer,
    inbox: Inbox,
    clock: Clock,
    add: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    @retell.on("call_ended", name="old")
    def old(sender: Any, **extra: Any) -> None:
        raise ValueError

    add()
    run_all(deliverer)
    call_ended.disconnect(old, sender=retell)
    retell.on("call_ended", name="new")(lambda _, **extra: pytest.fail("was not there"))
    for _ in range(8):
        clock.tick(3600)
        run_all(deliverer)
    (delivery,) = rows(inbox.database, "retell_delivery")
    assert (delivery["receiver"], delivery["status"], delivery["attempts"]) == ("old", "dead", 6)
    assert "old is not connected here" in delivery["error"]
    assert "replay --receiver old --as NEW" in caplog.text


def test_a_new_receiver_hears_what_was_not_begun(
    retell: RetellBlueprint, deliverer: Deliverer, add: Callable[..., int]
) -> None:
    ran: list[str] = []
    add()
    retell.on("call_ended")(lambda _, event, **extra: ran.append(event.type))
    run_all(deliverer)
    assert ran == ["call_ended"]


def test_an_outcome_is_heard_once_per_call_whichever_event_carries_it(
    retell: RetellBlueprint, deliverer: Deliverer, inbox: Inbox
) -> None:
    heard: list[tuple[str, str]] = []
    for name in ("a", "b"):

        @retell.on("voicemail_detected", name=name)
        def receive(sender: Any, event: Event, name: str = name, **extra: Any) -> None:
            heard.append((name, event.type))

    ended = call_payload("call_ended", disconnection_reason="voicemail_reached")
    analyzed = call_payload("call_analyzed", call_analysis={"in_voicemail": True})
    for payload in (analyzed, ended):
        inbox.add(parse_event(encode(payload), received_at=inbox.clock()))
    run_all(deliverer)
    assert heard == [("a", "call_ended"), ("b", "call_ended")]
    assert statuses(inbox) == ["done", "done"]


def test_a_revision_is_no_second_event_of_its_type(
    retell: RetellBlueprint, deliverer: Deliverer, add: Callable[..., int]
) -> None:
    heard: list[tuple[str, int]] = []
    for name in ("event_received", "call_analyzed", "event_revised", "voicemail_detected"):

        @retell.on(name, name=name)
        def receive(sender: Any, event: Event, name: str = name, **extra: Any) -> None:
            heard.append((name, event.revision))

    add("call_ended")
    for number in range(3):
        add("call_analyzed", call_analysis={"in_voicemail": bool(number), "call_summary": "s"})
        add("call_analyzed", call_analysis={"call_summary": str(number)})
    run_all(deliverer)
    assert [each for each in heard if each[0] == "call_analyzed"] == [("call_analyzed", 0)]
    revised = [revision for name, revision in heard if name == "event_revised"]
    assert revised == [1, 2, 3, 4]
    assert "voicemail_detected" not in dict(heard)


def test_what_is_muted_at_the_claim_is_not_delivered(
    retell: RetellBlueprint, deliverer: Deliverer, inbox: Inbox, add: Callable[..., int]
) -> None:
    retell.on("call_ended")(lambda _, **extra: pytest.fail("was muted"))
    add()
    with call_ended.muted():
        run_all(deliverer)
    assert statuses(inbox) == ["done"]


def test_nobody_listening_is_one_line_per_type(
    deliverer: Deliverer, add: Callable[..., int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(3):
        add(call_id=f"call_{number}")
    run_all(deliverer)
    assert caplog.text.count("Nobody listens to call_ended") == 1


@pytest.mark.parametrize(("reason", "told"), [("", ""), ("Busy.", ": Busy.")])
def test_a_failure_says_in_the_log_what_follows(
    retell: RetellBlueprint,
    deliverer: Deliverer,
    add: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
    reason: str,
    told: str,
) -> None:
    @retell.on("call_ended", name="store")
    def store(sender: Any, **extra: Any) -> None:
        raise Retry(after=7, reason=reason)

    add()
    run_all(deliverer)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"store wants call_ended of call_1 again{told}; attempt 1 of 6, next in 7 s"


def test_an_interrupt_gives_the_entry_back(
    retell: RetellBlueprint, deliverer: Deliverer, inbox: Inbox, add: Callable[..., int]
) -> None:
    @retell.on("call_ended")
    def interrupted(sender: Any, **extra: Any) -> None:
        raise KeyboardInterrupt

    add()
    with pytest.raises(KeyboardInterrupt):
        deliverer.deliver_next()
    assert statuses(inbox) == ["pending"]
    (delivery,) = rows(inbox.database, "retell_delivery")
    assert (delivery["status"], delivery["attempts"]) == ("pending", 1)


def test_a_result_waits_until_it_is_recorded(
    retell: RetellBlueprint,
    deliverer: Deliverer,
    inbox: Inbox,
    add: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []
    tries: list[str] = []
    advance = inbox.advance

    def outage(*arguments: Any, **keywords: Any) -> Any:
        tries.append("try")
        if len(tries) < 3:
            raise InboxError("gone")
        return advance(*arguments, **keywords)

    monkeypatch.setattr(inbox, "advance", outage)
    retell.on("call_ended")(lambda _, **extra: ran.append("ran"))
    add()
    run_all(deliverer)
    assert (ran, len(tries), statuses(inbox)) == (["ran"], 3, ["done"])


def test_one_entry_is_delivered_at_once(
    retell: RetellBlueprint, deliverer: Deliverer, add: Callable[..., int]
) -> None:
    fails = [True]

    @retell.on("call_analyzed")
    def sometimes(sender: Any, **extra: Any) -> None:
        if fails.pop():
            raise ValueError

    entry_id = add("call_analyzed")  # no call_ended is there, and nobody waits for it
    assert deliverer.deliver_entry(entry_id) is Verdict.FAILED
    fails.append(False)
    assert deliverer.deliver_entry(entry_id) is Verdict.FINISHED
    assert deliverer.deliver_entry(entry_id) is Verdict.FINISHED
    assert fails == []


def test_one_entry_that_runs_elsewhere_is_busy(
    deliverer: Deliverer, inbox: Inbox, add: Callable[..., int]
) -> None:
    first, second = add("call_started"), add("call_ended")
    inbox.claim_entry(first, lambda event: [])  # ended at once
    assert deliverer.deliver_entry(first) is Verdict.FINISHED
    third = add("call_analyzed")
    inbox.claim_entry(second, lambda event: [Target("call_ended", "slow")])
    assert deliverer.deliver_entry(second) is Verdict.BUSY
    assert deliverer.deliver_entry(third) is Verdict.BUSY


def test_attempts_share_what_was_parsed(
    retell: RetellBlueprint, deliverer: Deliverer, inbox: Inbox
) -> None:
    events: list[Event] = []
    for name in ("a", "b"):
        retell.on("call_ended", name=name)(lambda _, event, **extra: events.append(event))
    inbox.add(parse_event(encode(sample("call_ended")), received_at=inbox.clock()))
    run_all(deliverer)
    first, second = events
    assert first is second
    assert first.received_at == inbox.clock()
    assert first.raw == encode(sample("call_ended"))


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


@pytest.mark.parametrize("error", [Mute(), ValueError("x\0\ud800" * 10_000), Retry()])
def test_an_exception_that_says_nothing_sensible_is_a_failure_like_others(
    error: Exception,
    retell: RetellBlueprint,
    deliverer: Deliverer,
    inbox: Inbox,
    add: Callable[..., int],
) -> None:
    if isinstance(error, Retry):
        error.after = "soon"  # type: ignore[assignment]

    @retell.on("call_ended", name="odd")
    def odd(sender: Any, **extra: Any) -> None:
        raise error

    retell.on("call_ended", name="next")(lambda _, **extra: None)
    add()
    assert deliverer.deliver_next()
    found = rows(inbox.database, "retell_delivery")
    assert [row["status"] for row in found] == ["pending", "done"]
    assert len(found[0]["error"]) <= 1000


def test_a_log_handler_that_fails_loses_no_result(
    retell: RetellBlueprint,
    deliverer: Deliverer,
    inbox: Inbox,
    add: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def broken(*arguments: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("retell_flask.delivery.log_outcome", broken)
    for name in ("a", "b"):
        retell.on("call_ended", name=name)(lambda _, name=name, **extra: ran.append(name))
    add()
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            deliverer.deliver_next()
    assert ran == ["a", "b"]
    assert statuses(inbox) == ["done"]


def test_a_slow_report_keeps_the_lease(
    app: Flask, retell: RetellBlueprint, add: Callable[..., int], inbox: Inbox, clock: Clock
) -> None:
    held: list[int] = []
    deliverer = Deliverer(Invoker(app, retell), inbox)
    for _ in range(6):
        add()
        inbox.claim_due(lambda event: [Target("call_ended", "killer")])
        clock.tick(60)

    def report(sender: Any, **about: Any) -> None:
        held.append(len(deliverer._keeper._leases))

    with delivery_dead.connected_to(report):
        run_all(deliverer)
    assert held == [1]


def test_whatever_delivers_prunes_by_the_way(
    deliverer: Deliverer, inbox: Inbox, clock: Clock, add: Callable[..., int]
) -> None:
    add()
    run_all(deliverer)
    clock.tick(31 * 86_400)
    deliverer._pruner._next = 0.0
    assert deliverer.deliver_entry(add(call_id="another")) is Verdict.FINISHED
    assert [row["session"] for row in rows(inbox.database)] == ["another"]


def test_an_outcome_that_was_heard_before_is_not_unheard(
    retell: RetellBlueprint,
    deliverer: Deliverer,
    add: Callable[..., int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    retell.on("agent_transfer")(lambda _, **extra: None)
    add("transfer_started")
    add("call_ended", disconnection_reason="call_transfer")
    run_all(deliverer)
    assert "Nobody listens" not in caplog.text


def test_on_a_cluster_a_result_waits_for_the_inbox_longer_than_a_lease(
    retell: RetellBlueprint,
    deliverer: Deliverer,
    inbox: Inbox,
    add: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs, waited = [], []

    @retell.on("call_ended", name="store")
    def store(sender: Any, event: Any, **extra: Any) -> None:
        runs.append(event.attempt)

    advance, an_hour = inbox.advance, inbox.settings.lease.total_seconds() * 60

    def fail_for_an_hour(*arguments: Any, **named: Any) -> Any:
        if len(waited) < 3:
            waited.append(an_hour)
            raise InboxError("down")
        return advance(*arguments, **named)

    monkeypatch.setattr(inbox, "advance", fail_for_an_hour)
    monkeypatch.setattr(delivery, "_OUTAGE_PAUSE_SECONDS", 0)
    monkeypatch.setattr(delivery, "time", SimpleNamespace(monotonic=lambda: sum(waited)))
    assert deliverer.deliver_due(add()) is None
    assert runs == [1]
    assert statuses(inbox) == ["done"]
