"""What was sent for a function: its arguments, its call, and which tool call it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from functions.asking import invocation, result, tool_call, whole
from retell_flask import PayloadError
from retell_flask.functions.parameters import Parameters
from retell_flask.functions.request import FunctionRequest, RepeatKey, read_body, read_query
from retell_flask.testing import encode, sample
from support import near_the_limit

BOOK = {"day": "thursday", "seats": 2}


def book(day: str, seats: int = 1) -> None: ...


def envelope(name: str, args: dict[str, Any], call: str = "") -> None:
    """A function with the parameters that a whole body has as keys."""


def without_args(name: str, call: str | None = None) -> None: ...


def only_name(name: str) -> None: ...


def only_args(args: dict[str, Any]) -> None: ...


def only_call(call: str) -> None: ...


def read(body: Any, name: str = "book", function: Any = book) -> FunctionRequest:
    data = body if isinstance(body, bytes) else encode(body)
    return read_body(data, name, Parameters(function))


def values(request: FunctionRequest) -> dict[str, Any]:
    """The first of the texts of each argument, as JSON."""
    return {name: json.loads(texts[0]) for name, texts in request.arguments.items()}


def key(body: Any, name: str = "book") -> RepeatKey:
    found = read(body, name).repeat_key
    assert found is not None
    return found


# Bodies


def test_a_whole_body_has_arguments_and_a_call() -> None:
    request = read(sample("custom_function"), "check_availability")
    assert values(request) == {"day": "thursday"}
    assert request.call is not None
    assert request.call.call_id == sample("custom_function")["call"]["call_id"]
    assert request.call.from_number == "+14155550142"


def test_arguments_alone_have_no_call() -> None:
    request = read(sample("custom_function_args_only"))
    assert values(request) == {"day": "thursday"}
    assert (request.call, request.repeat_key) == (None, None)


def test_an_empty_body_has_no_arguments() -> None:
    assert read(b"") == read(b"{}") == FunctionRequest({})


@pytest.mark.parametrize(
    ("function", "body"),
    [
        (only_name, {"name": "José"}),
        (only_args, {"args": {"a": 1}}),
        (only_call, {"call": "me"}),
        (only_call, {"call": {"call_id": "mine"}}),
        (without_args, {"name": "José", "call": None}),
        (envelope, {"name": "José", "args": {"a": 1}}),
        (envelope, {"name": "José", "args": {}, "call": "me"}),
        (envelope, {"name": "José", "args": {"a": 1}, "call": "call_1"}),
        (book, {"name": "book", "day": "thursday"}),
        (book, {"name": 5, "args": {"a": 1}, "day": "thursday"}),
        (book, {"name": "book", "args": "a", "day": "thursday"}),
    ],
)
def test_arguments_alone_may_have_the_names_of_what_a_whole_body_has(
    function: Any, body: dict[str, Any]
) -> None:
    request = read(body, function=function)
    assert values(request) == body
    assert (request.call, request.repeat_key) == (None, None)


@pytest.mark.parametrize("function", [book, only_name, only_args, only_call, envelope])
def test_a_whole_body_is_known_whatever_the_parameters_are(function: Any) -> None:
    args = {"name": "José", "args": {"a": 1}, "call": "me"}
    request = read(whole("book", args), function=function)
    assert values(request) == args
    assert request.call is not None
    assert request.repeat_key is not None


@pytest.mark.parametrize("sent", [{}, {"call": None}], ids=["no call", "null"])
def test_a_whole_body_without_a_call(sent: dict[str, Any]) -> None:
    request = read({"name": "book", "args": BOOK, **sent})
    assert values(request) == BOOK
    assert (request.call, request.repeat_key) == (None, None)


@pytest.mark.parametrize("args", [{}, {"args": None}], ids=["no args", "null"])
def test_a_function_without_arguments_learns_of_its_call(args: dict[str, Any]) -> None:
    request = read({"name": "book", "call": {"call_id": "call_1"}, **args})
    assert request.call is not None
    assert request.repeat_key is not None


@pytest.mark.parametrize("call_id", [None, "", 5, [], {}])
def test_a_call_without_an_id_is_no_repeat_of_another(call_id: Any) -> None:
    request = read({"name": "book", "args": BOOK, "call": {"call_id": call_id}})
    assert values(request) == BOOK
    assert request.repeat_key is None


@pytest.mark.parametrize("call", [{}, {"from_number": "+1"}, [], "call_1", 5])
def test_a_call_that_is_none_is_left_out(call: Any) -> None:
    request = read({"name": "book", "args": BOOK, "call": call})
    assert values(request) == BOOK
    assert (request.call, request.repeat_key) == (None, None)


def test_an_odd_field_of_the_call_is_none_and_named(caplog: pytest.LogCaptureFixture) -> None:
    request = read(whole("book", BOOK, metadata="said in confidence"))
    assert request.call is not None
    assert request.call.metadata is None
    assert "call.metadata" in caplog.text
    assert "confidence" not in caplog.text


@pytest.mark.parametrize(
    "body", [b"x", b" ", b"[]", b"[{}]", b"null", b"5", b'"{}"', b"{", b"{'a': 1}", b"{}{}"]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError, match="The body is not a JSON object"):
        read(body)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (rb'"\ud83d"', b'"\\ufffd"'),
        (rb'"\ude00 x"', b'"\\ufffd x"'),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
    ],
)
def test_halves_of_surrogate_pairs_are_replaced(sent: bytes, text: bytes) -> None:
    for body in (b'{"day":%b}' % sent, b'{"name":"book","args":{"day":%b}}' % sent):
        found = Parameters(book).read(read(body).arguments, None)
        assert found == {"day": json.loads(text)}


def test_a_surrogate_in_the_transcript_does_not_lose_the_call() -> None:
    body = b'{"name":"book","args":{"day":"x"},"call":{"call_id":"c","transcript":"\\ud83d"}}'
    request = read(body)
    assert request.call is not None
    assert request.call.transcript == "\ufffd"


def test_numbers_out_of_range_lose_no_other_argument() -> None:
    assert values(read(b'{"day":"x","seats":1}')) == {"day": "x", "seats": 1}
    request = read(b'{"day":1e999,"seats":2}')
    assert Parameters(book).read(request.arguments, None)["seats"] == 2


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000


@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b'{"day":%b}' % DEEP,
        b'{"name":"book","args":%b}' % DEEP,
        b'{"name":"book","args":{},"call":{"call_id":"c","metadata":%b}}' % DEEP,
    ],
    ids=["all", "an argument", "the arguments", "the call"],
)
def test_deep_nesting_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError):
        read(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":"book","args":{"day":%b},"call":{"call_id":"c"}}',
        b'{"name":"book","args":{},"call":{"call_id":"c","metadata":%b}}',
        b'{"name":"book","args":{},"call":{"call_id":"c","latency":{"e2e":%b}}}',
    ],
)
def test_nesting_near_the_limit_is_read_or_refused(body: bytes) -> None:
    arguments, refused = set(), 0
    for nested in near_the_limit():
        try:
            arguments.add(frozenset(read(body % nested).arguments))
        except PayloadError:
            refused += 1
    assert arguments == {frozenset({"day"} if b'"day"' in body else ())}
    assert refused


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\u d8name1args call', max_size=60))
def test_no_body_raises_anything_else_than_a_refusal(body: bytes | str) -> None:
    data = body if isinstance(body, bytes) else body.encode()
    try:
        request = read(data)
    except PayloadError:
        return
    assert all(isinstance(name, str) for name in request.arguments)


# Queries


def in_query(*pairs: tuple[str, str]) -> FunctionRequest:
    return read_query(MultiDict(pairs).to_dict(flat=False))


def test_a_query_has_arguments_and_no_call() -> None:
    request = in_query(("day", "thursday"), ("seats", "2"))
    assert Parameters(book).read(request.arguments, None) == BOOK
    assert (request.call, request.repeat_key) == (None, None)
    assert read_query({}) == FunctionRequest({})


def test_names_that_come_again_make_a_list() -> None:
    def tag(tags: list[str], numbers: list[int] = []) -> None: ...  # noqa: B006

    request = in_query(("tags", "a"), ("tags", ""), ("numbers", "1"), ("numbers", "2"))
    assert Parameters(tag).read(request.arguments, None) == {
        "tags": ["a", ""],
        "numbers": [1, 2],
    }


def test_json_in_a_value_of_a_query() -> None:
    def order(items: list[dict[str, int]]) -> None: ...

    request = in_query(("items", '[{"a": 1}, {"b": 2}]'))
    assert Parameters(order).read(request.arguments, None) == {"items": [{"a": 1}, {"b": 2}]}


def test_an_empty_value_of_a_query_is_empty_text() -> None:
    assert Parameters(book).read(in_query(("day", "")).arguments, None) == {"day": ""}


# Which tool call it is


def test_a_repeat_has_the_key_of_the_first() -> None:
    first = key(tool_call("book", BOOK))
    later = key(tool_call("book", BOOK, call_status="ended", duration_ms=9))
    assert first == later
    assert (first.session_id, first.is_exact) == ("call_1", True)


def test_the_order_and_form_of_arguments_do_not_matter() -> None:
    body = (
        b'{"call":{"call_id":"call_1","transcript_with_tool_calls":[{"role":'
        b'"tool_call_invocation","tool_call_id":"tool_1","name":"book","arguments":'
        b'"{\\"seats\\": 2,  \\"day\\":\\"thursday\\"}"}]},'
        b'"args":{ "seats":2, "day":"\\u0074hursday" },"name":"book"}'
    )
    assert key(body) == key(tool_call("book", BOOK))
    nested = {"a": {"b": 1, "c": [{"d": 1, "e": 2}]}}
    reordered = {"a": {"c": [{"e": 2, "d": 1}], "b": 1}}
    assert key(whole("book", nested)) == key(whole("book", reordered))


@pytest.mark.parametrize(
    "other",
    [
        tool_call("book", {**BOOK, "seats": 3}),
        tool_call("book", {"day": "thursday"}),
        tool_call("book", BOOK, "tool_2"),
        tool_call("book", BOOK, call_id="call_2"),
        whole("book", BOOK),
    ],
    ids=["arguments", "fewer arguments", "tool call", "call", "no transcript"],
)
def test_another_tool_call_has_another_key(other: dict[str, Any]) -> None:
    assert key(other).digest != key(tool_call("book", BOOK)).digest


def test_the_name_in_the_url_counts_for_the_key() -> None:
    body = tool_call("book", BOOK)
    assert key(body, "book").digest != key(body, "cancel").digest
    named_otherwise = tool_call("book_table", BOOK)  # as the tool is called at Retell
    assert key(named_otherwise, "book").is_exact


def test_tool_calls_at_once_with_different_arguments_differ() -> None:
    friday = {**BOOK, "day": "friday"}
    items = [invocation("tool_1", "book", BOOK), invocation("tool_2", "book", friday)]
    one, two = key(whole("book", BOOK, *items)), key(whole("book", friday, *items))
    assert one.digest != two.digest
    assert one == key(tool_call("book", BOOK, "tool_1"))
    assert two == key(tool_call("book", friday, "tool_2"))


def test_tool_calls_of_two_functions_at_once_are_known_by_their_ids() -> None:
    items = [invocation("tool_1", "book", BOOK), invocation("tool_2", "greet", {})]
    assert key(whole("book", BOOK, *items)) == key(tool_call("book", BOOK, "tool_1"))
    assert key(whole("greet", {}, *items), "greet") == key(
        tool_call("greet", {}, "tool_2"), "greet"
    )


def test_the_same_arguments_later_are_another_tool_call() -> None:
    first = invocation("tool_1", "book", BOOK)
    again = invocation("tool_2", "book", BOOK)
    later = key(whole("book", BOOK, first, result("tool_1"), again))
    assert later.digest != key(whole("book", BOOK, first)).digest
    assert later == key(tool_call("book", BOOK, "tool_2"))


def test_of_two_without_a_result_the_newest_counts() -> None:
    items = [invocation("tool_1", "book", BOOK), invocation("tool_2", "book", BOOK)]
    assert key(whole("book", BOOK, *items)) == key(tool_call("book", BOOK, "tool_2"))


def test_a_tool_call_that_has_its_result_is_not_the_one_that_is_asked() -> None:
    done = [invocation("tool_1", "book", BOOK), result("tool_1")]
    other = [invocation("tool_2", "greet", {}), result("tool_2")]
    first = key(whole("book", BOOK, done[0]))
    assert key(whole("book", BOOK, *done, *other)).digest != first.digest


def test_what_came_after_the_tool_call_does_not_matter() -> None:
    items = [invocation("tool_1", "book", BOOK), {"role": "user", "content": "Hello?"}]
    assert key(whole("book", BOOK, *items)) == key(tool_call("book", BOOK))


def test_the_last_tool_call_counts_where_its_arguments_are_not_those_that_were_sent() -> None:
    body = whole("book", BOOK, invocation("tool_1", "book", {"day": "thu"}))
    assert key(body).is_exact
    again = whole("book", BOOK, invocation("tool_2", "book", {"day": "thu"}))
    assert key(body).digest != key(again).digest


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{"role": "user", "content": "Hello?"}],
        [invocation("tool_1", "greet", BOOK)],
        [{**invocation("tool_1", "book", BOOK), "tool_call_id": None}],
        [{**invocation("tool_1", "book", BOOK), "tool_call_id": 5}],
    ],
    ids=["no transcript", "no tool call", "another name", "no id", "odd id"],
)
def test_without_a_tool_call_of_this_name_the_arguments_count(items: list[Any]) -> None:
    by_arguments = key(whole("book", BOOK, *items))
    assert not by_arguments.is_exact
    assert by_arguments == key(whole("book", BOOK))


@pytest.mark.parametrize(
    "arguments", ["", "{", "[]", "null", "\ud83d", "[" * 5000, '{"day": "thursday"'], ids=ascii
)
def test_arguments_in_the_transcript_may_be_anything(arguments: str) -> None:
    items = [{**invocation("tool_1", "book", {}), "arguments": arguments}]
    body = json.dumps(whole("book", BOOK, *items)).encode()
    assert key(body).is_exact


@pytest.mark.parametrize("transcript", [None, "x", 5, {}, [None, 5, "x", [], {}]])
def test_an_odd_transcript_is_as_good_as_none(transcript: Any) -> None:
    body = whole("book", BOOK, transcript_with_tool_calls=transcript)
    assert key(body) == key(whole("book", BOOK))


def test_the_sample_is_known_by_its_tool_call() -> None:
    found = key(sample("custom_function"), "check_availability")
    assert found.is_exact
    assert found.session_id == sample("custom_function")["call"]["call_id"]


def test_a_key_does_not_show_what_was_sent() -> None:
    assert b"thursday" not in key(tool_call("book", BOOK)).digest
    assert len(key(tool_call("book", BOOK)).digest) == 32
