"""Custom functions, called through the route."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from flask import Flask, current_app, g, has_request_context

from databases import rows
from functions.asking import WITH_BODY, WITHOUT_BODY, send, tool_call, whole
from retell_flask import Call, RetellBlueprint
from retell_flask.functions.desk import LONGEST_RESULT
from retell_flask.testing import Capture, encode, sample, sign, sign_plain
from support import KEY, SECRET, UNSIGNED, make_app

FAILED = {"error": "Function failed"}
SPOKEN = "said in confidence"


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Fragile(msgspec.Struct):
    """A type of the host's with a fault in it."""

    number: int

    def __post_init__(self) -> None:
        raise RuntimeError("no database")


@dataclass
class Table:
    seats: int
    day: date


class Colour(str, enum.Enum):
    RED = "red"


class Text(str):
    """A text of the host's own kind."""


def circle() -> list[Any]:
    nested: list[Any] = []
    nested.append(nested)
    return nested


def numbers() -> Iterator[int]:
    yield 1


@pytest.fixture
def bookings(retell: RetellBlueprint) -> list[tuple[str, int]]:
    """What the function ``book`` was called with."""
    bookings: list[tuple[str, int]] = []

    @retell.function
    def book(day: str, seats: int = 2) -> dict[str, Any]:
        bookings.append((day, seats))
        return {"booked": day}

    return bookings


# Requests


@pytest.mark.parametrize("method", WITH_BODY)
def test_arguments_in_a_body(method: str, app: Flask, bookings: list[Any]) -> None:
    body = tool_call("book", {"day": "thursday"})
    response = send(app, "book", body, method=method)
    assert (response.status_code, response.json) == (200, {"booked": "thursday"})
    assert response.content_type == "application/json"
    assert bookings == [("thursday", 2)]


@pytest.mark.parametrize("method", WITHOUT_BODY)
def test_arguments_in_a_query(method: str, app: Flask, bookings: list[Any]) -> None:
    response = send(app, "book", method=method, query_string={"day": "Fr & Sa", "seats": "3"})
    assert (response.status_code, response.json) == (200, {"booked": "Fr & Sa"})
    assert bookings == [("Fr & Sa", 3)]


def test_arguments_alone(app: Flask, bookings: list[Any]) -> None:
    assert send(app, "book", {"day": "thursday", "seats": "4"}).json == {"booked": "thursday"}
    assert bookings == [("thursday", 4)]


def test_a_body_and_a_query_have_nothing_to_do_with_each_other(
    app: Flask, bookings: list[Any]
) -> None:
    send(app, "book", {"day": "thursday"}, query_string={"seats": 5})
    send(app, "book", {"seats": 5}, method="DELETE", query_string={"day": "friday"})
    assert bookings == [("thursday", 2), ("friday", 2)]


def test_the_sample_is_answered(app: Flask, retell: RetellBlueprint) -> None:
    @retell.function
    def check_availability(day: str, *, call: Call) -> str:
        return f"{day} for {call.from_number}"

    response = send(app, "check_availability", sample("custom_function"))
    assert response.text == "thursday for +14155550142"


def test_the_name_in_the_url_counts(app: Flask, bookings: list[Any]) -> None:
    send(app, "book", whole("cancel", {"day": "thursday"}))
    assert bookings == [("thursday", 2)]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE"])
def test_another_method_is_not_allowed(method: str, app: Flask, bookings: list[Any]) -> None:
    response = send(app, "book", method=method, query_string={"day": "thursday"})
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST, PUT, PATCH, GET, DELETE"
    assert bookings == []


@pytest.mark.parametrize("method", [*WITH_BODY, *WITHOUT_BODY])
def test_an_unknown_function_is_not_found_by_those_who_sign(method: str, app: Flask) -> None:
    response = send(app, "cancel", method=method)
    assert (response.status_code, response.json) == (404, {"error": "No such function"})


@pytest.mark.parametrize("name", ["book", "cancel"])
@pytest.mark.parametrize("method", [*WITH_BODY, *WITHOUT_BODY])
@pytest.mark.parametrize("header", UNSIGNED.values(), ids=UNSIGNED)
def test_others_do_not_learn_which_functions_there_are(
    header: Callable[[], str], method: str, name: str, app: Flask, bookings: list[Any]
) -> None:
    response = send(app, name, method=method, query_string={"day": "thursday"}, header=header())
    assert (response.status_code, response.json) == (401, {"error": "Invalid signature"})
    assert bookings == []


@pytest.mark.parametrize("method", WITHOUT_BODY)
def test_the_signature_of_a_query_is_that_of_an_empty_body(
    method: str, app: Flask, bookings: list[Any]
) -> None:
    query = "day=thursday"
    signed = sign(query.encode(), KEY)
    assert send(app, "book", method=method, query_string=query, header=signed).status_code == 401
    signed = sign(b"", KEY)
    assert send(app, "book", method=method, query_string=query, header=signed).status_code == 200


def test_functions_are_not_called_by_the_plain_scheme(
    retell: RetellBlueprint, bookings: list[Any]
) -> None:
    app = make_app(retell, RETELL_WEBHOOK_SECRET=SECRET)
    body = encode({"day": "thursday"})
    assert send(app, "book", body, header=sign_plain(body, SECRET)).status_code == 401
    assert bookings == []
    assert send(app, "book", body, header=sign(body, SECRET)).status_code == 200


@pytest.mark.parametrize("body", [b"x", b"[]", b"null", b'{"day":' * 2000])
def test_a_body_that_is_no_json_object_is_refused(
    body: bytes, app: Flask, captured: Capture, bookings: list[Any]
) -> None:
    response = send(app, "book", body)
    assert response.status_code == 400
    assert response.json == {"error": "The body is not a JSON object."}
    ((signal, _, _, about),) = captured
    assert (signal, about["status"], about["reason"]) == ("webhook_rejected", 400, "invalid")
    assert bookings == []


def test_a_body_that_is_too_long_is_refused(retell: RetellBlueprint, bookings: list[Any]) -> None:
    app = make_app(retell, RETELL_MAX_BODY=30)
    assert send(app, "book", {"day": "x" * 30}).status_code == 413
    assert bookings == []


@pytest.mark.parametrize("query", ["day=\xff", "day=%FF", "%FF=1&day=x", "day=%ED%A0%80"])
def test_a_query_that_is_no_utf_8_raises_nothing(
    query: str, app: Flask, bookings: list[Any]
) -> None:
    response = send(app, "book", method="GET", environ_overrides={"QUERY_STRING": query})
    assert response.status_code in (200, 400)


def test_a_request_for_a_function_is_no_event(app: Flask, bookings: list[Any]) -> None:
    send(app, "book", tool_call("book", {"day": "thursday"}))
    assert rows(app.extensions["retell"]["retell"].inbox.database) == []


def test_each_blueprint_has_functions_of_its_own(
    retell: RetellBlueprint, bookings: list[Any]
) -> None:
    other = RetellBlueprint("other", url_prefix="/other")
    other.function("book")(lambda: "another")
    app = make_app(retell, other)
    body = tool_call("book", {"day": "thursday"})
    assert send(app, "book", body).json == {"booked": "thursday"}
    assert send(app, "book", body, blueprint="other").text == "another"


# Results


@pytest.mark.parametrize(
    ("result", "sent"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (2**70, 2**70),
        (1.5, 1.5),
        ([], []),
        ([1, None, "José"], [1, None, "José"]),
        ({}, {}),
        ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
        ((1, 2), [1, 2]),
        (Point(1), {"x": 1, "y": 0}),
        ([Point(1, 2)], [{"x": 1, "y": 2}]),
        (Table(2, date(2026, 11, 1)), {"seats": 2, "day": "2026-11-01"}),
        (datetime(2026, 11, 1, 12, tzinfo=timezone.utc), "2026-11-01T12:00:00Z"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (Decimal("1.50"), "1.50"),
    ],
    ids=repr,
)
def test_results_are_sent_as_json(
    result: Any, sent: Any, app: Flask, retell: RetellBlueprint
) -> None:
    retell.function("look")(lambda: result)
    response = send(app, "look")
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert json.loads(response.data) == sent


@pytest.mark.parametrize(
    ("result", "sent"),
    [
        ("Booked.", "Booked."),
        ("", ""),
        ("José ✓", "José ✓"),
        ('{"a": 1}', '{"a": 1}'),
        (Colour.RED, "red"),
        (Text("mine"), "mine"),
        ("half \ud83d", "half ?"),
    ],
    ids=ascii,
)
def test_text_is_sent_as_it_is(
    result: str, sent: str, app: Flask, retell: RetellBlueprint
) -> None:
    retell.function("look")(lambda: result)
    response = send(app, "look")
    assert (response.status_code, response.text) == (200, sent)
    assert response.content_type == "text/plain; charset=utf-8"


def test_the_longest_result_that_retell_takes_is_15000_characters() -> None:
    assert LONGEST_RESULT == 15_000


@pytest.mark.parametrize("letter", ["x", "é", "✓"])
def test_text_that_is_too_long_is_cut_with_a_warning(
    letter: str, app: Flask, retell: RetellBlueprint, caplog: pytest.LogCaptureFixture
) -> None:
    lengths = [LONGEST_RESULT, LONGEST_RESULT + 1]
    retell.function("look")(lambda: letter * lengths.pop(0))
    assert send(app, "look").text == letter * LONGEST_RESULT
    assert "was cut" not in caplog.text
    assert send(app, "look").text == letter * LONGEST_RESULT
    assert "The result of look was cut from 15001 to 15000 characters" in caplog.text


def test_json_that_is_too_long_is_cut_and_no_longer_called_json(
    app: Flask, retell: RetellBlueprint, caplog: pytest.LogCaptureFixture
) -> None:
    retell.function("look")(lambda: ["x" * 20_000])
    response = send(app, "look")
    assert response.text == '["' + "x" * (LONGEST_RESULT - 2)
    assert response.content_type == "text/plain; charset=utf-8"
    assert "The result of look was cut from 20004" in caplog.text


@pytest.mark.parametrize(
    "result",
    [object(), [object()], circle(), numbers(), {None: 1}, ["half \ud83d"], 1j, KeyError],
    ids=lambda result: type(result).__name__,
)
def test_a_result_without_a_form_in_json_is_a_failure(
    result: Any, app: Flask, retell: RetellBlueprint, caplog: pytest.LogCaptureFixture
) -> None:
    retell.function("look")(lambda: result)
    response = send(app, "look")
    assert (response.status_code, response.json) == (500, FAILED)
    assert "The function look failed" in caplog.text


# Running


class TimeOut(BaseException):
    """As those of gevent and eventlet are."""


@pytest.mark.parametrize(
    "error",
    [ValueError("mine"), SystemExit(3), asyncio.CancelledError(), TypeError("mine"), TimeOut()],
    ids=repr,
)
def test_a_function_that_raises_has_failed(
    error: BaseException, app: Flask, retell: RetellBlueprint, caplog: pytest.LogCaptureFixture
) -> None:
    @retell.function
    def book(day: str) -> None:
        raise error

    response = send(app, "book", tool_call("book", {"day": "thursday"}))
    assert (response.status_code, response.data) == (500, b'{"error": "Function failed"}')
    assert response.content_type == "application/json"
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.getMessage() == "The function book failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert vars(record)["retell_function"] == "book"


def test_a_fault_of_an_argument_s_type_is_one_of_the_function(
    app: Flask, retell: RetellBlueprint, caplog: pytest.LogCaptureFixture
) -> None:
    @retell.function
    def book(fragile: Fragile) -> None: ...

    response = send(app, "book", {"fragile": {"number": 1}})
    assert (response.status_code, response.json) == (500, FAILED)
    assert "RuntimeError: no database" in caplog.text


def test_a_coroutine_function_answers(app: Flask, retell: RetellBlueprint) -> None:
    @retell.function
    async def book(day: str) -> str:
        await asyncio.sleep(0)
        return f"{day} at {current_app.name}"

    assert send(app, "book", {"day": "thursday"}).text == "thursday at host"


def test_a_coroutine_function_that_raises_has_failed(app: Flask, retell: RetellBlueprint) -> None:
    @retell.function
    async def book() -> None:
        raise ValueError("mine")

    assert send(app, "book").json == FAILED


def test_an_object_answers(app: Flask, retell: RetellBlueprint) -> None:
    class Desk:
        async def __call__(self, day: str) -> str:
            return day

    retell.function("book")(Desk())
    assert send(app, "book", {"day": "thursday"}).text == "thursday"


def test_a_function_runs_in_an_app_context_and_outside_of_the_request(
    app: Flask, retell: RetellBlueprint
) -> None:
    seen: list[Any] = []
    leak = contextvars.ContextVar("leak", default="nothing")
    app.before_request(lambda: setattr(g, "user", "from the request"))
    app.before_request(lambda: leak.set("from the request") and None)

    @retell.function
    def look() -> None:
        seen.append((current_app.name, has_request_context(), g.get("user"), leak.get()))
        g.user = "from a function"

    send(app, "look")
    send(app, "look")
    assert seen == [("host", False, None, "nothing")] * 2


@pytest.mark.parametrize("name", ["function", "values", "named", "request", "call", "args"])
def test_a_parameter_may_have_any_name(name: str, app: Flask, retell: RetellBlueprint) -> None:
    def look(**given: str) -> dict[str, str]:
        return given

    namespace: dict[str, Any] = {"look": look}
    exec(f"def own({name}: str): return look({name}={name})", namespace)
    retell.function("look")(namespace["own"])
    body = whole("look", {name: "x"})
    assert send(app, "look", body).json == {name: "x"}


# Arguments that do not fit


def test_arguments_that_do_not_fit_are_told_to_the_model(
    app: Flask, bookings: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    response = send(app, "book", tool_call("book", {"seats": "many"}))
    assert (response.status_code, response.content_type) == (200, "text/plain; charset=utf-8")
    assert response.text == (
        "book was not called, since its arguments do not fit. day: it is missing. seats: "
        "Expected `int`, got `str`. It has to fit "
        '{"type": "integer", "default": 2}. Call it again with arguments that fit.'
    )
    assert bookings == []
    assert "book was not called, since arguments did not fit: day, seats" in caplog.text
    assert "many" not in caplog.text


def test_what_was_told_to_the_model_is_no_result(app: Flask, bookings: list[Any]) -> None:
    wrong = tool_call("book", {"seats": 2})
    assert send(app, "book", wrong).text == send(app, "book", wrong).text
    right = send(app, "book", tool_call("book", {"day": "thursday"}))
    assert right.json == {"booked": "thursday"}
    assert bookings == [("thursday", 2)]


def test_a_complaint_is_never_longer_than_retell_takes(
    app: Flask, retell: RetellBlueprint
) -> None:
    names = [f"number_{n}" for n in range(400)]
    namespace: dict[str, Any] = {}
    exec(f"def own({', '.join(f'{name}: int' for name in names)}): ...", namespace)
    retell.function("look")(namespace["own"])
    response = send(app, "look", dict.fromkeys(names, "many"))
    assert response.status_code == 200
    assert len(response.text) <= LONGEST_RESULT


# The call


def test_a_function_that_needs_its_call_and_gets_none_has_failed(
    app: Flask, retell: RetellBlueprint, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[Any] = []

    @retell.function
    def book(day: str, *, call: Call) -> None:
        called.append(call)

    args = {"day": "thursday"}
    for response in (
        send(app, "book", args),
        send(app, "book", {"name": "book", "args": args}),
        send(app, "book", method="GET", query_string=args),
    ):
        assert (response.status_code, response.json) == (500, FAILED)
    assert called == []
    assert caplog.text.count("the tool is set to 'args only', or is called by GET or DELETE") == 3
    assert "annotate it as Call | None" in caplog.text


def test_a_function_that_can_do_without_its_call(app: Flask, retell: RetellBlueprint) -> None:
    @retell.function
    def book(*, call: Call | None) -> str:
        return call.call_id if call else "nobody"

    assert send(app, "book").text == "nobody"
    assert send(app, "book", method="GET").text == "nobody"
    assert send(app, "book", whole("book", {})).text == "call_1"


# Secrecy


def shown(caplog: pytest.LogCaptureFixture) -> str:
    """All that a log has, tracebacks and extra values too."""
    formatter = logging.Formatter("%(message)s")
    return "\n".join(
        f"{formatter.format(each)} { {**vars(each), 'exc_info': None, 'exc_text': None} }"
        for each in caplog.records
    )


@pytest.mark.parametrize(
    "result",
    [SPOKEN, [SPOKEN], SPOKEN * 1000, [SPOKEN, object()], [SPOKEN + "\ud83d"]],
    ids=["text", "list", "too long", "no JSON", "half a surrogate pair"],
)
def test_no_argument_result_or_transcript_is_logged(
    result: Any, app: Flask, retell: RetellBlueprint, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    @retell.function
    def book(day: str, seats: int = 1, *, call: Call | None) -> Any:
        return result

    for args in ({"day": SPOKEN}, {"day": SPOKEN, "seats": SPOKEN}, {"seats": {SPOKEN: 1}}):
        for body in (args, tool_call("book", args, transcript=SPOKEN), whole("book", args)):
            send(app, "book", body)
            send(app, "book", body)
        send(app, "book", method="GET", query_string=args)
    send(app, "book", tool_call("book", {"day": SPOKEN}, metadata=SPOKEN, latency=SPOKEN))
    send(app, "book", tool_call("book", {"day": SPOKEN}, transcript_with_tool_calls=SPOKEN))
    send(app, "book", SPOKEN.encode())
    text = shown(caplog)
    assert "The function book was not called, since arguments did not fit: " in text
    assert SPOKEN not in text
