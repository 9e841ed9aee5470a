from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec
import pytest

from retell_flask import Call
from retell_flask.events import parse_event
from retell_flask.models import (
    AgentUtterance,
    NodeTransition,
    ToolCallInvocation,
    ToolCallResult,
    UnknownItem,
    UserUtterance,
)
from retell_flask.testing import encode, sample


def parse(**call: object) -> Call:
    event = parse_event(encode({"event": "call_ended", "call": {"call_id": "c", **call}}))
    assert event.call is not None
    return event.call


def test_fields_of_a_whole_call() -> None:
    call = parse_event(encode(sample("call_analyzed"))).call
    assert call is not None
    assert call.duration == timedelta(milliseconds=26_480)
    assert call.started_at == datetime(2026, 10, 6, 12, 40, 5, 123_000, timezone.utc)
    assert call.ended_at == call.started_at + call.duration
    assert call.latency is not None
    assert call.latency.e2e is not None
    assert call.latency.e2e.p50 is not None
    assert call.call_cost is not None
    assert call.call_cost.combined_cost is not None
    assert call.analysis is call.call_analysis


def test_items_of_the_transcript_are_typed_by_role() -> None:
    call = parse_event(encode(sample("call_analyzed"))).call
    assert call is not None
    items = call.transcript_with_tool_calls
    assert items is not None
    assert {type(item) for item in items} >= {AgentUtterance, UserUtterance, ToolCallInvocation}
    first = items[0]
    assert isinstance(first, AgentUtterance)
    assert first.role == "agent"
    assert first.words is not None
    assert first.words[0].word == "Hi,"
    assert any(isinstance(item, ToolCallResult) for item in items)
    assert call.transcript_object is not None
    assert all(item.role in ("agent", "user") for item in call.transcript_object)


def test_transcripts_are_decoded_on_first_use(caplog: pytest.LogCaptureFixture) -> None:
    call = parse(transcript_object=[{"role": "user", "content": 4}], transcript="t")
    assert call.transcript == "t"
    assert caplog.text == ""
    assert call.transcript_object == (UserUtterance(),)
    assert "call.transcript_object[0].content" in caplog.text
    assert call.transcript_object is call.transcript_object
    assert len(caplog.records) == 1


@pytest.mark.parametrize("sent", [None, "absent"])
def test_a_transcript_that_is_not_there_is_none(sent: object) -> None:
    call = parse(**({} if sent == "absent" else {"transcript_object": sent}))
    assert call.transcript_object is None
    assert call.transcript_with_tool_calls is None


def test_an_item_of_an_unknown_role_is_kept_as_it_is() -> None:
    sent = {"role": "hologram", "shape": [1, 2]}
    items = parse(transcript_with_tool_calls=[sent]).transcript_with_tool_calls
    assert items == (UnknownItem(payload=sent),)
    assert items[0].role == "hologram"


def test_unknown_enum_values_pass_through(caplog: pytest.LogCaptureFixture) -> None:
    call = parse(call_status="paused", disconnection_reason="eaten_by_a_shark")
    assert (call.call_status, call.disconnection_reason) == ("paused", "eaten_by_a_shark")
    assert caplog.text == ""


def test_older_names_of_the_subject_fill_the_newer_and_the_other_way_round() -> None:
    older = parse(end_reason="dial_busy", call_analysis={"sentiment": "Negative", "summary": "s"})
    newer = parse(
        disconnection_reason="dial_busy",
        call_analysis={"user_sentiment": "Negative", "call_summary": "s"},
    )
    for call in (older, newer):
        assert call.disconnection_reason == call.end_reason == "dial_busy"
        assert call.analysis is not None
        assert call.analysis.user_sentiment == "Negative"
        assert call.analysis.sentiment == "negative"
        assert call.analysis.summary == call.analysis.call_summary == "s"


def test_an_utterance_of_an_unknown_role_is_kept_too() -> None:
    items = parse(transcript_object=[{"role": "hologram"}, {"role": "user"}]).transcript_object
    assert items == (UnknownItem(payload={"role": "hologram"}), UserUtterance())


def test_nothing_lazy_is_decoded_before_it_is_read() -> None:
    call = parse_event(encode(sample("call_analyzed"))).call
    assert call is not None
    assert vars(call) == {}
    assert call.transcript_object
    assert list(vars(call)) == ["transcript_object"]


def test_a_transition_between_nodes() -> None:
    sent = {"role": "node_transition", "new_node_id": "n", "transition_type": "global"}
    items = parse(transcript_with_tool_calls=[sent]).transcript_with_tool_calls
    assert items == (NodeTransition(new_node_id="n", transition_type="global"),)


@pytest.mark.parametrize("milliseconds", [10**15, -(10**15), 10**18])
def test_a_time_that_no_calendar_has_is_none(milliseconds: int) -> None:
    call = parse(start_timestamp=milliseconds)
    assert call.start_timestamp == milliseconds
    assert call.started_at is None


def test_repr_holds_the_id_alone() -> None:
    call = parse_event(encode(sample("call_analyzed"))).call
    assert repr(call) == f"<Call '{sample('call_analyzed')['call']['call_id']}'>"
    assert repr(parse(call_id="\x1b[31m\r\n")) == r"<Call '\x1b[31m\r\n'>"


LAZY = [field.encode_name for field in msgspec.structs.fields(Call) if field.type is msgspec.Raw]


@pytest.mark.parametrize("name", LAZY)
def test_every_array_of_items_is_read_from_its_own_field(name: str) -> None:
    call = parse(**{name: [{"role": "user", "content": name}]})
    assert len(LAZY) == 7
    assert {n: getattr(call, n) for n in LAZY if getattr(call, n)} == {
        name: (UserUtterance(content=name),)
    }


def test_the_end_of_a_transfer_has_a_twin() -> None:
    call = parse(transfer_end_timestamp=0)
    assert call.transfer_ended_at == datetime(1970, 1, 1, tzinfo=timezone.utc)
