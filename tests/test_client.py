"""``RetellClient`` and ``retell.client``, against the stand-in for Retell's API."""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from flask import Flask

from clients import NUMBERS, fill, make_client, skip_waiting
from retell_flask import (
    ApiError,
    Call,
    ConfigurationError,
    NotFound,
    RetellBlueprint,
    RetellClient,
    Unreachable,
    WebCall,
)
from retellapi import Reply, RetellApi, Silence, make_call
from support import KEY, make_app

ODD_IDS = ["a/b", "a b", "a?b=c", "a#b", "a%2Fb", "a&b;c", "é漢", "../x", "a\\b", "call_1\n"]


@pytest.fixture
def client(api: RetellApi) -> RetellClient:
    return make_client(api)


@pytest.fixture
def nobody() -> RetellClient:
    """A client of what is not there, which is an error of its own as soon as it is asked."""
    return RetellClient("key", url="http://127.0.0.1:1")


@pytest.fixture
def create(api: RetellApi, client: RetellClient) -> Callable[..., Any]:
    """Create a phone call with more fields, and return what was sent besides."""

    def create(**fields: Any) -> Any:
        client.create_phone_call(**{**NUMBERS, **fields})
        always = {*NUMBERS, "idempotency_key"}
        return {name: value for name, value in sent(api).items() if name not in always}

    return create


def sent(api: RetellApi) -> Any:
    """The body of the last request."""
    return api.requests[-1].json


def test_a_phone_call_is_created(api: RetellApi, client: RetellClient) -> None:
    call = client.create_phone_call(
        "+14155550100", "+14155550101", override_agent_id="agent_2", metadata={"order": 7}
    )
    assert type(call) is Call
    assert (call.call_status, call.direction) == ("registered", "outbound")
    assert (call.agent_id, call.metadata) == ("agent_2", {"order": 7})
    assert list(api.calls) == [call.call_id]


def test_a_call_is_fetched(api: RetellApi, client: RetellClient) -> None:
    fill(api, make_call(1))
    call = client.get_call("call_000001")
    assert (call.call_id, call.transcript) == ("call_000001", "Agent: Hello\n")
    assert call.duration == timedelta(seconds=30)
    assert call.analysis is not None
    assert call.analysis.call_successful is True


@pytest.mark.parametrize("call_id", ODD_IDS)
def test_an_id_is_quoted(api: RetellApi, client: RetellClient, call_id: str) -> None:
    fill(api, make_call(1, call_id=call_id))
    assert client.get_call(call_id).call_id == call_id
    assert client.update_call(call_id, metadata={"order": 7}).metadata == {"order": 7}
    client.stop_call(call_id)
    assert {request.path.count("/") for request in api.requests} == {3}


@pytest.mark.parametrize("call_id", ["", None, 7, b"call_1", ".", ".."])
@pytest.mark.parametrize("name", ["get_call", "update_call", "stop_call"])
def test_what_is_no_id_is_refused(nobody: RetellClient, name: str, call_id: Any) -> None:
    with pytest.raises(ValueError, match="call_id"):
        getattr(nobody, name)(call_id)


def test_an_unknown_call_is_not_found(client: RetellClient) -> None:
    with pytest.raises(NotFound, match="Call call_1 is not found") as caught:
        client.get_call("call_1")
    assert caught.value.status == 422


@pytest.mark.parametrize("number", ["+14155550101", "+4930123456", "+12", "+123456789012345"])
def test_numbers_in_e164_form_are_sent(api: RetellApi, number: str) -> None:
    make_client(api).create_phone_call(number, number)
    assert (sent(api)["from_number"], sent(api)["to_number"]) == (number, number)


NO_NUMBERS = [
    *("", "4155550101", "+", "+1", "+04155550101", "+1234567890123456", "+1 415 555 0101"),
    *("+1-415-5550101", "+14155550101\n", " +14155550101", "\uff0b14155550101"),
    *("+\uff11\uff14\uff11\uff15\uff15\uff15\uff15", "+1415555010\u0661", "tel:+14155550101"),
    *(None, 14155550101, b"+14155550101"),
]


@pytest.mark.parametrize("number", NO_NUMBERS)
@pytest.mark.parametrize("name", ["from_number", "to_number"])
def test_other_numbers_are_refused_unsent(nobody: RetellClient, name: str, number: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is not in E\.164 form.*check_e164=False"):
        nobody.create_phone_call(**NUMBERS | {name: number})


def test_the_check_can_be_left_to_retell(api: RetellApi, client: RetellClient) -> None:
    with pytest.raises(ApiError) as caught:
        client.create_phone_call("100", "4155550101", check_e164=False)
    assert caught.value.status == 400
    assert (sent(api)["from_number"], sent(api)["to_number"]) == ("100", "4155550101")
    assert "check_e164" not in sent(api)


def test_an_internal_number_may_call(api: RetellApi, client: RetellClient) -> None:
    call = client.create_phone_call("100", "+14155550101", ignore_e164_validation=True)
    assert call.from_number == "100"
    assert sent(api)["ignore_e164_validation"] is True
    with pytest.raises(ValueError, match=r"^to_number"):
        client.create_phone_call("100", "101", ignore_e164_validation=True)


def test_each_call_has_a_key_of_its_own(api: RetellApi, client: RetellClient) -> None:
    created = [client.create_phone_call(**NUMBERS).call_id for _ in range(3)]
    keys = {request.json["idempotency_key"] for request in api.requests}
    assert len(keys) == len(set(created)) == 3
    assert all(len(key) >= 32 for key in keys)


def test_a_key_that_is_given_is_kept(api: RetellApi, client: RetellClient) -> None:
    first, second = (client.create_phone_call(**NUMBERS, idempotency_key="k") for _ in "12")
    assert first.call_id == second.call_id
    assert [request.json["idempotency_key"] for request in api.requests] == ["k", "k"]


def test_an_agent_id_is_translated(create: Callable[..., Any]) -> None:
    with pytest.warns(UserWarning, match=r"no field 'agent_id'.*override_agent_id"):
        assert create(agent_id="agent_2") == {"override_agent_id": "agent_2"}


def test_a_webhook_url_is_translated(create: Callable[..., Any]) -> None:
    with pytest.warns(UserWarning, match=r"no field 'webhook_url'.*agent_override"):
        fields = create(webhook_url="https://host/hook")
    assert fields == {"agent_override": {"agent": {"webhook_url": "https://host/hook"}}}


@pytest.mark.parametrize("old", [{"agent_id": "agent_2"}, {"webhook_url": "https://host/hook"}])
@pytest.mark.parametrize("is_patient", [False, True])
def test_the_warning_points_at_the_line_of_the_call(
    client: RetellClient, old: dict[str, str], is_patient: bool
) -> None:
    client = client.patient() if is_patient else client
    with pytest.warns(UserWarning, match="it was sent as") as caught:
        client.create_phone_call("+14155550100", "+14155550101", **old)  # here
    (warning,) = caught
    assert warning.filename == __file__
    assert linecache.getline(__file__, warning.lineno).endswith("# here\n")


@pytest.mark.parametrize("name", ["create_phone_call", "create_web_call"])
def test_dynamic_variables_are_found_by_their_short_name(
    api: RetellApi, client: RetellClient, name: str
) -> None:
    needed = NUMBERS if name == "create_phone_call" else {"agent_id": "agent_1"}
    with pytest.warns(UserWarning, match=r"no field 'dynamic_variables'.*retell_llm_dynamic"):
        getattr(client, name)(**needed, dynamic_variables={"visits": 3})
    assert sent(api)["retell_llm_dynamic_variables"] == {"visits": "3"}
    assert "dynamic_variables" not in sent(api)


def test_what_is_none_is_left_out(api: RetellApi, create: Callable[..., Any]) -> None:
    nothing = dict.fromkeys(["metadata", "retell_llm_dynamic_variables", "agent_override", "new"])
    assert create(**nothing, override_agent_id="agent_2") == {"override_agent_id": "agent_2"}


@pytest.mark.filterwarnings("ignore:Retell has no field")
@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"agent_id": "a", "override_agent_id": None}, {"override_agent_id": "a"}),
        ({"agent_id": None, "override_agent_id": "a"}, {"override_agent_id": "a"}),
        ({"agent_id": None}, {}),
        ({"webhook_url": None}, {}),
    ],
)
def test_none_is_no_second_value(
    create: Callable[..., Any], given: dict[str, Any], fields: dict[str, Any]
) -> None:
    assert create(**given) == fields


def test_what_is_named_as_retell_names_it_brings_no_warning(create: Callable[..., Any]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        create(override_agent_id="agent_2", agent_override={"agent": {"webhook_url": "u"}})
    assert caught == []


@pytest.mark.filterwarnings("ignore:Retell has no field")
def test_two_names_for_one_agent_may_agree(create: Callable[..., Any]) -> None:
    fields = create(agent_id="agent_2", override_agent_id="agent_2")
    assert fields == {"override_agent_id": "agent_2"}
    override = {"agent": {"webhook_url": "u"}}
    assert create(webhook_url="u", agent_override=override) == {"agent_override": override}


@pytest.mark.filterwarnings("ignore:Retell has no field")
@pytest.mark.parametrize(
    "fields",
    [
        {"agent_id": "agent_2", "override_agent_id": "agent_3"},
        {"webhook_url": "u", "agent_override": {"agent": {"webhook_url": "v"}}},
    ],
)
def test_two_names_for_two_things_are_refused(
    nobody: RetellClient, fields: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=next(iter(fields))):
        nobody.create_phone_call(**NUMBERS, **fields)


@pytest.mark.filterwarnings("ignore:Retell has no field")
@pytest.mark.parametrize("agent", [{"agent": {"voice_id": "v"}}, {"agent": {}}, {}])
def test_a_given_override_is_kept_and_not_changed(
    create: Callable[..., Any], agent: dict[str, Any]
) -> None:
    given = {**agent, "retell_llm": {"model": "m"}}
    before = repr(given)
    assert create(webhook_url="u", agent_override=given) == {
        "agent_override": {**given, "agent": {**agent.get("agent", {}), "webhook_url": "u"}}
    }
    assert repr(given) == before


@pytest.mark.filterwarnings("ignore:Retell has no field")
@pytest.mark.parametrize("override", [None, {"agent": None}])
def test_an_override_may_be_empty(create: Callable[..., Any], override: Any) -> None:
    fields = create(webhook_url="u", agent_override=override)
    assert fields == {"agent_override": {"agent": {"webhook_url": "u"}}}


def test_fields_that_retell_adds_pass_through(api: RetellApi, client: RetellClient) -> None:
    new = {"mood": {"of": ["the", "day", None], "at": 1.5}, "honor_internal_dnc": True}
    client.create_phone_call(**NUMBERS, **new)
    assert new.items() <= sent(api).items()
    client.create_web_call("agent_1", **new)
    assert sent(api) == {"agent_id": "agent_1", **new}
    fill(api, make_call(1))
    client.update_call("call_000001", **new)
    assert sent(api) == new


VARIABLES = {"a": "text", "b": 7, "c": 42.5, "d": True, "e": False, "f": Decimal("0.10"), "g": ""}
TEXTS = {"a": "text", "b": "7", "c": "42.5", "d": "true", "e": "false", "f": "0.10", "g": ""}


def test_dynamic_variables_become_text(create: Callable[..., Any]) -> None:
    given = dict(VARIABLES)
    fields = create(retell_llm_dynamic_variables=given)
    assert fields == {"retell_llm_dynamic_variables": TEXTS}
    assert given == VARIABLES


def test_dynamic_variables_of_a_web_call_become_text(api: RetellApi, client: RetellClient) -> None:
    client.create_web_call("agent_1", retell_llm_dynamic_variables=VARIABLES)
    assert sent(api)["retell_llm_dynamic_variables"] == TEXTS


@pytest.mark.parametrize("value", [None, [], {}, b"x", float("nan"), float("inf"), object()])
@pytest.mark.parametrize("name", ["create_phone_call", "create_web_call"])
def test_other_dynamic_variables_are_refused(nobody: RetellClient, name: str, value: Any) -> None:
    needed = NUMBERS if name == "create_phone_call" else {"agent_id": "agent_1"}
    with pytest.raises(TypeError, match=r"^retell_llm_dynamic_variables\['due'\] is of type"):
        getattr(nobody, name)(**needed, retell_llm_dynamic_variables={"due": value})
    with pytest.raises(TypeError, match=r"^retell_llm_dynamic_variables must be a dict"):
        getattr(nobody, name)(**needed, retell_llm_dynamic_variables=[("a", "b")])


def test_a_web_call_is_created(api: RetellApi, client: RetellClient) -> None:
    call = client.create_web_call("agent_2", metadata={"order": 7})
    assert type(call) is WebCall
    assert (call.access_token, call.transport) == ("token_000001", "gateway")
    assert call.ice_servers is not None
    assert [server.urls for server in call.ice_servers] == ["stun:127.0.0.1:3478"]
    assert call.expires_at is not None
    assert api.calls[call.call_id]["metadata"] == {"order": 7}
    assert call.access_token not in f"{call} {call!r}"


def test_a_call_is_updated(api: RetellApi, client: RetellClient) -> None:
    fill(api, make_call(1, metadata={"order": 6}))
    call = client.update_call(
        "call_000001", metadata={"order": 7}, data_storage_setting="everything_except_pii"
    )
    assert (type(call), call.metadata) == (Call, {"order": 7})
    assert api.calls["call_000001"]["data_storage_setting"] == "everything_except_pii"


def test_a_call_is_stopped(api: RetellApi, client: RetellClient) -> None:
    call_id = client.create_phone_call(**NUMBERS).call_id
    assert client.stop_call(call_id) is None  # type: ignore[func-returns-value]
    assert api.calls[call_id]["disconnection_reason"] == "manual_stopped"


def test_anything_else_can_be_requested(api: RetellApi, client: RetellClient) -> None:
    fill(api, make_call(1, call_status="ongoing"))
    assert client.request("GET", "/get-concurrency") == {
        "current_concurrency": 1,
        "concurrency_limit": 20,
    }
    answer = client.request("put", "/rerun-call-analysis/call_000001")
    assert answer["call_id"] == "call_000001"
    listed = client.request("POST", "/v3/list-calls", json={"limit": 1})
    assert [call["call_id"] for call in listed["items"]] == ["call_000001"]


@pytest.mark.parametrize("fault", [None, Reply(200, ""), Reply(200, "\r\n "), Reply(202, "")])
def test_an_empty_answer_is_none(
    api: RetellApi, client: RetellClient, fault: Reply | None
) -> None:
    fill(api, make_call(1))
    if fault:
        api.faults.append(fault)
    assert client.request("DELETE", "/v2/delete-call/call_000001") is None


@pytest.mark.parametrize("value", [[], {}, 0, False, "text", None, [{"a": 1.5}]])
def test_an_answer_is_its_json(api: RetellApi, client: RetellClient, value: Any) -> None:
    api.faults.append(Reply(200, [value]))
    assert client.request("GET", "/get-concurrency") == [value]


def test_an_answer_with_javascripts_oddities_is_read(api: RetellApi, client: RetellClient) -> None:
    api.faults.append(Reply(200, r'{"text": "\ud83d", "number": 1e999}'))
    answer = client.request("GET", "/get-concurrency")
    assert answer == {"text": "\ufffd", "number": None}


def test_parameters_become_the_query(api: RetellApi, client: RetellClient) -> None:
    params = {"limit": 5, "name": "a b&c", "tag": ["x", "y"]}
    client.request("GET", "/get-concurrency", params=params)
    assert api.requests[-1].path == "/get-concurrency?limit=5&name=a+b%26c&tag=x&tag=y"
    assert api.requests[-1].body == b""


@pytest.mark.parametrize("path", ["get-concurrency", "", "http://example.org/", "@example.org/"])
def test_a_path_begins_with_a_slash(nobody: RetellClient, path: str) -> None:
    with pytest.raises(ValueError, match="/get-concurrency"):
        nobody.request("GET", path)


@pytest.mark.parametrize("path", ["", "/", "/below", "/below/"])
def test_the_address_may_have_a_path(api: RetellApi, path: str) -> None:
    api.faults.append(Reply(200, {}))
    make_client(api, url=api.url + path).request("GET", "/get-concurrency")
    assert api.requests[-1].path == path.rstrip("/") + "/get-concurrency"


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2500])
def test_all_calls_are_listed_page_by_page(
    api: RetellApi, client: RetellClient, count: int
) -> None:
    fill(api, *(make_call(number) for number in range(count)))
    listed = [call.call_id for call in client.list_calls(sort_order="ascending")]
    assert listed == list(api.calls)
    assert len(api.requests) == max(1, -(-count // 1000))
    assert {request.json["limit"] for request in api.requests} == {1000}


def test_the_newest_calls_are_listed_first(api: RetellApi, client: RetellClient) -> None:
    fill(api, make_call(1), make_call(3), make_call(2))
    calls = list(client.list_calls())
    assert [call.call_id[-1] for call in calls] == ["3", "2", "1"]
    assert {call.transcript for call in calls} == {None}


@pytest.mark.parametrize(
    ("limit", "asked"),
    [(0, []), (1, [1]), (999, [999]), (1000, [1000])]
    + [(1001, [1000, 1]), (2400, [1000, 1000, 400]), (2600, [1000, 1000, 600])],
)
def test_a_limit_is_the_most_there_will_be(
    api: RetellApi, client: RetellClient, limit: int, asked: list[int]
) -> None:
    fill(api, *(make_call(number) for number in range(2500)))
    assert len(list(client.list_calls(limit=limit))) == min(limit, 2500)
    assert [request.json["limit"] for request in api.requests] == asked


def test_a_limit_below_zero_is_refused(nobody: RetellClient) -> None:
    with pytest.raises(ValueError, match="limit"):
        nobody.list_calls(limit=-1)


@pytest.mark.parametrize("more", [{}, {"pagination_key": "k"}])
def test_at_its_limit_a_list_ends_whatever_retell_has_left(
    api: RetellApi, client: RetellClient, more: dict[str, str]
) -> None:
    items = [make_call(number) for number in range(5)]
    api.faults.append(Reply(200, {"items": items, "has_more": True, **more}))
    assert len(list(client.list_calls(limit=3))) == 3
    assert len(api.requests) == 1


def test_pages_are_asked_for_as_they_are_needed(api: RetellApi, client: RetellClient) -> None:
    fill(api, *(make_call(number) for number in range(2500)))
    calls = client.list_calls()
    asked = [len(api.requests)]
    for count in (1, 999, 1, 998):
        assert len(list(islice(calls, count))) == count
        asked.append(len(api.requests))
    assert asked == [0, 1, 1, 2, 2]


def test_a_list_goes_on_from_the_key_of_its_page(api: RetellApi, client: RetellClient) -> None:
    last = {"items": [make_call(2)], "has_more": False}
    api.faults.append(
        Reply(200, {"items": [make_call(1)], "has_more": True, "pagination_key": "ä/="})
    )
    api.faults.append(Reply(200, last))
    calls = client.list_calls(call_status="ended", sort_order="ascending")
    assert [call.call_id[-1] for call in calls] == ["1", "2"]
    first, second = (request.json for request in api.requests)
    assert second == {**first, "pagination_key": "ä/="}


def test_an_empty_page_is_not_the_end(api: RetellApi, client: RetellClient) -> None:
    api.faults.append(Reply(200, {"items": [], "has_more": True, "pagination_key": "k"}))
    api.faults.append(Reply(200, {"items": [make_call(1)], "has_more": False}))
    assert len(list(client.list_calls())) == 1


@pytest.mark.parametrize("keys", [[None], [""], ["k", "k"], ["k", None]])
def test_more_calls_without_a_new_key_are_an_error(
    api: RetellApi, client: RetellClient, keys: list[str | None]
) -> None:
    for key in keys:
        page = {"items": [make_call(1)], "has_more": True, "pagination_key": key}
        api.faults.append(Reply(200, page))
    calls = client.list_calls()
    assert len(list(islice(calls, len(keys)))) == len(keys)
    with pytest.raises(ApiError, match="no key"):
        next(calls)
    assert len(api.requests) == len(keys)


def test_an_error_between_pages_is_raised_there(api: RetellApi, client: RetellClient) -> None:
    fill(api, *(make_call(number) for number in range(1500)))
    calls = client.list_calls()
    next(calls)
    api.faults.append(Reply(400))
    with pytest.raises(ApiError, match="Something went wrong"):
        list(calls)


def test_lists_are_filtered(api: RetellApi, client: RetellClient) -> None:
    fill(api, *(make_call(number) for number in range(10)))
    fill(api, make_call(10, call_status="error", metadata={"campaign": "autumn"}))
    start = datetime(2026, 1, 1, 0, 8, tzinfo=timezone.utc)
    for filters, numbers in [
        ({"call_status": "error"}, [10]),
        ({"start_timestamp": (start, None)}, [10, 9, 8]),
        ({"start_timestamp": (start, None), "call_status": ["ended", "ongoing"]}, [9, 8]),
        ({"metadata": {"campaign": "autumn"}}, [10]),
        ({"to_number": {"type": "string", "op": "ew", "value": "07"}}, [7]),
        ({"duration_ms": timedelta(seconds=30), "agent": "agent_2"}, []),
    ]:
        assert [int(call.call_id[-6:]) for call in client.list_calls(**filters)] == numbers


def test_a_wrong_filter_is_refused_before_the_list_is_read(nobody: RetellClient) -> None:
    with pytest.raises(TypeError, match="call_successful"):
        nobody.list_calls(call_successful="yes")


def test_the_application_has_a_client(api: RetellApi, retell: RetellBlueprint) -> None:
    app = make_app(retell, RETELL_API_KEY=api.key, RETELL_API_URL=api.url + "/")
    with app.app_context():
        call = retell.client.create_phone_call(**NUMBERS)
        assert retell.client is retell.client
    with app.app_context():
        assert retell.client.get_call(call.call_id).call_status == "registered"


def test_a_view_has_a_client(api: RetellApi, retell: RetellBlueprint) -> None:
    app = make_app(retell, RETELL_API_KEY=api.key, RETELL_API_URL=api.url)

    @app.get("/calls")
    def calls() -> dict[str, int]:
        return {"calls": len(list(retell.client.list_calls()))}

    assert app.test_client().get("/calls").json == {"calls": 0}


def test_there_is_no_client_outside_of_an_app_context(app: Flask, retell: RetellBlueprint) -> None:
    with pytest.raises(RuntimeError, match=r"retell\.client works .* with app\.app_context\(\):"):
        _ = retell.client


def test_there_is_no_client_where_the_blueprint_is_not_registered(
    app: Flask, retell: RetellBlueprint
) -> None:
    for other in (Flask("bare"), make_app(RetellBlueprint()), make_app(RetellBlueprint("other"))):
        with (
            other.app_context(),
            pytest.raises(ConfigurationError, match="'retell' is not registered on the current"),
        ):
            _ = retell.client


def refusal(retell: RetellBlueprint, **options: Any) -> str:
    with make_app(retell, **options).app_context():
        with pytest.raises(ConfigurationError) as caught:
            _ = retell.client
        return str(caught.value)


def test_a_webhook_secret_is_no_api_key(api: RetellApi) -> None:
    options = {"SALES_WEBHOOK_SECRET": KEY, "SALES_API_URL": api.url}
    message = refusal(RetellBlueprint(config_prefix="SALES"), **options)
    assert message.startswith("SALES_API_KEY is not set")


def test_a_test_rings_no_phone() -> None:
    options = {"SALES_API_KEY": KEY, "TESTING": True}
    message = refusal(RetellBlueprint(config_prefix="SALES"), **options)
    assert message.startswith("TESTING is on")
    assert "SALES_API_URL" in message


def test_a_key_that_no_header_can_carry_is_told_by_the_client(retell: RetellBlueprint) -> None:
    message = refusal(retell, RETELL_API_KEY="clé_0123", RETELL_API_URL="http://127.0.0.1:1")
    assert "API key" in message
    assert "cl" not in message


def test_retell_is_asked_where_nothing_else_is_said(
    retell: RetellBlueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_waiting(monkeypatch)
    addresses = set()

    def refuse(address: tuple[str, int], *_: Any, **__: Any) -> None:
        addresses.add(address)
        raise ConnectionRefusedError

    monkeypatch.setattr("urllib3.util.connection.create_connection", refuse)
    for client in (RetellClient(KEY), client_of(make_app(retell, TESTING=False), retell)):
        with pytest.raises(Unreachable):
            client.get_call("call_1")
    assert addresses == {("api.retellai.com", 443)}


def client_of(app: Flask, retell: RetellBlueprint) -> RetellClient:
    with app.app_context():
        return retell.client


def test_the_first_of_several_keys_is_used(api: RetellApi, retell: RetellBlueprint) -> None:
    options = {"RETELL_API_KEY": [api.key, "key_before"], "RETELL_WEBHOOK_SECRET": "other"}
    client_of(make_app(retell, RETELL_API_URL=api.url, **options), retell).request(
        "GET", "/get-concurrency"
    )
    assert api.requests[-1].headers["authorization"] == f"Bearer {api.key}"


def test_two_blueprints_have_two_keys(api: RetellApi) -> None:
    sales = RetellBlueprint("sales", url_prefix="/sales", config_prefix="SALES")
    support = RetellBlueprint("support", url_prefix="/support", config_prefix="SUPPORT")
    options = {"SALES_API_KEY": "key_a", "SUPPORT_API_KEY": "key_b"}
    app = make_app(sales, support, SALES_API_URL=api.url, SUPPORT_API_URL=api.url, **options)
    for blueprint in (sales, support):
        with pytest.raises(ApiError):
            client_of(app, blueprint).get_call("call_1")
    used = [request.headers["authorization"] for request in api.requests]
    assert used == ["Bearer key_a", "Bearer key_b"]


def test_one_blueprint_has_a_client_for_each_app(api: RetellApi, retell: RetellBlueprint) -> None:
    apps = [make_app(retell, RETELL_API_KEY=k, RETELL_API_URL=api.url) for k in ("a", "b")]
    for app in apps:
        with pytest.raises(ApiError):
            client_of(app, retell).get_call("call_1")
    used = [request.headers["authorization"] for request in api.requests]
    assert used == ["Bearer a", "Bearer b"]


def test_the_option_sets_the_timeout(
    api: RetellApi, retell: RetellBlueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_waiting(monkeypatch)
    options = {"RETELL_API_URL": api.url, "RETELL_API_TIMEOUT": "50ms"}
    client = client_of(make_app(retell, **options), retell)
    api.faults.append(Silence(5))
    with pytest.raises(Unreachable, match=r"no answer within 0\.05 s"):
        client.stop_call("call_1")
