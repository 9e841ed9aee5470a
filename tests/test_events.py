from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retell_flask import AlertEvent, CallEvent, ChatEvent, Event, PayloadError, parse_event
from retell_flask.events import SUBJECTS
from retell_flask.models import AgentUtterance, UserUtterance
from retell_flask.testing import encode, sample, sample_names
from support import call_payload

EVENT_SAMPLES = [name for name in sample_names() if "event" in sample(name)]


@pytest.mark.parametrize("name", EVENT_SAMPLES)
def test_an_event_keeps_both_forms(name: str, caplog: pytest.LogCaptureFixture) -> None:
    body = encode(sample(name))
    event = parse_event(body)
    assert event.type == sample(name)["event"]
    assert event.raw == body
    assert event.payload == sample(name)
    assert event.payload is event.payload
    assert caplog.text == ""


def test_the_class_says_which_subject_is_there() -> None:
    assert isinstance(parse_event(encode(call_payload("call_ended"))), CallEvent)
    assert isinstance(parse_event(b'{"event":"chat_ended","chat":{"chat_id":"c"}}'), ChatEvent)
    assert isinstance(parse_event(b'{"event":"alert_resolved","alert":{}}'), AlertEvent)
    assert type(parse_event(b'{"event":"new"}')) is Event
    assert isinstance(parse_event(encode(call_payload("new"))), CallEvent)


def test_values_of_a_first_delivery() -> None:
    before = datetime.now(timezone.utc)
    event = parse_event(encode(call_payload("call_ended")))
    assert before <= event.received_at <= datetime.now(timezone.utc)
    assert (event.attempt, event.revision, event.synthetic) == (1, 0, False)
    given = datetime(2026, 1, 1, tzinfo=timezone.utc)
    assert parse_event(event.raw, received_at=given).received_at == given


def test_an_event_is_immutable_and_hashable() -> None:
    event = parse_event(encode(call_payload("call_ended")))
    with pytest.raises(AttributeError):
        event.type = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        event.call.call_id = "other"  # type: ignore[misc, union-attr]
    assert {event: 1}[event] == 1


def test_repr_holds_no_payload() -> None:
    event = parse_event(encode(call_payload("x" * 100_000 + "\x1b[0m", transcript="private")))
    assert "private" not in repr(event)
    assert len(repr(event)) < 150


ONCE_PER_CALL = ["call_started", "call_ended", "call_analyzed"]
OUTCOMES = ["agent_transfer", "voicemail_detected", "call_error"]


@pytest.mark.parametrize("type_", [*ONCE_PER_CALL, *OUTCOMES])
def test_id_is_equal_for_every_version_of_what_comes_once_per_call(type_: str) -> None:
    first = parse_event(encode(call_payload(type_)))
    second = parse_event(encode(call_payload(type_, duration_ms=1)))
    other_call = parse_event(encode(call_payload(type_, call_id="call_2")))
    assert first.id == second.id != other_call.id
    assert first.id.startswith("evt_")


@pytest.mark.parametrize("type_", ["chat_started", "chat_ended", "chat_analyzed"])
def test_id_is_equal_for_every_version_of_what_comes_once_per_chat(type_: str) -> None:
    chats = ({"chat_id": "c"}, {"chat_id": "c", "version": 1}, {"chat_id": "d"})
    first, second, other = (parse_event(encode({"event": type_, "chat": chat})) for chat in chats)
    assert first.id == second.id != other.id


@pytest.mark.parametrize("type_", ["transfer_started", "transcript_updated", "new_event"])
def test_id_is_of_the_body_for_all_else(type_: str) -> None:
    first = parse_event(encode(call_payload(type_)))
    assert parse_event(encode(call_payload(type_))).id == first.id
    assert parse_event(encode(call_payload(type_, duration_ms=1))).id != first.id


def test_ids_of_types_do_not_collide() -> None:
    ids = {parse_event(encode(call_payload(type_))).id for type_ in ("call_started", "call_ended")}
    assert len(ids) == 2


ITEMS = [{"role": "user", "content": "top"}]


def test_transcript_updated_reads_the_top_level_first() -> None:
    nested = {"transcript_with_tool_calls": [{"role": "agent", "content": "nested"}]}
    payload = call_payload("transcript_updated", **nested)
    call = parse_event(encode({**payload, "transcript_with_tool_calls": ITEMS})).call
    assert call is not None
    assert call.transcript_with_tool_calls == (UserUtterance(content="top"),)


def test_transcript_updated_falls_back_to_the_call() -> None:
    said = [{"role": "agent", "content": "nested"}]
    for name in ("transcript_with_tool_calls", "transcript_object"):
        payload = {**call_payload("transcript_updated", **{name: said})}
        payload["transcript_with_tool_calls"] = None
        call = parse_event(encode(payload)).call
        assert call is not None
        assert call.transcript_with_tool_calls == (AgentUtterance(content="nested"),)


def test_transcript_updated_passes_over_what_is_no_array() -> None:
    said = [{"role": "agent", "content": "nested"}]
    payload = call_payload("transcript_updated", transcript_object=said)
    call = parse_event(encode({**payload, "transcript_with_tool_calls": "odd"})).call
    assert call is not None
    assert call.transcript_with_tool_calls == (AgentUtterance(content="nested"),)


def test_a_refused_body_leaves_no_warning_of_odd_fields(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PayloadError):
        parse_event(b'{"event":"call_ended","call":{}}')
    assert caplog.text == ""


def test_the_sample_of_transcript_updated_has_its_turns() -> None:
    call = parse_event(encode(sample("transcript_updated"))).call
    assert call is not None
    assert call.transcript_with_tool_calls is not None
    assert len(call.transcript_with_tool_calls) == 5


@pytest.mark.parametrize(
    "beside", [{"end_reason": "dial_busy"}, {"disconnection_reason": "dial_busy"}]
)
def test_a_reason_beside_the_call_counts(beside: dict[str, str]) -> None:
    call = parse_event(encode({**call_payload("call_ended"), **beside})).call
    assert call is not None
    assert call.disconnection_reason == call.end_reason == "dial_busy"


def test_an_analysis_beside_the_call_counts() -> None:
    beside = {"call_analysis": {"sentiment": "Negative", "summary": "s"}}
    call = parse_event(encode({**call_payload("call_analyzed"), **beside})).call
    assert call is not None
    assert call.analysis is not None
    assert (call.analysis.sentiment, call.analysis.call_summary) == ("negative", "s")


def test_what_the_call_says_itself_goes_before_what_stands_beside_it() -> None:
    payload = {**call_payload("call_ended", end_reason="inactivity"), "end_reason": "dial_busy"}
    call = parse_event(encode(payload)).call
    assert call is not None
    assert call.disconnection_reason == "inactivity"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b'{"event":"call_ended"', "not JSON"),
        (b'{"event":"new","x":NaN}', "not JSON"),
        ('{"event":"new"}'.encode("utf-16"), "not JSON"),
        (b"\xef\xbb\xbf" + b'{"event":"new"}', "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"call_ended"', "not a JSON object"),
        (b"{}", "string in 'event'"),
        (b'{"event":null}', "string in 'event'"),
        (b'{"event":1}', "string in 'event'"),
        (b'{"event":["call_ended"]}', "string in 'event'"),
        (b'{"event":"new","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(body: bytes, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        parse_event(body)


CALL_TYPES = [name for name, subjects in SUBJECTS.items() if subjects == ("call",)]


@pytest.mark.parametrize("type_", CALL_TYPES)
@pytest.mark.parametrize("call", [None, "text", [], {}, {"call_id": ""}, {"call_id": 1}])
def test_a_known_event_needs_its_call(type_: str, call: Any) -> None:
    with pytest.raises(PayloadError, match=f"{type_} needs a 'call' object with a 'call_id'"):
        parse_event(encode({"event": type_, "call": call}))


@pytest.mark.parametrize("type_", [name for name, s in SUBJECTS.items() if s == ("chat",)])
def test_a_known_event_needs_its_chat(type_: str) -> None:
    with pytest.raises(PayloadError, match="'chat' object with a 'chat_id'"):
        parse_event(encode({"event": type_, "call": {"call_id": "c"}}))


def test_alerts_take_any_object_and_nothing_else() -> None:
    assert parse_event(b'{"event":"alert_triggered","alert":{"x":1}}').alert is not None
    with pytest.raises(PayloadError, match="'alert' object"):
        parse_event(b'{"event":"alert_triggered","alert":[]}')


def test_transcript_updated_takes_either_subject() -> None:
    with pytest.raises(PayloadError, match="'call_id' or a 'chat' object"):
        parse_event(b'{"event":"transcript_updated"}')


@pytest.mark.parametrize("subject", [4, "text", None, [], {"call_id": 5}, {"call_id": ""}])
def test_an_unknown_event_takes_anything_as_its_call(subject: Any) -> None:
    assert parse_event(encode({"event": "new", "call": subject})).session_id is None


@pytest.mark.parametrize(
    "number", [b"1e999", b"-1e999", b"1" * 20, b"1" * 4301, b"-" + b"9" * 30, b"1.5", b"1e400"]
)
@pytest.mark.parametrize("where", [b'"duration_ms":%s', b'"metadata":{"n":%s}', b'"new":%s'])
def test_numbers_of_any_size_are_accepted_and_the_payload_reads(
    where: bytes, number: bytes
) -> None:
    body = b'{"event":"call_ended","call":{"call_id":"c",' + where % number + b"}}"
    event = parse_event(body)
    assert event.session_id == "c"
    assert event.payload["call"]["call_id"] == "c"


def test_a_number_out_of_range_is_none() -> None:
    event = parse_event(b'{"event":"call_ended","call":{"call_id":"c","metadata":{"n":1e999}}}')
    assert event.payload["call"]["metadata"] == {"n": None}
    assert event.call is not None
    assert event.call.metadata == {"n": None}


def test_broken_text_becomes_the_replacement_character() -> None:
    body = (
        rb'{"event":"call_ended","call":{"call_id":"c\ud800","transcript":"\udc00","x":"'
        + b"\xff"
        + b'"}}'
    )
    event = parse_event(body)
    assert event.session_id == "c\ufffd"
    assert event.payload["call"] == {"call_id": "c\ufffd", "transcript": "\ufffd", "x": "\ufffd"}


def test_of_duplicate_keys_the_last_counts_in_both_forms() -> None:
    event = parse_event(b'{"event":"call_started","event":"new","call":{"call_id":"c"}}')
    assert event.type == event.payload["event"] == "new"


def test_nul_is_text_like_any_other() -> None:
    assert parse_event(encode(call_payload("call_ended", call_id="a\0b"))).session_id == "a\0b"


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
subjects = st.fixed_dictionaries(
    {"call_id": st.one_of(st.just("c"), json_values)},
    optional=dict.fromkeys(
        ("latency", "call_analysis", "call_cost", "transcript_object", "error"), json_values
    ),
)


@given(
    st.fixed_dictionaries(
        {"event": st.one_of(st.sampled_from([*SUBJECTS, "new"]), json_values)},
        optional={
            "call": st.one_of(subjects, json_values),
            "chat": json_values,
            "alert": json_values,
            "transfer_destination": json_values,
            "error": json_values,
            "transcript_with_tool_calls": json_values,
        },
    )
)
def test_any_json_is_an_event_or_a_payload_error(payload: dict[str, Any]) -> None:
    body = json.dumps(payload).encode()
    try:
        event = parse_event(body)
    except PayloadError:
        return
    assert event.payload["event"] == event.type
    if event.call is not None:
        assert isinstance(event.call.call_id, str)
        for read in ("transcript_object", "transcript_with_tool_calls", "started_at", "duration"):
            getattr(event.call, read)  # lazy, and as safe as the rest
