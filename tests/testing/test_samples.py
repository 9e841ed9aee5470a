from __future__ import annotations

import io
import logging
import re
import zipfile
from functools import cached_property
from importlib.resources import files
from typing import Any

import pytest

from retell_flask.events import INBOUND_TYPES, SUBJECTS, parse_event
from retell_flask.models import UnknownItem
from retell_flask.signals import OUTCOMES, SIGNALS, signals_for
from retell_flask.signatures import verify
from retell_flask.testing import encode, sample, sample_names, sign, sign_plain

EVENTS = [name for name in sample_names() if "event" in sample(name)]
CALLS = [name for name in sample_names() if "call" in sample(name)]

OUTCOME_OF = {
    "agent_transfer": "agent_transfer",
    "call_analyzed_voicemail": "voicemail_detected",
    "call_ended_error": "call_error",
    "call_ended_not_connected": "call_error",
    "call_ended_transferred": "agent_transfer",
    "call_ended_voicemail": "voicemail_detected",
    "call_ended_web_error": "call_error",
    "call_error": "call_error",
    "transfer_started": "agent_transfer",
    "voicemail_detected": "voicemail_detected",
}


def test_samples_are_fresh_each_time() -> None:
    sample("call_ended")["call"].clear()
    assert sample("call_ended")["call"]["call_id"]


def test_an_unknown_sample_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"no sample 'nonsense'\. Known: agent_transfer, .*"):
        sample("nonsense")


@pytest.mark.parametrize("name", sample_names())
def test_what_is_encoded_and_signed_verifies(name: str) -> None:
    body = encode(sample(name))
    assert verify(body, sign(body, "k"), "k").scheme == "timestamped"
    assert verify(body, sign_plain(body, "s"), "k", secrets="s").scheme == "plain"


def test_encode_writes_as_javascript_does() -> None:
    assert encode({"a": ["é", 1]}) == '{"a":["é",1]}'.encode()


def test_every_event_type_has_a_sample_and_every_name_begins_with_its_event() -> None:
    assert {sample(name)["event"] for name in EVENTS} == SUBJECTS.keys() | INBOUND_TYPES
    for name in EVENTS:
        assert f"{name}_".startswith(f"{sample(name)['event']}_")


@pytest.mark.parametrize("name", EVENTS)
def test_every_field_of_an_event_reads_and_nothing_is_odd(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    event = parse_event(encode(sample(name)))
    for subject in (event.call, event.chat):
        for field, value in vars(type(subject)).items():
            if isinstance(value, cached_property):
                assert not any(
                    isinstance(item, UnknownItem) for item in getattr(subject, field) or ()
                )
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_samples_fire_the_outcomes_that_they_tell_and_no_other() -> None:
    outcomes = {SIGNALS[name]: name for name in OUTCOMES}
    fired = {
        name: outcomes[signal]
        for name in EVENTS
        for signal in signals_for(parse_event(encode(sample(name))))
        if signal in outcomes
    }
    assert fired == OUTCOME_OF


@pytest.mark.parametrize("name", CALLS)
def test_what_a_call_says_of_itself_agrees(name: str) -> None:
    call = sample(name)["call"]
    start = call.get("start_timestamp")
    assert start == (1_791_290_405_123 if call["call_status"] != "not_connected" else None)
    if start is not None and "duration_ms" in call:
        assert (
            call.get("end_timestamp", start + call["duration_ms"]) - start == call["duration_ms"]
        )
    if "transcript" in call:
        spoken = [item for item in call["transcript_with_tool_calls"] if "words" in item]
        assert call["transcript_object"] == spoken
        assert call["transcript"] == "".join(map(line, spoken))


def line(utterance: dict[str, Any]) -> str:
    """As it stands in the text, where a transfer's target has no documented label."""
    label = {"agent": "Agent", "user": "User"}.get(utterance["role"])
    return f"{label}: {utterance['content']}\n" if label else ""


def test_what_is_analyzed_is_what_ended() -> None:
    subjects: dict[str, list[dict[str, Any]]] = {"analyzed": [], "ended": []}
    for name in EVENTS:
        payload = sample(name)
        if (stage := payload["event"].partition("_")[2]) in subjects:
            subjects[stage].append(payload.get("call") or payload["chat"])
    for subject in subjects["analyzed"]:
        assert subject.pop("call_analysis", None) or subject.pop("chat_analysis")
        assert subject in subjects["ended"]


@pytest.mark.parametrize("name", sample_names())
def test_phone_numbers_are_of_the_range_for_invented_people(name: str) -> None:
    for number in re.findall(r"\+\d+|\d{3}-\d{3}-\d{4}", encode(sample(name)).decode()):
        assert re.fullmatch(r"\+141555501\d\d", number)


def test_the_hour_long_call_is_as_large_as_an_hour_of_talk() -> None:
    payload = sample("call_ended_hour_long")
    assert payload["call"]["duration_ms"] >= 55 * 60_000
    assert 500_000 < len(encode(payload)) < 2_000_000
    roles = {item["role"] for item in payload["call"]["transcript_with_tool_calls"]}
    assert roles > {"tool_call_invocation", "tool_call_result", "node_transition", "dtmf", "sms"}


def test_the_samples_are_a_small_part_of_a_download() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in (files("retell_flask.testing") / "samples").iterdir():
            wheel.writestr(file.name, file.read_bytes())
    assert archive.tell() < 300_000
