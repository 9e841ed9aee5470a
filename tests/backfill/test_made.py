"""The events that a backfill makes, and the real ones that come after all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backfilling import HOUR, Aftermath, Meanwhile, both, own, report, webhook
from databases import Clock
from retell_flask import Event, RetellBlueprint
from retell_flask.inbox.maintenance import timeline
from retell_flask.testing import Capture, RetellTestClient, encode

# What is made


def test_events_are_made_of_what_retell_says(
    shop: Aftermath, captured: Capture, clock: Clock
) -> None:
    call = shop.happened(1, metadata={"größe": 1e-7, "big": 10**20, "text": "\u2028 \U0001f600"})
    shop.backfill()
    ended, analyzed = captured.events
    assert ended.payload == json.loads(ended.raw) == webhook("call_ended", call)
    assert analyzed.payload == json.loads(analyzed.raw) == webhook("call_analyzed", call)
    assert (ended.synthetic, analyzed.synthetic) == (True, True)
    assert (ended.received_at, ended.revision, ended.attempt) == (clock(), 0, 1)


def test_the_call_of_a_synthetic_event_is_complete(shop: Aftermath, captured: Capture) -> None:
    shop.happened(1)
    shop.backfill()
    event = captured.events[-1]
    assert event.call is not None
    assert event.call.transcript == "Agent: Hello\n"
    assert [item.content for item in event.call.transcript_object or ()] == ["Hello"]
    assert event.call.ended_at == shop.inbox.clock() - HOUR
    assert event.call.analysis is not None
    assert event.call.analysis.sentiment == "neutral"


def test_the_end_is_delivered_before_the_analysis(shop: Aftermath, captured: Capture) -> None:
    shop.happened(1)
    shop.backfill()
    assert own(captured) == [("call_ended", "call_000001"), ("call_analyzed", "call_000001")]
    analyses = [event.call and event.call.analysis for event in captured.events]
    assert [analysis is None for analysis in analyses] == [True, False]


@pytest.mark.parametrize(
    ("received", "made"),
    [
        ((), both(1)),
        (("call_started",), both(1)),
        (("call_ended",), [(1, "call_analyzed")]),
        (("call_analyzed",), [(1, "call_ended")]),
        (("call_ended", "call_analyzed"), []),
    ],
)
def test_only_the_event_that_is_missing_is_made(
    shop: Aftermath, received: tuple[str, ...], made: list[tuple[int, str]]
) -> None:
    shop.happened(1, *received)
    shop.backfill()
    assert shop.made() == made


def test_a_call_without_an_analysis_has_ended_and_no_more(shop: Aftermath) -> None:
    shop.happened(1, call_analysis=None)
    assert shop.backfill().events == 1
    assert shop.made() == [(1, "call_ended")]


@pytest.mark.parametrize("analysis", [None, {}, {"user_sentiment": None}, {"new_field": 1}])
def test_a_second_run_finds_nothing_whatever_the_analysis(shop: Aftermath, analysis: Any) -> None:
    shop.happened(1, call_analysis=analysis)
    shop.backfill()
    assert shop.backfill() == report(looked_at=1)
    assert len(shop.fetched()) == 1


def test_an_analysis_that_comes_between_list_and_call_counts(shop: Aftermath) -> None:
    call = shop.happened(1, call_analysis=None)
    analysis = {"call_summary": "Hello."}
    shop.api.faults.append(Meanwhile(act=lambda: call.update(call_analysis=analysis)))
    shop.backfill()
    assert shop.made() == both(1)


def test_an_analysis_that_goes_between_list_and_call_is_not_made(shop: Aftermath) -> None:
    call = shop.happened(1)
    shop.api.faults.append(Meanwhile(act=lambda: call.pop("call_analysis")))
    shop.backfill()
    assert shop.made() == [(1, "call_ended")]


@pytest.mark.parametrize(
    ("outcome", "changes"),
    [
        ("call_error", {"call_status": "error", "disconnection_reason": "error_asr"}),
        ("call_error", {"call_status": "not_connected", "disconnection_reason": "dial_busy"}),
        ("agent_transfer", {"disconnection_reason": "call_transfer"}),
        (
            "voicemail_detected",
            {"disconnection_reason": "voicemail_reached", "call_analysis": {"in_voicemail": True}},
        ),
    ],
)
@pytest.mark.parametrize("first", [(), ("call_ended",), ("call_analyzed",)])
def test_an_outcome_is_heard_once_whoever_tells_it(
    shop: Aftermath,
    captured: Capture,
    outcome: str,
    changes: dict[str, Any],
    first: tuple[str, ...],
) -> None:
    call = shop.happened(1, *first, **changes)
    shop.backfill()
    for type_ in ("call_ended", "call_analyzed"):
        shop.receive(webhook(type_, call))
    assert captured.signals.count(outcome) == 1


def test_a_real_event_that_comes_during_the_run_is_left_alone(
    shop: Aftermath, captured: Capture
) -> None:
    call = shop.happened(1)
    ended = webhook("call_ended", call)
    shop.api.faults += [Meanwhile(), Meanwhile(act=lambda: RetellTestClient(shop.app).post(ended))]
    assert shop.backfill().events == 1
    assert shop.made() == [(1, "call_analyzed")]
    assert own(captured) == [("call_ended", "call_000001"), ("call_analyzed", "call_000001")]


# When the real event comes after all


def test_the_real_event_is_a_duplicate_that_takes_its_place(
    shop: Aftermath, captured: Capture
) -> None:
    call = shop.happened(1)
    shop.backfill()
    count = len(captured)
    payload = webhook("call_ended", {**call, "call_cost": {"combined_cost": 8}})
    answer = RetellTestClient(shop.app).post(payload)
    assert answer.json == {"received": True, "duplicate": True}
    assert len(captured) == count
    assert shop.made() == [(1, "call_analyzed")]
    ended, _ = timeline(shop.inbox, "call_000001")
    assert ended.entry.body == encode(payload)
    assert shop.backfill() == report(looked_at=1)


def test_another_real_version_is_a_revision(shop: Aftermath, captured: Capture) -> None:
    call = shop.happened(1)
    shop.backfill()
    post = RetellTestClient(shop.app).post
    post(webhook("call_ended", {**call, "duration_ms": 1}))
    answer = post(webhook("call_ended", {**call, "duration_ms": 2}))
    assert answer.json == {"received": True}
    assert captured.signals[-2:] == ["event_received", "event_revised"]
    revised = captured.events[-1]
    assert (revised.revision, revised.synthetic) == (1, False)


def test_a_receiver_that_failed_is_given_the_real_event(
    retell: RetellBlueprint, shop: Aftermath
) -> None:
    seen: list[tuple[bool, Any]] = []

    @retell.on("call_ended")
    def receive(sender: Any, event: Event, **extra: Any) -> None:
        seen.append((event.synthetic, event.payload["call"]["duration_ms"]))
        if event.synthetic:
            raise RuntimeError

    call = shop.happened(1)
    assert shop.backfill().events == 2
    answer = RetellTestClient(shop.app).post(webhook("call_ended", {**call, "duration_ms": 7}))
    assert answer.json == {"received": True, "duplicate": True}
    assert seen == [(True, 30_000), (False, 7)]
