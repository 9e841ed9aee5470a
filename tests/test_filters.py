"""Filters of list-calls, as a host writes them and as Retell reads them."""

from __future__ import annotations

from collections import OrderedDict
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from retell.types import call_list_params
from typing_extensions import get_type_hints

from retell_flask import filters
from retell_flask.filters import filter_criteria

UTC = timezone.utc
CEST = timezone(timedelta(hours=2))
MOMENT = datetime(2026, 11, 1, 12, 30, 0, 123_456, tzinfo=UTC)
IN_MS = 1_793_536_200_123

ENUMS = [
    *("agent_tag", "call_status", "call_type", "data_storage_setting", "direction"),
    *("disconnection_reason", "user_sentiment"),
]
STRINGS = ["batch_call_id", "from_number", "to_number"]
BOOLEANS = ["call_successful", "in_voicemail"]
MOMENTS = ["start_timestamp", "end_timestamp"]
SPANS = ["duration_ms", "e2e_latency_p50"]
NUMBERS = [*MOMENTS, *SPANS, "combined_cost"]
KEYED = ["custom_analysis_data", "custom_attributes", "dynamic_variables", "metadata"]
ALL = [*ENUMS, *STRINGS, *BOOLEANS, *NUMBERS, *KEYED, "agent", "call_id", "tool_calls"]


def made(name: str, value: Any) -> Any:
    (criterion,) = filter_criteria({name: value}).values()
    return criterion


def refusal(name: str, value: Any) -> str:
    with pytest.raises(TypeError) as caught:
        filter_criteria({name: value})
    return str(caught.value)


def test_these_are_all_filters() -> None:
    assert sorted(ALL) == sorted(get_type_hints(call_list_params.FilterCriteria))


def test_nothing_is_no_criterion() -> None:
    assert filter_criteria({}) == {}


def test_filters_are_independent() -> None:
    criteria = filter_criteria({"call_type": "web_call", "in_voicemail": True})
    assert list(criteria) == ["call_type", "in_voicemail"]


@pytest.mark.parametrize(
    ("value", "listed"),
    [
        ("ended", ["ended"]),
        (["ended", "error"], ["ended", "error"]),
        (("ended",), ["ended"]),
        ({"ended"}, ["ended"]),
        ((word for word in ("a", "b")), ["a", "b"]),
    ],
)
def test_words(value: Any, listed: list[str]) -> None:
    assert made("call_status", value) == {"type": "enum", "op": "in", "value": listed}


@pytest.mark.parametrize("name", ENUMS)
def test_every_enum_takes_one_word_or_several(name: str) -> None:
    assert made(name, "a") == {"type": "enum", "op": "in", "value": ["a"]}
    assert made(name, ["a", "b"]) == {"type": "enum", "op": "in", "value": ["a", "b"]}


@pytest.mark.parametrize("name", [*STRINGS, "call_id"])
@pytest.mark.parametrize("value", ["+14155550100", "", "é"])
def test_texts(name: str, value: str) -> None:
    assert made(name, value) == {"type": "string", "op": "eq", "value": value}


def test_several_calls() -> None:
    assert made("call_id", ["a", "b"]) == {"type": "enum", "op": "in", "value": ["a", "b"]}


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize("value", [True, False])
def test_booleans(name: str, value: bool) -> None:
    criterion = made(name, value)
    assert criterion == {"type": "boolean", "op": "eq", "value": value}
    assert criterion["value"] is value


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name: str) -> None:
    for value in (0, 7, -1, 1.5, 10**13):
        assert made(name, value) == {"type": "number", "op": "eq", "value": value}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    ("value", "criterion"),
    [
        ((0, 5.5), {"type": "range", "op": "bt", "value": [0, 5.5]}),
        ((5, 5), {"type": "range", "op": "bt", "value": [5, 5]}),
        ((0, None), {"type": "number", "op": "ge", "value": 0}),
        ((None, 0), {"type": "number", "op": "le", "value": 0}),
    ],
)
def test_a_pair_is_a_range_whose_ends_may_be_open(name: str, value: Any, criterion: Any) -> None:
    assert made(name, value) == criterion


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize(
    ("moment", "milliseconds"),
    [
        (MOMENT, IN_MS),
        (MOMENT.astimezone(CEST), IN_MS),
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), -1000),
        (datetime(2026, 1, 1, 0, 0, 0, 1_000, tzinfo=UTC), 1_767_225_600_001),
    ],
)
def test_moments_are_milliseconds(name: str, moment: datetime, milliseconds: int) -> None:
    assert made(name, (moment, None)) == {"type": "number", "op": "ge", "value": milliseconds}
    assert type(made(name, (moment, None))["value"]) is int
    assert made(name, (moment, 2 * IN_MS))["value"] == [milliseconds, 2 * IN_MS]


@pytest.mark.parametrize("name", SPANS)
@pytest.mark.parametrize(
    ("span", "milliseconds"),
    [
        (timedelta(minutes=1), 60_000),
        (timedelta(milliseconds=1), 1),
        (timedelta(0), 0),
        (timedelta(days=3, microseconds=1999), 259_200_001),
    ],
)
def test_spans_are_milliseconds(name: str, span: timedelta, milliseconds: int) -> None:
    assert made(name, span)["value"] == milliseconds
    assert made(name, (None, span)) == {"type": "number", "op": "le", "value": milliseconds}


@pytest.mark.parametrize("name", KEYED)
@pytest.mark.parametrize(
    ("value", "criterion"),
    [
        ("autumn", {"type": "string", "op": "eq", "value": "autumn"}),
        ("", {"type": "string", "op": "eq", "value": ""}),
        (7, {"type": "number", "op": "eq", "value": 7}),
        (0, {"type": "number", "op": "eq", "value": 0}),
        (False, {"type": "boolean", "op": "eq", "value": False}),
        ((1, 5), {"type": "range", "op": "bt", "value": [1, 5]}),
        ((None, 5), {"type": "number", "op": "le", "value": 5}),
        (["a", "b"], {"type": "enum", "op": "in", "value": ["a", "b"]}),
        (("a", "b"), {"type": "enum", "op": "in", "value": ["a", "b"]}),
    ],
)
def test_values_by_key(name: str, value: Any, criterion: Any) -> None:
    assert made(name, {"campaign": value}) == [{"key": "campaign", **criterion}]


def test_several_keys_and_kinds_of_dicts() -> None:
    for kind in (dict, OrderedDict, MappingProxyType):
        criteria = made("metadata", kind({"a": 1, "b": "x"}))
        assert [(each["key"], each["value"]) for each in criteria] == [("a", 1), ("b", "x")]


@pytest.mark.parametrize("key", ["type", "op", "value", "key"])
@pytest.mark.parametrize("name", KEYED)
def test_a_key_may_have_any_name(name: str, key: str) -> None:
    (criterion,) = made(name, {key: "vip"})
    assert criterion["value"] == "vip"
    assert set(criterion) == {"key", "type", "op", "value"}


def test_keys_may_be_named_like_the_fields_of_a_filter() -> None:
    criteria = made("metadata", {"type": "vip", "op": "sales"})
    assert [each["key"] for each in criteria] == ["type", "op"]


@pytest.mark.parametrize(
    ("value", "agents"), [("a", ["a"]), (["a", "b"], ["a", "b"]), (("a",), ["a"])]
)
def test_agents(value: Any, agents: list[str]) -> None:
    assert made("agent", value) == [{"agent_id": agent} for agent in agents]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("to_number", {"type": "string", "op": "sw", "value": "+49"}),
        ("duration_ms", {"type": "number", "op": "ne", "value": 0}),
        ("call_status", {"type": "enum", "op": "in", "value": ["ended"]}),
        ("agent", [{"agent_id": "a", "version": [1, 2]}]),
        ("metadata", [{"key": "a", "type": "present", "op": "pr"}]),
        ("tool_calls", [{"name": "book"}]),
        ("mood", {"type": "enum", "op": "in", "value": ["good"]}),
        ("moods", [{"key": "a", "type": "present", "op": "pr"}]),
    ],
)
def test_retells_own_objects_pass_through(name: str, value: Any) -> None:
    before = repr(value)
    assert made(name, value) == value
    assert repr(value) == before


@pytest.mark.parametrize("name", ["status", "CALL_STATUS", "limit_", "pagination_key", "skip"])
def test_an_unknown_filter_is_refused_with_those_there_are(name: str) -> None:
    message = refusal(name, "x")
    assert message.startswith(f"list_calls() knows no filter {name!r}.")
    assert all(known in message for known in ALL)


WRONG: list[tuple[list[str], list[Any]]] = [
    (ALL, [None, object(), b"ended", ...]),
    (ENUMS, [[], (), {}, 7, True, MOMENT, ["ended", 7], [None], [["ended"]], {"a": "b"}]),
    (STRINGS, [7, True, ["+14155550100"], MOMENT, {"type": "string"}, {"op": "sw"}]),
    (BOOLEANS, [0, 1, "true", [True], (None, True)]),
    (NUMBERS, ["7", True, Decimal(1), [1, 2], (1,), (1, 2, 3), (None, None), ("1", "2")]),
    (NUMBERS, [(True, None), (1, "2"), date(2026, 1, 1), {"a": 1}]),
    (KEYED, ["a", [], {}, ["a"], 7, {"a": None}, {"a": []}, {"a": object()}, {"a": {"b": "c"}}]),
    (KEYED, [{"a": (None, None)}, {"a": "x", "b": None}]),
    (["agent"], [[], 7, ["a", 7], {"a": "b"}]),
    (["call_id"], [7, [], ["a", 7]]),
    (["tool_calls"], ["book", ["book"], [], {}]),
]


@pytest.mark.parametrize(
    ("name", "values"), [(name, values) for names, values in WRONG for name in names]
)
def test_a_wrong_value_is_refused_by_name(name: str, values: list[Any]) -> None:
    for value in values:
        assert refusal(name, value).startswith(f"{name} takes ")


@pytest.mark.parametrize("name", NUMBERS)
def test_a_moment_without_a_time_zone_is_refused_by_name(name: str) -> None:
    end = MOMENT.replace(tzinfo=None)
    for value in ((end, None), (None, end), (0, end)):
        assert name in refusal(name, value)


@pytest.mark.parametrize("name", MOMENTS)
def test_a_span_is_no_moment(name: str) -> None:
    for value in (timedelta(hours=1), (timedelta(hours=1), None), (MOMENT, timedelta(hours=1))):
        assert name in refusal(name, value)


@pytest.mark.parametrize("name", MOMENTS)
def test_no_call_began_at_one_moment(name: str) -> None:
    assert "a pair (earliest, latest)" in refusal(name, MOMENT)


@pytest.mark.parametrize("name", [*SPANS, "combined_cost"])
def test_a_moment_is_no_span(name: str) -> None:
    for value in (MOMENT, (MOMENT, None), (0, MOMENT)):
        assert name in refusal(name, value)


def test_a_span_is_no_cost() -> None:
    assert "combined_cost" in refusal("combined_cost", timedelta(seconds=1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), (0, float("inf"))])
def test_a_number_that_json_has_not_is_refused(value: Any) -> None:
    assert "duration_ms" in refusal("duration_ms", value)


def test_a_key_is_text() -> None:
    assert "metadata" in refusal("metadata", {7: "a"})


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_refusal_says_what_is_taken(name: str) -> None:
    message = refusal(name, object())
    assert len(message) > len(f"{name} takes ") + 10
    assert "object at" not in message


def test_a_refusal_says_so_where_docstrings_are_stripped() -> None:
    names: dict[str, Any] = {"__name__": "stripped", "__package__": "retell_flask"}
    source = Path(filters.__file__).read_text("utf-8")
    exec(compile(source, "filters.py", "exec", optimize=2), names)
    with pytest.raises(TypeError, match="in_voicemail takes True or False"):
        names["filter_criteria"]({"in_voicemail": 1})
