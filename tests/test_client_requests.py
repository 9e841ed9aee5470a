"""What ``RetellClient`` sends, beside what the official SDK's client sends for the same call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

import pytest
import retell
from retell import Retell
from retell.types import call_list_params
from typing_extensions import get_type_hints

from clients import NUMBERS, fill, make_client
from retell_flask import RetellClient
from retellapi import Recorded, Reply, RetellApi, make_call

Capture = Callable[[Callable[[RetellClient], Any], Callable[[Retell], Any]], None]

CALL_ID = "call_000001"
OVERRIDE = {"agent": {"webhook_url": "https://host/hook", "voice_speed": 1.25}}
NOVEMBER = datetime(2026, 11, 1, tzinfo=timezone.utc)
IN_MS = int(NOVEMBER.timestamp()) * 1000


@pytest.fixture
def api(api: RetellApi) -> RetellApi:
    fill(api, make_call(1))
    return api


@pytest.fixture
def compare(api: RetellApi) -> Iterator[Capture]:
    """Have both clients do something, and compare what they sent."""
    # Certificates take most of a client's time to start, and nothing here is encrypted.
    http = retell.DefaultHttpxClient(verify=False)
    with Retell(api_key=api.key, base_url=api.url, max_retries=0, http_client=http) as sdk:

        def compare(ours: Callable[[RetellClient], Any], theirs: Callable[[Retell], Any]) -> None:
            calls = dict(api.calls)
            theirs(sdk)
            api.calls = calls
            expected = list(map(essence, api.requests))
            api.requests.clear()
            ours(make_client(api))
            assert list(map(essence, api.requests)) == expected
            assert expected

        yield compare


def essence(request: Recorded) -> dict[str, Any]:
    """What of a request has a meaning: not the type of a body that is not there."""
    return {
        "method": request.method,
        "path": [unquote(part) for part in request.path.split("/")],
        "body": json.dumps(request.json, sort_keys=True) if request.body else None,
        "type": request.headers["content-type"] if request.body else None,
        "key": request.headers["authorization"],
    }


PHONE_CALLS: list[dict[str, Any]] = [
    {},
    {"override_agent_id": "agent_2"},
    {"override_agent_id": "agent_2", "override_agent_version": 3},
    {"override_agent_version": "latest"},
    {"agent_override": OVERRIDE},
    {"metadata": {"order": 7, "nested": {"of": [1.5, None, True, "é\u2028\U0001f600"]}}},
    {"retell_llm_dynamic_variables": {"name": "Zoë", "empty": ""}},
    {"custom_sip_headers": {"X-Order": "7"}},
    {"ignore_e164_validation": True, "from_number": "100"},
    {"honor_internal_dnc": False},
]


@pytest.mark.parametrize(
    "fields",
    [*PHONE_CALLS, {name: value for fields in PHONE_CALLS for name, value in fields.items()}],
    ids=lambda fields: " ".join(fields),
)
def test_create_phone_call(compare: Capture, fields: dict[str, Any]) -> None:
    given = {**NUMBERS, "idempotency_key": "k", **fields}
    compare(
        lambda client: client.create_phone_call(**given),
        lambda sdk: sdk.call.create_phone_call(**given),
    )


@pytest.mark.filterwarnings("ignore:Retell has no field")
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"agent_id": "agent_2"}, {"override_agent_id": "agent_2"}),
        ({"webhook_url": "u"}, {"agent_override": {"agent": {"webhook_url": "u"}}}),
        (
            {"retell_llm_dynamic_variables": {"visits": 3, "is_new": False, "due": 42.5}},
            {"retell_llm_dynamic_variables": {"visits": "3", "is_new": "false", "due": "42.5"}},
        ),
    ],
)
def test_create_phone_call_with_what_is_translated(
    compare: Capture, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    always = {**NUMBERS, "idempotency_key": "k"}
    compare(
        lambda client: client.create_phone_call(**always, **ours),
        lambda sdk: sdk.call.create_phone_call(**always, **theirs),
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"agent_version": 2, "metadata": {"order": 7}},
        {"agent_override": OVERRIDE, "retell_llm_dynamic_variables": {"name": "Zoë"}},
        {"current_state": "greeting", "current_node_id": "node_1"},
    ],
    ids=" ".join,
)
def test_create_web_call(compare: Capture, fields: dict[str, Any]) -> None:
    compare(
        lambda client: client.create_web_call("agent_1", **fields),
        lambda sdk: sdk.call.create_web_call(agent_id="agent_1", **fields),
    )


@pytest.mark.parametrize("call_id", [CALL_ID, "a/b", "a b", "a?b#c", "a%2Fb", "é漢", "a+b=c;d"])
def test_get_call(api: RetellApi, compare: Capture, call_id: str) -> None:
    fill(api, make_call(1, call_id=call_id))
    compare(lambda client: client.get_call(call_id), lambda sdk: sdk.call.retrieve(call_id))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"metadata": {}},
        {"metadata": {"order": 7}, "custom_attributes": {"tier": "gold", "n": 1.5, "is": True}},
        {"data_storage_setting": "basic_attributes_only"},
    ],
    ids=" ".join,
)
def test_update_call(compare: Capture, fields: dict[str, Any]) -> None:
    compare(
        lambda client: client.update_call(CALL_ID, **fields),
        lambda sdk: sdk.call.update(CALL_ID, **fields),
    )


def test_stop_call(compare: Capture) -> None:
    compare(lambda client: client.stop_call(CALL_ID), lambda sdk: sdk.call.stop(CALL_ID))


@pytest.mark.parametrize(
    ("method", "path", "theirs"),
    [
        ("GET", "/get-concurrency", lambda sdk: sdk.concurrency.retrieve()),
        ("DELETE", f"/v2/delete-call/{CALL_ID}", lambda sdk: sdk.call.delete(CALL_ID)),
        ("PUT", f"/rerun-call-analysis/{CALL_ID}", lambda sdk: sdk.call.rerun_analysis(CALL_ID)),
    ],
)
def test_other_requests(
    compare: Capture, method: str, path: str, theirs: Callable[[Retell], Any]
) -> None:
    compare(lambda client: client.request(method, path), theirs)


def text(value: Any, op: str = "eq") -> dict[str, Any]:
    return {"type": "string", "op": op, "value": value}


def words(*values: Any) -> dict[str, Any]:
    return {"type": "enum", "op": "in", "value": list(values)}


def number(value: Any, op: str = "eq") -> dict[str, Any]:
    return {"type": "number", "op": op, "value": value}


def between(*ends: Any) -> dict[str, Any]:
    return {"type": "range", "op": "bt", "value": list(ends)}


def boolean(value: Any) -> dict[str, Any]:
    return {"type": "boolean", "op": "eq", "value": value}


KEYED = {"a": "x", "b": 1.5, "c": True, "d": (1, 5), "e": (None, 5), "f": ["x", "y"]}
KEYED_THERE = [
    {"key": "a", **text("x")},
    {"key": "b", **number(1.5)},
    {"key": "c", **boolean(True)},
    {"key": "d", **between(1, 5)},
    {"key": "e", **number(5, "le")},
    {"key": "f", **words("x", "y")},
]
MISSING = {"key": "a", "type": "present", "op": "np"}
TOOL_CALL = {"name": "book", "success": boolean(False), "latency_ms": number(500, "gt")}
FILTERS: list[tuple[str, Any, Any]] = [
    ("agent", "agent_1", [{"agent_id": "agent_1"}]),
    ("agent", ["agent_1", "agent_2"], [{"agent_id": "agent_1"}, {"agent_id": "agent_2"}]),
    ("agent", [{"agent_id": "a", "version": [1, 2]}], [{"agent_id": "a", "version": [1, 2]}]),
    ("agent_tag", "prod", words("prod")),
    ("batch_call_id", "batch_1", text("batch_1")),
    ("call_id", "call_1", text("call_1")),
    ("call_id", ["call_1", "call_2"], words("call_1", "call_2")),
    ("call_status", ["ended", "error"], words("ended", "error")),
    ("call_successful", False, boolean(False)),
    ("call_type", "phone_call", words("phone_call")),
    ("combined_cost", (0.5, None), number(0.5, "ge")),
    ("custom_analysis_data", KEYED, KEYED_THERE),
    ("custom_attributes", KEYED, KEYED_THERE),
    ("data_storage_setting", "everything", words("everything")),
    ("direction", "inbound", words("inbound")),
    ("disconnection_reason", ("dial_busy", "dial_failed"), words("dial_busy", "dial_failed")),
    ("duration_ms", timedelta(minutes=1), number(60_000)),
    ("duration_ms", (timedelta(seconds=1), timedelta(minutes=1)), between(1_000, 60_000)),
    ("dynamic_variables", KEYED, KEYED_THERE),
    ("e2e_latency_p50", (None, 1500), number(1500, "le")),
    (
        "end_timestamp",
        (NOVEMBER, NOVEMBER + timedelta(days=1)),
        between(IN_MS, IN_MS + 86_400_000),
    ),
    ("from_number", "+14155550100", text("+14155550100")),
    ("in_voicemail", True, boolean(True)),
    ("metadata", KEYED, KEYED_THERE),
    ("metadata", [MISSING], [MISSING]),
    ("start_timestamp", (NOVEMBER, None), number(IN_MS, "ge")),
    ("to_number", text("+49", "sw"), text("+49", "sw")),
    ("tool_calls", [TOOL_CALL], [TOOL_CALL]),
    ("user_sentiment", "Negative", words("Negative")),
]


def test_every_filter_of_the_sdk_is_compared() -> None:
    assert {name for name, _, _ in FILTERS} == {*get_type_hints(call_list_params.FilterCriteria)}


@pytest.mark.parametrize(
    ("filters", "criteria"),
    [({name: ours}, {name: theirs}) for name, ours, theirs in FILTERS]
    + [({name: ours for name, ours, _ in FILTERS}, {name: to for name, _, to in FILTERS})],
)
def test_list_calls(
    api: RetellApi, compare: Capture, filters: dict[str, Any], criteria: Any
) -> None:
    # The stand-in knows no filter by tool calls.
    api.faults.extend([Reply(200, {"items": [], "has_more": False})] * 2)
    compare(
        lambda client: list(client.list_calls(limit=50, **filters)),
        lambda sdk: sdk.call.list(limit=50, sort_order="descending", filter_criteria=criteria),
    )


def test_list_calls_without_a_filter(compare: Capture) -> None:
    compare(
        lambda client: list(client.list_calls(sort_order="ascending")),
        lambda sdk: sdk.call.list(limit=1000, sort_order="ascending"),
    )


def test_list_calls_with_a_second_page(api: RetellApi, compare: Capture) -> None:
    fill(api, *(make_call(each) for each in range(1001)))

    def theirs(sdk: Retell) -> None:
        page = sdk.call.list(limit=1000, sort_order="descending")
        assert page.pagination_key is not None
        key = page.pagination_key
        sdk.call.list(limit=1000, sort_order="descending", pagination_key=key)

    compare(lambda client: list(client.list_calls()), theirs)
