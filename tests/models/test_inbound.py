from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retell_flask import InboundAnswer, InboundCall, InboundMessage
from retell_flask.inbound import read_inbound
from retell_flask.models.inbound import Inbound
from retell_flask.testing import encode, sample
from support import near_the_limit

SPOKEN = "said in confidence"
VERSION_COMPLAINT = "override_agent_version must be a whole number, or a tag"


class Text(str):
    """A text of the host's own kind."""

    def __str__(self) -> str:
        return "another text"


class Tier(str, enum.Enum):
    GOLD = "gold"


class Size(int, enum.Enum):
    LARGE = 3


class Level(enum.IntEnum):
    HIGH = 4


def on_the_wire(**fields: Any) -> Any:
    return json.loads(msgspec.json.encode(InboundAnswer(**fields)))


def circle() -> dict[str, Any]:
    nested: dict[str, Any] = {}
    nested["itself"] = nested
    return nested


# What Retell sends


def read(payload: dict[str, Any]) -> Inbound:
    inbound = read_inbound(encode(payload), payload["event"])
    assert inbound is not None
    return inbound


def test_fields_of_an_inbound_call() -> None:
    call = read(sample("call_inbound"))
    assert isinstance(call, InboundCall)
    assert call.from_number == "+14155550142"
    assert call.to_number == "+14155550100"
    assert call.agent_version == 7
    assert call.call_id == sample("call_inbound")["call_inbound"]["call_id"]
    assert call.custom_sip_headers is not None
    assert call.custom_sip_headers["x-account"] == "9921"


def test_fields_of_an_inbound_message() -> None:
    message = read(sample("chat_inbound"))
    assert isinstance(message, InboundMessage)
    assert message.from_number == "+14155550142"
    assert message.agent_id == "agent_sms_2c41"
    assert message.chat_id == "chat_b7a2196d0f7c4d0a8bb2"
    assert (message.event_timestamp, message.sent_at) == (None, None)


def test_the_time_stands_beside_the_call() -> None:
    call = read(sample("call_inbound"))
    assert call.event_timestamp == 1791290403323
    assert call.sent_at == datetime(2026, 10, 6, 12, 40, 3, 323_000, tzinfo=timezone.utc)


def test_a_call_of_which_only_the_numbers_are_known() -> None:
    sent = {"from_number": "+14155550142", "to_number": "+14155550100"}
    call = read({"event": "call_inbound", "call_inbound": sent})
    assert call == InboundCall(**sent)


@pytest.mark.parametrize(
    ("field", "odd"),
    [
        ("from_number", 5),
        ("agent_version", "seven"),
        ("call_id", {}),
        ("custom_sip_headers", "x"),
    ],
)
def test_an_odd_field_is_none_and_the_others_are_there(
    field: str, odd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sent = {"from_number": "+1", "to_number": "+2", field: odd}
    call = read({"event": "call_inbound", "call_inbound": sent})
    assert getattr(call, field) is None
    assert call.to_number == "+2"
    assert f"call_inbound.{field}" in caplog.text


@pytest.mark.parametrize("event", ["call_inbound", "chat_inbound"])
@pytest.mark.parametrize("subject", [None, "x", 5, []])
def test_without_its_object_there_is_no_inbound(event: str, subject: Any) -> None:
    assert read_inbound(encode({"event": event, event: subject}), event) is None
    assert read_inbound(encode({"event": event}), event) is None


def test_nesting_near_the_limit_is_read_or_nothing() -> None:
    body = b'{"event":"call_inbound","call_inbound":{"to_number":"+2","custom_sip_headers":%b}}'
    read = [read_inbound(body % nested, "call_inbound") for nested in near_the_limit()]
    assert {None if each is None else each.to_number for each in read} == {None, "+2"}


def test_the_object_of_the_other_kind_does_not_count() -> None:
    body = encode({"event": "call_inbound", "chat_inbound": {"from_number": "+1"}})
    assert read_inbound(body, "call_inbound") is None


@pytest.mark.parametrize("name", ["call_inbound", "chat_inbound"])
def test_what_came_in_is_not_shown_by_repr(name: str) -> None:
    assert repr(read(sample(name))) in ("<InboundCall>", "<InboundMessage>")


# What an answer may say


@pytest.mark.parametrize(
    ("fields", "wire"),
    [
        ({}, {}),
        ({"reject": False}, {}),
        ({"reject": True}, {"reject": True}),
        ({"override_agent_id": "agent_1"}, {"override_agent_id": "agent_1"}),
        ({"override_agent_version": 0}, {"override_agent_version": 0}),
        ({"override_agent_version": 7}, {"override_agent_version": 7}),
        ({"override_agent_version": "latest"}, {"override_agent_version": "latest"}),
        ({"dynamic_variables": {}}, {"dynamic_variables": {}}),
        ({"metadata": {}}, {"metadata": {}}),
        ({"metadata": {"a": [1, None, {"b": 2.5}]}}, {"metadata": {"a": [1, None, {"b": 2.5}]}}),
        ({"agent_override": {}}, {"agent_override": {}}),
        (
            {"agent_override": {"agent": {"language": "es-ES"}, "retell_llm": {}}},
            {"agent_override": {"agent": {"language": "es-ES"}, "retell_llm": {}}},
        ),
        (
            {"agent_override": {"conversation_flow": {"model_temperature": 0.1}}},
            {"agent_override": {"conversation_flow": {"model_temperature": 0.1}}},
        ),
    ],
)
def test_what_goes_out_is_what_was_set(fields: dict[str, Any], wire: Any) -> None:
    assert on_the_wire(**fields) == wire


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("José", "José"),
        ("", ""),
        (Text("mine"), "mine"),
        (Tier.GOLD, "gold"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-42, "-42"),
        (10**30, "1" + "0" * 30),
        (Size.LARGE, "3"),
        (Level.HIGH, "4"),
        (42.5, "42.5"),
        (1.0, "1.0"),
        (Decimal("42.50"), "42.50"),
    ],
)
def test_dynamic_variables_go_out_as_text(value: Any, text: str) -> None:
    assert on_the_wire(dynamic_variables={"x": value}) == {"dynamic_variables": {"x": text}}


@pytest.mark.parametrize(
    ("name", "wire"), [(Tier.GOLD, "gold"), (Text("mine"), "mine"), ("", ""), ("ü", "ü")]
)
def test_names_of_dynamic_variables_stay_what_they_are(name: str, wire: str) -> None:
    assert on_the_wire(dynamic_variables={name: "x"}) == {"dynamic_variables": {wire: "x"}}


def test_dynamic_variables_may_be_any_mapping() -> None:
    variables: Mapping[str, Any] = MappingProxyType({"n": 1})
    assert on_the_wire(dynamic_variables=variables) == {"dynamic_variables": {"n": "1"}}


@given(st.dictionaries(st.text(), st.text() | st.booleans() | st.integers() | st.floats()))
def test_dynamic_variables_are_text_on_the_wire_or_refused(variables: dict[str, Any]) -> None:
    try:
        answer = InboundAnswer(dynamic_variables=variables)
    except (TypeError, ValueError):
        return
    sent = json.loads(msgspec.json.encode(answer))["dynamic_variables"]
    assert set(sent) == set(variables)
    assert all(isinstance(text, str) for text in sent.values())


def test_what_the_handler_changes_later_does_not_go_out() -> None:
    variables = {"name": "José"}
    answer = InboundAnswer(dynamic_variables=variables)
    variables["name"] = "nobody"
    assert answer.dynamic_variables == {"name": "José"}


# What Retell would discard


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"reject": 1}, "reject must be True or False"),
        ({"reject": "true"}, "reject must be True or False"),
        ({"reject": None}, "reject must be True or False"),
        ({"override_agent_id": ""}, "override_agent_id must be the id of an agent"),
        ({"override_agent_id": " "}, "override_agent_id must be the id of an agent"),
        ({"override_agent_id": 5}, "override_agent_id must be the id of an agent"),
        (
            {"override_agent_version": True},
            "override_agent_version must be a whole number, or a tag",
        ),
        (
            {"override_agent_version": 1.0},
            "override_agent_version must be a whole number, or a tag",
        ),
        (
            {"override_agent_version": ""},
            "override_agent_version must be a whole number, or a tag",
        ),
        (
            {"override_agent_version": [7]},
            "override_agent_version must be a whole number, or a tag",
        ),
        ({"dynamic_variables": [("a", "b")]}, "dynamic_variables must be a dict of text by name"),
        ({"dynamic_variables": "a=b"}, "dynamic_variables must be a dict of text by name"),
        ({"dynamic_variables": {1: "b"}}, "dynamic_variables must be a dict of text by name"),
        ({"metadata": [1]}, "metadata must be a dict"),
        ({"metadata": "{}"}, "metadata must be a dict"),
        ({"metadata": {"a": object()}}, "metadata holds a value that has no form in JSON"),
        ({"metadata": {None: "a"}}, "metadata holds a value that has no form in JSON"),
        ({"metadata": {"a": "\ud800"}}, "metadata holds a value that has no form in JSON"),
        ({"metadata": {"\ud800": "a"}}, "metadata holds a value that has no form in JSON"),
        ({"metadata": circle()}, "metadata holds a value that has no form in JSON"),
        ({"agent_override": "agent"}, "agent_override must be a dict"),
        ({"agent_override": {"agent": {"a": object()}}}, "agent_override holds a value"),
        ({"agent_override": {"agnt": {}}}, "'agnt' is none of them"),
        ({"agent_override": {1: {}}}, "1 is none of them"),
    ],
)
def test_an_answer_that_retell_would_discard_is_refused(
    fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(TypeError, match=complaint):
        InboundAnswer(**fields)


@pytest.mark.parametrize("settings", [None, 5, "es-ES", []])
def test_settings_of_an_override_are_a_dict_and_the_complaint_says_so(settings: Any) -> None:
    with pytest.raises(TypeError, match="'agent'") as caught:
        InboundAnswer(agent_override={"agent": settings})
    assert "'agent' is none of them" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"nested": "x"},
        [],
        b"bytes",
        object(),
        datetime(2026, 1, 1, tzinfo=timezone.utc),
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("-Infinity"),
        pytest.param(10**5000, id="thousands of digits"),
        1j,
    ],
)
def test_other_dynamic_variables_are_refused_by_their_name(value: Any) -> None:
    with pytest.raises(TypeError, match=r"dynamic_variables\['balance'\]") as caught:
        InboundAnswer(dynamic_variables={"name": "José", "balance": value})
    assert "José" not in str(caught.value)


def test_a_signalling_nan_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match=r"dynamic_variables\['balance'\]"):
        InboundAnswer(dynamic_variables={"balance": Decimal("sNaN")})


@pytest.mark.parametrize(
    "fields",
    [
        {"dynamic_variables": {"name": "\ud83d"}},
        {"dynamic_variables": {"\ud83d": "name"}},
        {"override_agent_id": "agent_\ud83d"},
        {"override_agent_version": "\ud83d"},
    ],
    ids=["variable", "name of a variable", "agent", "version"],
)
def test_text_that_has_no_form_in_utf_8_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(fields))):
        InboundAnswer(**fields)


def test_metadata_of_50_kb_is_taken_and_a_byte_more_is_not() -> None:
    longest = "x" * (50_000 - len('{"a":""}'))
    assert on_the_wire(metadata={"a": longest}) == {"metadata": {"a": longest}}
    with pytest.raises(ValueError, match="metadata is longer than 50 kB"):
        InboundAnswer(metadata={"a": longest + "x"})


def test_the_length_of_metadata_is_counted_in_bytes() -> None:
    with pytest.raises(ValueError, match="metadata is longer than 50 kB"):
        InboundAnswer(metadata={"a": "ü" * 30_000})


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, "<InboundAnswer without an override>"),
        ({"reject": True}, "<InboundAnswer reject>"),
        (
            {"dynamic_variables": {"name": SPOKEN}, "metadata": {SPOKEN: 1}},
            "<InboundAnswer dynamic_variables, metadata>",
        ),
        (
            {"override_agent_id": SPOKEN, "agent_override": {"agent": {"a": SPOKEN}}},
            "<InboundAnswer override_agent_id, agent_override>",
        ),
        ({"override_agent_version": 0}, "<InboundAnswer override_agent_version>"),
    ],
)
def test_repr_says_what_is_set_and_not_to_what(fields: dict[str, Any], shown: str) -> None:
    answer = InboundAnswer(**fields)
    assert repr(answer) == str(answer) == shown
    assert SPOKEN not in str(answer.__rich_repr__())


def test_an_answer_takes_keywords_alone_and_is_frozen() -> None:
    with pytest.raises(TypeError):
        InboundAnswer(True)  # type: ignore[misc]
    with pytest.raises(TypeError):
        InboundAnswer(rejct=True)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        InboundAnswer().reject = True  # type: ignore[misc]
