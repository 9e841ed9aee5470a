"""The stand-in for Retell's REST API, against the official SDK's client and types."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import httpx
import pytest
import retell
from retell import Retell
from retell.types import call_list_params
from typing_extensions import get_type_hints

import retellapi
from retellapi import (
    HTML_PAGE,
    WRONG_SHAPE,
    Fault,
    HalfAnswer,
    Reply,
    Reset,
    RetellApi,
    Silence,
    make_agent,
    make_call,
)

NUMBERS = {"from_number": "+14155550100", "to_number": "+14155550101"}
CREATE = "/v2/create-phone-call"
LIST = "/v3/list-calls"


@pytest.fixture
def client(api: RetellApi) -> Iterator[Retell]:
    with make_client(api) as client:
        yield client


def make_client(api: RetellApi, **options: Any) -> Retell:
    # Certificates take most of a client's time to start, and nothing here is encrypted.
    http = retell.DefaultHttpxClient(verify=False)
    options = {"api_key": api.key, "max_retries": 0, "http_client": http, **options}
    return Retell(base_url=api.url, _strict_response_validation=True, **options)


def fill(api: RetellApi, *calls: dict[str, Any]) -> None:
    api.calls.update({call["call_id"]: call for call in calls})


def ask(api: RetellApi, method: str, path: str, **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {api.key}"} | options.pop("headers", {})
    return httpx.request(method, api.url + path, headers=headers, verify=False, **options)


def listed(client: Retell, **criteria: Any) -> list[str]:
    return [item.call_id for item in client.call.list(filter_criteria=criteria).items]


def test_a_phone_call_is_created(api: RetellApi, client: Retell) -> None:
    answer = client.call.with_raw_response.create_phone_call(
        **NUMBERS, override_agent_id="agent_2", metadata={"order": 7}
    )
    call = answer.parse()
    assert answer.status_code == 201
    assert (call.call_status, call.direction, call.agent_id) == (
        "registered",
        "outbound",
        "agent_2",
    )
    assert api.calls[call.call_id]["metadata"] == {"order": 7}
    assert client.call.retrieve(call.call_id).metadata == {"order": 7}


def test_a_web_call_is_created(client: Retell) -> None:
    answer = client.call.with_raw_response.create_web_call(agent_id="agent_1")
    call = client.call.retrieve(answer.parse().call_id)
    assert answer.status_code == 201
    assert (call.call_type, call.call_status) == ("web_call", "registered")
    assert client.call.list().items[0].call_type == "web_call"


def test_a_repeated_idempotency_key_makes_no_second_call(api: RetellApi, client: Retell) -> None:
    now = 1_000_000.0
    api.clock = lambda: now
    first, second = (
        client.call.create_phone_call(**NUMBERS, idempotency_key="k") for _ in range(2)
    )
    now += 3601
    third = client.call.create_phone_call(**NUMBERS, idempotency_key="k")
    assert first.call_id == second.call_id != third.call_id
    assert list(api.calls) == [first.call_id, third.call_id]


@pytest.mark.parametrize(
    "body",
    [
        {"from_number": "+14155550100"},
        {"to_number": "+14155550101"},
        NUMBERS | {"to_number": "4155550101"},
        NUMBERS | {"from_number": "100"},
        NUMBERS | {"to_number": "+14155550101\n"},
        NUMBERS | {"retell_llm_dynamic_variables": {"count": 7}},
        NUMBERS | {"metadata": None},
    ],
)
def test_a_bad_phone_call_is_400(api: RetellApi, body: dict[str, Any]) -> None:
    answer = ask(api, "POST", CREATE, json=body)
    assert (answer.status_code, answer.json()["status"]) == (400, "error")
    assert api.calls == {}


def test_a_missing_to_number_is_a_bad_request(client: Retell) -> None:
    with pytest.raises(retell.BadRequestError, match="to_number"):
        client.post(CREATE, body={"from_number": "+14155550100"}, cast_to=object)


def test_the_sender_may_be_a_pseudo_number(client: Retell) -> None:
    numbers = NUMBERS | {"from_number": "100"}
    call = client.call.create_phone_call(**numbers, ignore_e164_validation=True)
    assert call.from_number == "100"


@pytest.mark.parametrize("changes", [{}, {"call_analysis": None}, {"call_status": "ongoing"}])
def test_a_made_call_fits_the_sdk(api: RetellApi, client: Retell, changes: dict[str, Any]) -> None:
    fill(api, make_call(42, **changes))
    call = client.call.retrieve("call_000042").to_dict(mode="json")
    assert call == api.calls["call_000042"]
    assert not any(value is None for value in call.values())


def test_calls_are_listed_without_transcripts(api: RetellApi, client: Retell) -> None:
    fill(api, make_call(1))
    (item,) = client.call.list().items
    kept = {name for name in api.calls["call_000001"] if "transcript" not in name}
    assert item.to_dict().keys() == kept


def test_the_newest_calls_are_listed_first(api: RetellApi, client: Retell) -> None:
    fill(api, make_call(1), make_call(3), make_call(2))
    assert listed(client) == ["call_000003", "call_000002", "call_000001"]
    oldest = client.call.list(sort_order="ascending", limit=1).items
    assert [item.call_id for item in oldest] == ["call_000001"]


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_the_pages_hold_each_call_once(api: RetellApi, client: Retell, order: Any) -> None:
    fill(api, *(make_call(number, start_timestamp=number // 3) for number in range(25)))
    found, more = [], {}
    for size in (10, 10, 5):
        page = client.call.list(limit=10, sort_order=order, include_total=True, **more)
        assert (len(page.items), page.has_more, page.total) == (size, size == 10, 25)
        found += [item.call_id for item in page.items]
        more = {"pagination_key": page.pagination_key}
    assert found == sorted(api.calls, reverse=order == "descending")
    assert more == {"pagination_key": None}


def test_a_call_that_comes_between_pages_moves_nothing(api: RetellApi, client: Retell) -> None:
    fill(api, *(make_call(number) for number in range(4)))
    first = client.call.list(limit=2)
    fill(api, make_call(9))
    second = client.call.list(limit=2, pagination_key=first.pagination_key or "")
    assert [item.call_id for item in second.items] == ["call_000001", "call_000000"]


def test_a_list_can_skip(api: RetellApi, client: Retell) -> None:
    fill(api, *(make_call(number) for number in range(60)))
    assert len(client.call.list().items) == 50
    page = client.call.list(skip=55)
    assert (len(page.items), page.has_more, page.total) == (5, False, None)


def test_5000_calls_take_five_pages(api: RetellApi, client: Retell) -> None:
    fill(api, *(make_call(number) for number in range(5000)))
    bodies: list[dict[str, Any]] = [{"limit": 1000}]
    found = []
    while bodies:
        page = ask(api, "POST", LIST, json=bodies.pop()).json()
        found += [item["call_id"] for item in page["items"]]
        if page["has_more"]:
            bodies.append({"limit": 1000, "pagination_key": page["pagination_key"]})
    assert found == list(reversed(api.calls))
    assert len(api.requests) == 5


def one_of(*values: str) -> dict[str, Any]:
    return {"type": "enum", "op": "in", "value": values}


def text(operation: str, value: str, **more: str) -> dict[str, Any]:
    return {"type": "string", "op": operation, "value": value, **more}


def number(operation: str, value: float, **more: str) -> dict[str, Any]:
    return {"type": "number", "op": operation, "value": value, **more}


def between(*ends: float) -> dict[str, Any]:
    return {"type": "range", "op": "bt", "value": ends}


def boolean(value: bool, **more: str) -> dict[str, Any]:
    return {"type": "boolean", "op": "eq", "value": value, **more}


def present(operation: str, key: str) -> dict[str, Any]:
    return {"type": "present", "op": operation, "key": key}


DIFFERENT = make_call(
    2,
    agent_id="agent_2",
    agent_version=3,
    agent_tag="prod",
    call_status="error",
    direction="inbound",
    from_number="+14155550177",
    to_number="+14155550188",
    disconnection_reason="error_asr",
    data_storage_setting="basic_attributes_only",
    batch_call_id="batch_2",
    start_timestamp=2000,
    end_timestamp=2900,
    duration_ms=900,
    latency={"e2e": {"p50": 800}},
    metadata={"order": 7, "name": "seven", "paid": True},
    retell_llm_dynamic_variables={"first": "one"},
    collected_dynamic_variables={"second": "two"},
    custom_attributes={"tier": "gold"},
    call_analysis={
        "call_successful": False,
        "in_voicemail": True,
        "user_sentiment": "Negative",
        "custom_analysis_data": {"score": 4.5},
    },
    call_cost={
        "product_costs": [],
        "total_duration_seconds": 1,
        "total_duration_unit_price": 1,
        "combined_cost": 99.5,
    },
)
FILTERS: list[dict[str, Any]] = [
    {"agent": [{"agent_id": "agent_2"}, {"agent_id": "agent_3"}]},
    {"agent": [{"agent_id": "agent_2", "version": [2, 3]}]},
    {"agent_tag": one_of("prod")},
    {"batch_call_id": text("sw", "batch")},
    {"call_id": text("ew", "02")},
    {"call_id": one_of("call_000002", "call_000009")},
    {"call_status": one_of("error", "ongoing")},
    {"call_successful": boolean(False)},
    {"call_type": one_of("phone_call"), "direction": one_of("inbound")},
    {"combined_cost": number("gt", 50)},
    {"combined_cost": between(99.5, 100)},
    {"custom_analysis_data": [number("ge", 4.5, key="score")]},
    {"custom_attributes": [text("eq", "gold", key="tier")]},
    {"data_storage_setting": one_of("basic_attributes_only")},
    {"disconnection_reason": one_of("error_asr", "error_retell")},
    {"duration_ms": number("le", 900)},
    {"dynamic_variables": [text("eq", "one", key="first"), text("co", "w", key="second")]},
    {"e2e_latency_p50": between(700, 900)},
    {"end_timestamp": number("lt", 3000)},
    {"from_number": text("co", "0177")},
    {"in_voicemail": boolean(True)},
    {"metadata": [number("eq", 7, key="order"), boolean(True, key="paid")]},
    {"metadata": [present("pr", "name")]},
    {"metadata": [{**one_of("seven"), "key": "name"}]},
    {"start_timestamp": between(1000, 2000)},
    {"start_timestamp": number("ne", make_call(1)["start_timestamp"])},
    {"to_number": text("ne", make_call(1)["to_number"])},
    {"user_sentiment": one_of("Negative")},
]


@pytest.mark.parametrize("criteria", FILTERS, ids=str)
def test_a_filter_finds_what_it_asks_for(
    api: RetellApi, client: Retell, criteria: dict[str, Any]
) -> None:
    fill(api, make_call(1), DIFFERENT)
    assert listed(client, **criteria) == ["call_000002"]


def test_all_filters_must_hold(api: RetellApi, client: Retell) -> None:
    fill(api, make_call(1), DIFFERENT)
    assert listed(client, from_number=text("sw", "+1"), direction=one_of("outbound")) == [
        "call_000001"
    ]
    assert listed(client, call_status=one_of("error"), direction=one_of("outbound")) == []
    assert listed(client, metadata=[present("np", "order")]) == ["call_000001"]


@pytest.mark.parametrize(
    "body",
    [
        {"filter_criteria": {"call_status": one_of("registered")}},
        {"filter_criteria": {"call_status": ["ended"]}},
        {"filter_criteria": {"call_status": text("eq", "ended")}},
        {"filter_criteria": {"call_status": {"op": "in", "value": ["ended"]}}},
        {"filter_criteria": {"call_status": {"type": "enum", "op": "in"}}},
        {"filter_criteria": {"call_status": {"type": "other", "op": "other", "value": ""}}},
        {"filter_criteria": {"duration_ms": number("sw", 5)}},
        {"filter_criteria": {"duration_ms": number("gt", True)}},
        {"filter_criteria": {"start_timestamp": between(5)}},
        {"filter_criteria": {"start_timestamp": {"lower_threshold": 5}}},
        {"filter_criteria": {"metadata": [number("eq", 7)]}},
        {"filter_criteria": {"metadata": {"type": "other", "op": "other", "value": "a"}}},
        {"filter_criteria": {"metadata": number("eq", 7, key="order")}},
        {"filter_criteria": {"agent_id": ["agent_1"]}},
        {"filter_criteria": {"agent": [{"id": "agent_1"}]}},
        {"filter_criteria": []},
        {"limit": 1001},
        {"limit": 0},
        {"limit": "10"},
        {"skip": -1},
        {"sort_order": "random"},
        {"pagination_key": "call_000001"},
        {"page_size": 10},
        ["a list"],
    ],
    ids=str,
)
def test_a_bad_list_is_400(api: RetellApi, body: Any) -> None:
    answer = ask(api, "POST", LIST, json=body)
    assert (answer.status_code, answer.json()["status"]) == (400, "error")
    assert answer.json()["message"]


def test_the_filters_are_those_of_the_sdk() -> None:
    theirs = get_type_hints(call_list_params.FilterCriteria)
    assert theirs.keys() == retellapi.FILTERS.keys()
    plain = theirs.keys() - {"agent", "tool_calls", "disconnection_reason"}
    for name in plain:
        assert our_kinds(retellapi.FILTERS[name]) == their_kinds(theirs[name]), name


def their_kinds(annotation: Any) -> dict[str, Any]:
    """By type, the operators and the values that are allowed."""
    if hasattr(annotation, "__annotations__"):
        hints = get_type_hints(annotation)
        return {get_args(hints["type"])[0]: shape(hints)}
    return {
        name: each for part in get_args(annotation) for name, each in their_kinds(part).items()
    }


def our_kinds(annotation: Any) -> dict[str, Any]:
    if hasattr(annotation, "__struct_config__"):
        return {annotation.__struct_config__.tag: shape(annotation.__annotations__)}
    return {name: each for part in get_args(annotation) for name, each in our_kinds(part).items()}


def shape(hints: dict[str, Any]) -> tuple[set[str], set[Any]]:
    value = hints.get("value")
    part = get_args(value)[0] if get_origin(value) else None
    return set(get_args(hints["op"])), set(get_args(part))


def test_a_call_is_updated(api: RetellApi, client: Retell) -> None:
    fill(api, make_call(1, metadata={"order": 6}))
    call = client.call.update(
        "call_000001",
        metadata={"order": 7},
        custom_attributes={"tier": "gold"},
        data_storage_setting="everything_except_pii",
    )
    assert (call.metadata, call.data_storage_setting) == ({"order": 7}, "everything_except_pii")
    assert api.calls["call_000001"]["custom_attributes"] == {"tier": "gold"}


@pytest.mark.parametrize(
    ("call", "changes"),
    [
        ({"call_status": "ongoing"}, {"metadata": {}}),
        ({}, {"metadata": {"text": "x" * 50_000}}),
        ({}, {"custom_attributes": {"list": []}}),
        ({}, {"data_storage_setting": "nothing"}),
        (
            {"data_storage_setting": "basic_attributes_only"},
            {"data_storage_setting": "everything"},
        ),
    ],
)
def test_a_bad_update_is_400(
    api: RetellApi, client: Retell, call: dict[str, Any], changes: dict[str, Any]
) -> None:
    before = make_call(1, **call)
    fill(api, dict(before))
    with pytest.raises(retell.BadRequestError):
        client.call.update("call_000001", **changes)
    assert api.calls["call_000001"] == before


def test_a_call_is_stopped(client: Retell) -> None:
    call_id = client.call.create_phone_call(**NUMBERS).call_id
    assert client.call.with_raw_response.stop(call_id).status_code == 204
    call = client.call.retrieve(call_id)
    assert (call.call_status, call.disconnection_reason) == ("ended", "manual_stopped")


def test_a_call_is_deleted(api: RetellApi, client: Retell) -> None:
    fill(api, make_call(1))
    assert client.call.with_raw_response.delete("call_000001").status_code == 204
    assert api.calls == {}


def test_the_analysis_is_run_again(api: RetellApi, client: Retell) -> None:
    fill(api, make_call(1))
    assert client.call.rerun_analysis("call_000001").call_id == "call_000001"


def test_the_concurrency_counts_ongoing_calls(api: RetellApi, client: Retell) -> None:
    fill(api, make_call(1), make_call(2, call_status="ongoing"))
    concurrency = client.concurrency.retrieve()
    assert (concurrency.current_concurrency, concurrency.concurrency_limit) == (1, 20)


URL = {"webhook_url": "https://shop.example/webhooks/retellai"}


def test_an_agent_is_found_in_its_newest_version_or_another(
    api: RetellApi, client: Retell
) -> None:
    draft = make_agent(1, version=2, is_published=False, webhook_events=["call_ended"], **URL)
    api.agents["agent_1"] = [make_agent(1, version=1), draft]
    assert client.agent.retrieve("agent_1").to_dict(mode="json") == draft
    assert client.agent.retrieve("agent_1", version=1).is_published
    versions = client.agent.list_versions("agent_1", sort_order="descending").items
    assert [(each.version, each.is_published) for each in versions] == [(2, False), (1, True)]
    with pytest.raises(retell.UnprocessableEntityError):
        client.agent.retrieve("agent_1", version=3)


def test_a_chat_agent_is_found_as_one(api: RetellApi, client: Retell) -> None:
    agent = make_agent(2, voice_id=None, webhook_events=["chat_ended"], **URL)
    api.agents["agent_2"] = [agent]
    assert client.chat_agent.retrieve("agent_2").to_dict(mode="json") == agent
    with pytest.raises(retell.UnprocessableEntityError):
        client.agent.retrieve("agent_2")


def test_agents_are_listed_in_pages(api: RetellApi, client: Retell) -> None:
    api.agents = {f"agent_{n}": [make_agent(n)] for n in (1, 2, 3)}
    api.agents["agent_3"] = [make_agent(3, voice_id=None)]
    first = client.agent.list(limit=2, sort_order="ascending")
    rest = client.agent.list(sort_order="ascending", pagination_key=first.pagination_key or "")
    assert [each.agent_id for each in first.items] == ["agent_1", "agent_2"]
    assert [(each.agent_id, each.channel) for each in rest.items] == [("agent_3", "chat")]
    assert (first.has_more, rest.has_more) == (True, False)


@pytest.mark.parametrize("method", ["retrieve", "update", "stop", "delete", "rerun_analysis"])
def test_an_unknown_id_is_422(client: Retell, method: str) -> None:
    with pytest.raises(retell.UnprocessableEntityError, match="call_1"):
        getattr(client.call, method)("call_1")


def test_a_wrong_key_is_401(api: RetellApi) -> None:
    wrong = make_client(api, api_key="key_of_another")
    with wrong as client, pytest.raises(retell.AuthenticationError):
        client.call.create_phone_call(**NUMBERS)
    assert httpx.get(f"{api.url}/get-concurrency").status_code == 401
    assert api.calls == {}


@pytest.mark.parametrize("path", ["/", "/v2/list-calls", "/v2/get-call/a/b", CREATE])
def test_an_unknown_route_is_404(api: RetellApi, path: str) -> None:
    assert ask(api, "GET", path).status_code == 404


def test_an_id_may_need_quoting(api: RetellApi, client: Retell) -> None:
    fill(api, make_call(1, call_id="a/b c?d"))
    assert client.call.retrieve("a/b c?d").call_id == "a/b c?d"


@pytest.mark.parametrize(
    ("body", "kind"), [(b"{", "application/json"), (b"{}", "text/plain"), (b"\xff", None)]
)
def test_a_body_that_is_not_json_is_400(api: RetellApi, body: bytes, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert ask(api, "POST", LIST, content=body, headers=headers).status_code == 400


def test_an_answer_has_the_date_of_the_clock(api: RetellApi) -> None:
    api.clock = lambda: 1_767_225_600.0
    assert ask(api, "GET", "/").headers["Date"] == "Thu, 01 Jan 2026 00:00:00 GMT"


def test_requests_are_recorded(api: RetellApi, client: Retell) -> None:
    client.call.list(limit=5)
    (request,) = api.requests
    assert (request.method, request.path, request.json) == ("POST", LIST, {"limit": 5})
    assert request.headers["authorization"] == f"Bearer {api.key}"
    assert request.body == b'{"limit":5}'


def test_many_threads_create_one_call_each(api: RetellApi) -> None:
    def create(number: int) -> None:
        ask(api, "POST", CREATE, json=NUMBERS | {"idempotency_key": f"key_{number % 10}"})

    threads = [threading.Thread(target=create, args=[number]) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(api.calls), len(api.requests)) == (10, 40)


def test_a_throttled_request_is_429(api: RetellApi, client: Retell) -> None:
    api.faults.append(Reply(429, headers={"Retry-After": "7"}))
    with pytest.raises(retell.RateLimitError) as caught:
        client.call.list()
    assert caught.value.response.headers["Retry-After"] == "7"
    assert client.call.list().items == []


def test_the_sdk_tries_again_after_a_fault(api: RetellApi) -> None:
    api.faults.extend([Reply(429, headers={"Retry-After": "0.01"}), Reset()])
    with make_client(api, max_retries=2) as client:
        assert client.call.list().items == []
    assert (len(api.requests), len(api.faults)) == (3, 0)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Reset(), httpx.ReadError),
        (Reset(processed=True), httpx.ReadError),
        (HalfAnswer(), httpx.RemoteProtocolError),
        (HalfAnswer(processed=False), httpx.RemoteProtocolError),
        (Silence(0.05), httpx.RemoteProtocolError),
        (Silence(0.05, processed=True), httpx.RemoteProtocolError),
    ],
    ids=str,
)
def test_an_answer_may_get_lost(
    api: RetellApi, client: Retell, fault: Fault, cause: type[Exception]
) -> None:
    api.faults.append(fault)
    with pytest.raises(retell.APIConnectionError) as caught:
        client.call.create_phone_call(**NUMBERS)
    assert type(caught.value.__cause__) is cause
    assert len(api.calls) == fault.processed
    assert client.call.create_phone_call(**NUMBERS).call_id in api.calls


def test_a_reset_is_seen_as_one(api: RetellApi) -> None:
    api.faults.append(Reset())
    with socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2])), 5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_silent_server_times_out(api: RetellApi) -> None:
    api.faults.append(Silence(30))
    with make_client(api, timeout=0.1) as client:
        began = time.monotonic()
        with pytest.raises(retell.APITimeoutError):
            client.call.list()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (HTML_PAGE, retell.APIResponseValidationError),
        (WRONG_SHAPE, retell.APIResponseValidationError),
        (Reply(200, "{"), json.JSONDecodeError),
    ],
    ids=str,
)
def test_an_answer_may_be_unusable(
    api: RetellApi, client: Retell, fault: Reply, error: type[Exception]
) -> None:
    api.faults.append(fault)
    with pytest.raises(error):
        client.call.list()


def test_a_page_of_html_says_so(api: RetellApi) -> None:
    api.faults.append(HTML_PAGE)
    answer = ask(api, "POST", LIST)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")


def test_an_answer_may_be_a_redirect(api: RetellApi) -> None:
    api.faults.append(Reply(301, "", {"Location": "http://127.0.0.1:9/elsewhere"}))
    answer = ask(api, "GET", "/get-concurrency", follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (
        301,
        "http://127.0.0.1:9/elsewhere",
    )


def test_an_error_can_follow_the_effect(api: RetellApi, client: Retell) -> None:
    api.faults.append(Reply(500, processed=True))
    with pytest.raises(retell.InternalServerError):
        client.call.create_phone_call(**NUMBERS)
    assert len(api.calls) == 1
