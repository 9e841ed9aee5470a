from __future__ import annotations

import functools
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from retell_flask import parse_event
from retell_flask.functions.definition import CustomFunction
from retell_flask.functions.request import read_body
from retell_flask.testing import change, encode, renew, sample
from retell_flask.testing.payloads import function_request


@pytest.mark.parametrize(
    ("name", "path", "value", "where"),
    [
        ("call_ended", "call.duration_ms", 90_000, ("call", "duration_ms")),
        ("call_ended", "duration_ms", 90_000, ("call", "duration_ms")),
        ("call_ended", "metadata.order.id", 7, ("call", "metadata", "order", "id")),
        ("call_started", "call_analysis.user_sentiment", "Negative", None),
        ("call_ended", "transcript_with_tool_calls.0.content", "Hi", None),
        ("chat_ended", "chat.chat_status", "error", ("chat", "chat_status")),
        ("alert_triggered", "current_value", 12, ("alert", "current_value")),
        ("call_inbound", "from_number", "+14155550111", ("call_inbound", "from_number")),
        ("transfer_started", "transfer_destination.number", "+14155550111", None),
        ("custom_function", "args.day", "friday", ("args", "day")),
        ("custom_function", "from_number", "+14155550111", ("call", "from_number")),
        ("custom_function_args_only", "day", "friday", ("day",)),
    ],
)
def test_a_change_is_made_at_its_path_and_nowhere_else(
    name: str, path: str, value: Any, where: tuple[str, ...] | None
) -> None:
    changed: Any = sample(name, **{path: value})
    found = changed
    for part in where or _parts(name, path):
        found = found[int(part) if isinstance(found, list) else part]
    assert found == value
    assert change(changed, {path: None}) != changed or isinstance(found, list)


def _parts(name: str, path: str) -> list[str]:
    first = path.split(".")[0]
    return path.split(".") if first in sample(name) else ["call", *path.split(".")]


def test_none_leaves_a_field_out() -> None:
    assert "metadata" not in sample("call_ended", metadata=None)["call"]


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("duration", 5, "Retell's call has no field 'duration'. Is 'duration_ms' meant?"),
        ("call_analysis.user_sentimen", "x", "has no field 'user_sentimen'. Is 'user_sentim"),
        ("duration_ms", "5", "Expected `int | null`, got `str` - at `\\$.call.duration_ms`"),
        ("transcript_object.0.role", "agnt", "'agnt' .* of transcript_object"),
        ("transcript_object.99.content", "x", "there is no '99' in it"),
        ("latency.e2e.p50", float("nan"), "Retell would not send this"),
        ("call_id", None, "missing required field `call_id`"),
        ("metadata.deep", functools.reduce(lambda inner, _: [inner], range(9000), 0), "deeply"),
    ],
)
def test_what_retell_would_not_send_is_refused(path: str, value: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sample("call_ended", **{path: value})


def test_a_change_leaves_what_it_was_made_of_alone() -> None:
    payload, metadata = sample("call_ended"), {"order": [1]}
    changed = change(payload, {"metadata": metadata})
    metadata["order"].append(2)
    assert payload == sample("call_ended")
    assert changed["call"]["metadata"] == {"order": [1]}


def test_renewed_it_tells_the_same_of_another_call_that_ends_now() -> None:
    before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
    first, second = (parse_event(encode(renew(sample("call_ended")))) for _ in range(2))
    assert first.session_id != second.session_id
    assert first.call
    assert first.call.ended_at
    assert before <= first.call.ended_at <= datetime.now(timezone.utc)
    assert first.call.ended_at - (first.call.started_at or before) == first.call.duration
    assert first.call.transcript == sample("call_ended")["call"]["transcript"]


def test_renewed_it_begins_when_it_is_told_to() -> None:
    began = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    event = parse_event(encode(renew(sample("call_ended"), session_id="c", started_at=began)))
    assert event.session_id == "c"
    assert event.call
    assert event.call.started_at == began


def test_messages_of_a_renewed_chat_move_along() -> None:
    name = "message_with_tool_calls"
    old = sample("chat_analyzed")["chat"]
    new = renew(sample("chat_analyzed"))["chat"]
    shift = new["start_timestamp"] - old["start_timestamp"]
    stamped = [item for item in old[name] if "created_timestamp" in item]
    moved = [item for item in new[name] if "created_timestamp" in item]
    assert stamped
    assert all(
        b["created_timestamp"] - a["created_timestamp"] == shift
        for a, b in zip(stamped, moved, strict=True)
    )


def test_each_function_request_is_a_tool_call_of_its_own() -> None:
    def book(day: str) -> None: ...

    parameters = CustomFunction(book, "book", None).parameters
    keys = set()
    for _ in range(2):
        body = encode(function_request("book", {"day": "monday"}))
        request = read_body(body, "book", parameters)
        assert request.repeat_key
        assert request.repeat_key.is_exact
        keys.add(request.repeat_key.digest)
    assert len(keys) == 2
