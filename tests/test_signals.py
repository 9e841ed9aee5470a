from __future__ import annotations

from typing import Any

import msgspec
import pytest

from retell_flask import Event, RetellBlueprint, signals
from retell_flask.events import SUBJECTS, parse_event
from retell_flask.signals import SIGNALS, signals_for
from retell_flask.testing import Capture, encode, sample
from support import Post, call_payload

FIRED = {
    "alert_triggered": ["alert_triggered"],
    "call_analyzed": ["call_analyzed"],
    "call_analyzed_voicemail": ["call_analyzed", "voicemail_detected"],
    "call_ended": ["call_ended"],
    "call_ended_not_connected": ["call_ended", "call_error"],
    "call_ended_web_error": ["call_ended", "call_error"],
    "call_started": ["call_started"],
    "chat_analyzed": ["chat_analyzed"],
    "transcript_updated": ["transcript_updated"],
    "transfer_cancelled": ["transfer_cancelled"],
    "transfer_ended": ["transfer_ended"],
    "transfer_started": ["transfer_started", "agent_transfer"],
    "call_inbound": None,
    "chat_inbound": None,
}


@pytest.mark.parametrize("name", FIRED)
def test_a_sample_that_is_posted_fires_what_it_should_and_nothing_else(
    name: str, post: Post, captured: Capture
) -> None:
    assert post(sample(name)).status_code == 200
    expected = FIRED[name]
    assert captured.signals == ([] if expected is None else ["event_received", *expected])
    assert len({id(each.event) for each in captured}) <= 1


@pytest.mark.parametrize(
    ("payload", "outcomes"),
    [
        (call_payload("call_ended", disconnection_reason="call_transfer"), ["agent_transfer"]),
        (call_payload("call_ended", end_reason="call_transfer"), ["agent_transfer"]),
        (
            call_payload("call_ended", disconnection_reason="voicemail_reached"),
            ["voicemail_detected"],
        ),
        (
            call_payload("call_analyzed", call_analysis={"in_voicemail": True}),
            ["voicemail_detected"],
        ),
        (call_payload("call_analyzed", disconnection_reason="voicemail_reached"), []),
        (call_payload("call_analyzed", call_status="error"), []),
        (call_payload("call_ended", call_status="error"), ["call_error"]),
        (call_payload("call_ended", call_status="not_connected"), ["call_error"]),
        (call_payload("call_ended", call_status="ended"), []),
        (call_payload("transfer_bridged"), []),
    ],
)
def test_outcomes_that_retells_events_carry(payload: dict[str, Any], outcomes: list[str]) -> None:
    fired = [signal.name for signal in signals_for(parse_event(encode(payload)))]  # type: ignore[attr-defined]
    assert fired == ["event_received", payload["event"], *outcomes]


@pytest.mark.parametrize("name", ["agent_transfer", "voicemail_detected", "call_error"])
def test_outcomes_as_events_fire_their_signal_once(name: str) -> None:
    fired = [signal.name for signal in signals_for(parse_event(encode(call_payload(name))))]  # type: ignore[attr-defined]
    assert fired == ["event_received", name]


@pytest.mark.parametrize("type_", ["brand_new", "", "event_received", "webhook_rejected"])
def test_an_unknown_type_fires_unknown_event(type_: str) -> None:
    fired = signals_for(parse_event(encode({"event": type_})))
    assert fired == [signals.event_received, signals.unknown_event]


def test_every_event_type_has_a_signal_and_every_signal_a_docstring() -> None:
    assert set(SUBJECTS) < set(SIGNALS)
    for name, signal in SIGNALS.items():
        assert getattr(signals, name) is signal
        assert signal.__doc__ is not None
        assert "Sender: the ``RetellBlueprint``" in signal.__doc__


def test_connect_hears_all_blueprints_and_connect_via_one(retell: RetellBlueprint) -> None:
    heard: list[str] = []

    def everybody(sender: Any, event: Event, **extra: Any) -> None:
        heard.append("everybody")

    def one(sender: Any, event: Event, **extra: Any) -> None:
        heard.append("one")

    with (
        signals.call_ended.connected_to(everybody),
        signals.call_ended.connected_to(one, sender=retell),
    ):
        event = parse_event(encode(call_payload("call_ended")))
        signals.call_ended.send(RetellBlueprint("other"), event=event)
        assert heard == ["everybody"]


def test_another_version_of_an_event_fires_no_signal_of_its_type_again() -> None:
    event = parse_event(encode(call_payload("call_ended", call_status="error")))
    revised = msgspec.structs.replace(event, revision=1)
    assert signals_for(revised) == [signals.event_received, signals.event_revised]
