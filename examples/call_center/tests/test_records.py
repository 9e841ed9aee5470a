"""What a call's row says after events that no scenario has, in every order."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from flask import Flask
from msgspec.structs import replace

from call_center import create_app, records
from call_center.models import Call, create_tables, db
from retell_flask import parse_event
from retell_flask.testing import RetellTestClient, encode, renew, sample

MOST_ORDERS = 24
FIRST, SECOND = "+14155550163", "+14155550164"


def transfer(name: str, to: str) -> tuple[str, dict[str, Any]]:
    return name, {"transfer_destination.number": to}


def ended(reason: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    return "call_ended", {"disconnection_reason": reason, **changes}


def snapshot(*said: str) -> tuple[str, dict[str, Any]]:
    items = [{"role": "agent", "content": content} for content in said]
    return "transcript_updated", {"transcript_with_tool_calls": items}


NO_LISTS = {"transcript_object": None, "transcript_with_tool_calls": None}
SPOKEN = [
    {"role": "agent", "content": "Hello.", "start": None},
    {"role": "user", "content": "Hi!", "start": None},
]
TOLD = {
    "a second transfer": (
        [
            ("call_started", {}),
            transfer("transfer_started", FIRST),
            transfer("transfer_cancelled", FIRST),
            transfer("transfer_bridged", SECOND),
            ended("call_transfer", transfer_destination=SECOND),
        ],
        {"outcome": "transferred", "transferred_to": SECOND},
    ),
    "a transfer whose beginning is told late": (
        [
            transfer("transfer_started", FIRST),
            transfer("transfer_bridged", SECOND),
            ended("user_hangup"),
        ],
        {"outcome": "transferred", "transferred_to": SECOND},
    ),
    "a transfer of which nobody said that it was cancelled": (
        [transfer("transfer_started", FIRST), ended("user_hangup")],
        {"outcome": "completed", "transferred_to": FIRST},
    ),
    "a transfer by its older name": (
        [("agent_transfer", {}), ended("agent_hangup")],
        {"outcome": "transferred", "transferred_to": "+14155550163"},
    ),
    "a transfer that was cancelled, and one that is under way": (
        [
            transfer("transfer_started", FIRST),
            transfer("transfer_cancelled", FIRST),
            transfer("transfer_bridged", SECOND),
        ],
        {"outcome": "running", "transfer": "done", "transferred_to": SECOND},
    ),
    "a voicemail that was left a message": (
        [("call_started", {}), ("voicemail_detected", {}), ended("agent_hangup")],
        {"outcome": "voicemail"},
    ),
    "an analysis that tells of the voicemail": (
        [ended("agent_hangup"), ("call_analyzed", {"call_analysis.in_voicemail": True})],
        {"outcome": "voicemail"},
    ),
    "a voicemail that the analysis did not recognise": (
        [
            ended("voicemail_reached"),
            ("call_analyzed", {"disconnection_reason": "voicemail_reached"}),
        ],
        {"outcome": "voicemail"},
    ),
    "a longer snapshot and a shorter one": (
        [
            snapshot("Hello."),
            snapshot("Hello.", "Hi!", "How can I help?"),
            snapshot("Hello.", "Hi!"),
        ],
        {"outcome": "running", "turn_count": 3},
    ),
    "a snapshot in the middle of a sentence": (
        [snapshot("Hello."), snapshot("Hello. How can"), snapshot("Hello. How can I help?")],
        {"turns": [{"role": "agent", "content": "Hello. How can I help?", "start": None}]},
    ),
    "an analysis alone, of a call that did not connect": (
        [("call_analyzed_no_answer", {})],
        {"outcome": "failed", "error_code": "dial_no_answer"},
    ),
    "an error by its older name": (
        [("call_started", {}), ("call_error", {})],
        {"outcome": "failed", "has_ended": True},
    ),
    "a failure without a reason": (
        [("call_started", {}), ended(None, call_status="error")],  # type: ignore[arg-type]
        {"outcome": "failed", "error_code": "unknown"},
    ),
    "a transcript without a list of what was said": (
        [
            ("call_started", {}),
            ended("user_hangup", transcript="Agent: Hello.\nUser: Hi!", **NO_LISTS),
        ],
        {"turn_count": 2, "turns": SPOKEN},
    ),
    "an agent that handed over to another": (
        [("call_started", {"agent_id": "agent_1"}), ended("user_hangup", agent_id="agent_2")],
        {"outcome": "completed", "agent_id": "agent_2"},
    ),
}


@pytest.fixture
def database_url(either_database: str) -> str:
    return either_database


@pytest.fixture
def tell(app: Flask, retell_client: RetellTestClient) -> Callable[..., Call]:
    """Post events of one call, and then all of them again; read its row."""

    def tell(call_id: str, *told: tuple[str, dict[str, Any]]) -> Call:
        bodies = [
            encode(renew(sample(name, **changes), session_id=call_id)) for name, changes in told
        ]
        for body in bodies * 2:
            assert retell_client.post(body).status_code == 200
        with app.app_context():
            return db.get_or_404(Call, call_id)

    return tell


@pytest.mark.parametrize("what", TOLD)
def test_a_call_comes_to_the_same_in_every_order(what: str, tell: Callable[..., Call]) -> None:
    told, expected = TOLD[what]
    orders = [*permutations(told)]
    for number, order in enumerate(random.Random(0).sample(orders, min(len(orders), MOST_ORDERS))):
        call = tell(f"call_{number}", *order)
        assert {name: getattr(call, name) for name in expected} == expected, order


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{"role": "node_transition", "new_node_name": "Greeting"}],
        [{"role": "dtmf", "digit": "1"}],
    ],
)
def test_a_snapshot_in_which_nobody_speaks_is_no_fault(
    items: list[Any], tell: Callable[..., Call]
) -> None:
    call = tell("call_1", ("transcript_updated", {"transcript_with_tool_calls": items}))
    assert (call.outcome, call.turns, call.turn_count) == ("running", [], 0)


def test_what_was_said_is_not_taken_back(tell: Callable[..., Call]) -> None:
    silent = {"transcript": "", "transcript_object": [], "transcript_with_tool_calls": []}
    call = tell("call_1", ("call_ended", {}), ("call_started", {"transcript": ""}))
    again = tell("call_1", ("transcript_updated", silent))
    assert (again.transcript, again.turns) == (call.transcript, call.turns)
    assert call.turn_count == 6


def test_an_analysis_that_was_made_again_goes_before_the_first(
    app: Flask, retell_client: RetellTestClient, tell: Callable[..., Call]
) -> None:
    summary = "call_analysis.call_summary"
    with app.app_context():
        again = records.Told([3, 1], {"summary": "The new one."})  # as its revision would tell it
        records.save("call_1", again)
    call = tell("call_1", ("call_analyzed", {summary: "The old one."}))
    assert (call.summary, call.outcome) == ("The new one.", "completed")
    tell("call_2", ("call_analyzed", {summary: "The old one."}), ("call_ended", {}))
    call = tell("call_2", ("call_analyzed", {summary: "The new one."}))
    assert (call.summary, call.ranks["summary"]) == ("The new one.", [3, 1])


@pytest.mark.parametrize("either_database", ["postgresql"], indirect=True)
def test_times_are_in_utc_whatever_the_zone_of_the_server(
    database_url: str, retell_client: RetellTestClient
) -> None:
    in_new_york = f"{database_url}?options=-c%20timezone=America/New_York"
    app = create_app(TESTING=True, CALL_CENTER_DATABASE_URL=in_new_york)
    with app.app_context():
        create_tables()
        event = parse_event(encode(sample("call_ended")))
        records.save_event(event)  # type: ignore[arg-type]
        db.session.expire_all()
        call = db.get_or_404(Call, event.session_id)
        assert call.started_at == event.call.started_at  # type: ignore[union-attr]
        assert call.started_at.utcoffset() == timedelta()
    with app.app_context():
        db.engine.dispose()


def test_a_turn_without_words_or_before_the_call_is_no_fault(tell: Callable[..., Call]) -> None:
    early = {"role": "user", "content": "Hi!", "words": [{"word": "Hi", "start": -2, "end": 1}]}
    items = [{"role": "agent", "content": None}, {"role": "agent"}, early]
    call = tell("call_1", ("transcript_updated", {"transcript_with_tool_calls": items}))
    assert call.turns == [{"role": "user", "content": "Hi!", "start": 0.0}]


def test_the_last_attempt_at_a_transfer_is_shown(tell: Callable[..., Call]) -> None:
    tell("call_1", ("call_started", {}), transfer("transfer_started", FIRST))
    call = tell("call_1", transfer("transfer_cancelled", FIRST))
    assert (call.transfer, call.transferred_to) == ("cancelled", FIRST)
    call = tell("call_1", transfer("transfer_started", SECOND))
    assert (call.transfer, call.transferred_to) == ("started", SECOND)


FAILED = {"call_status": "error", "disconnection_reason": "error_asr"}
FINE = {"call_status": "ended", "disconnection_reason": "user_hangup"}
VOICEMAIL = "call_analysis.in_voicemail"


@pytest.mark.parametrize(
    ("name", "first", "again", "outcome"),
    [
        ("call_ended", FAILED, FINE, "completed"),
        ("call_ended", FINE, FAILED, "failed"),
        ("call_ended", {"disconnection_reason": "voicemail_reached"}, FINE, "completed"),
        ("call_analyzed", {VOICEMAIL: True}, {VOICEMAIL: False}, "completed"),
        ("call_analyzed", {VOICEMAIL: False}, {VOICEMAIL: True}, "voicemail"),
    ],
)
def test_what_was_told_again_otherwise_counts_in_every_order(
    app: Flask, name: str, first: dict[str, Any], again: dict[str, Any], outcome: str
) -> None:
    sent = (("call_started", {}), (name, first), (name, again))
    for number, order in enumerate(permutations(enumerate(sent))):
        for place, (each, changes) in order:
            body = encode(renew(sample(each, **changes), session_id=f"call_{number}"))
            event = replace(parse_event(body), revision=int(place == 2))
            with app.app_context():
                records.save_event(event)  # type: ignore[arg-type]
        with app.app_context():
            assert db.get_or_404(Call, f"call_{number}").outcome == outcome, order


def test_two_processes_write_one_after_the_other(app: Flask) -> None:
    def save(number: int) -> None:
        with app.app_context():
            records.save("call_1", records.Told([0, number], {"summary": str(number)}))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(save, random.Random(1).sample(range(40), 40)))
    with app.app_context():
        call = db.get_or_404(Call, "call_1")
        assert (call.summary, call.ranks) == ("39", {"summary": [0, 39]})


def test_an_end_told_otherwise_later_leaves_the_analysis_alone(tell: Callable[..., Call]) -> None:
    cost = "call_cost.combined_cost"
    first, again = ("call_ended", {cost: 0.5}), ("call_ended", {cost: 1.5})
    analyzed = ("call_analyzed", {cost: 9.0})
    for number, order in enumerate(permutations([first, again, analyzed])):
        assert tell(f"call_{number}", *order).cost_cents == 9.0


def test_numbers_are_as_large_as_they_are_sent(tell: Callable[..., Call]) -> None:
    assert tell("call_1", ("call_ended", {"duration_ms": 2**33})).duration_ms == 2**33
    assert tell("call_2", ("call_ended", {"duration_ms": 2**62})).duration is None
