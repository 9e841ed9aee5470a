"""``flask retell call``."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cli.shop import Shop
from clients import skip_waiting
from retell_flask import RetellBlueprint
from retellapi import HTML_PAGE, Fault, HalfAnswer, Reply, Reset, RetellApi
from support import KEY, call_payload, make_app

FROM, TO = "+14155550100", "+14155550142"
CALL_ID = "call_created_000001"
LONGEST = 10.0
SPOKEN = "spoken by the caller"


@pytest.fixture
def shop(make_shop: Callable[..., Shop], api: RetellApi) -> Shop:
    shop = make_shop(RETELL_API_URL=api.url)
    shop.inbox.check()
    return shop


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_waiting(monkeypatch)
    monkeypatch.setattr("retell_flask.cli.call._POLL_SECONDS", 0.01)
    for name in ("_LONGEST_CALL_SECONDS", "_ANALYSIS_SECONDS"):
        monkeypatch.setattr(f"retell_flask.cli.call.{name}", LONGEST)


def fields(api: RetellApi) -> dict[str, Any]:
    """What was sent beside what always is."""
    (request,) = api.requests
    always = ("from_number", "to_number", "idempotency_key")
    return {name: value for name, value in request.json.items() if name not in always}


def test_a_call_is_started(shop: Shop, api: RetellApi) -> None:
    assert shop.run("call", FROM, TO) == f"{CALL_ID} is registered.\n"
    assert (api.calls[CALL_ID]["from_number"], api.calls[CALL_ID]["to_number"]) == (FROM, TO)
    assert fields(api) == {}


def test_it_needs_no_inbox(make_shop: Callable[..., Shop], api: RetellApi) -> None:
    shop = make_shop(RETELL_API_URL=api.url, RETELL_INBOX_URL="none")
    assert shop.run("call", FROM, TO) == f"{CALL_ID} is registered.\n"


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["--agent", "agent_2"], {"override_agent_id": "agent_2"}),
        (["--var", "name=Ada"], {"retell_llm_dynamic_variables": {"name": "Ada"}}),
        (
            ["--var", "name=Ada", "--var", "sum=1+1=2", "--var", "empty=", "--var", "a b= c "],
            {
                "retell_llm_dynamic_variables": {
                    "name": "Ada",
                    "sum": "1+1=2",
                    "empty": "",
                    "a b": " c ",
                }
            },
        ),
        (["--metadata", '{"order": 7, "of": [null]}'], {"metadata": {"order": 7, "of": [None]}}),
        (["--metadata", "{}"], {"metadata": {}}),
    ],
)
def test_options_become_fields(
    shop: Shop, api: RetellApi, arguments: list[str], sent: dict[str, Any]
) -> None:
    shop.run("call", FROM, TO, *arguments)
    assert fields(api) == sent


@pytest.mark.parametrize("text", ["Ada", "=Ada", "", "="])
def test_a_variable_has_a_name_and_a_value(shop: Shop, api: RetellApi, text: str) -> None:
    output = shop.run("call", FROM, TO, "--var", text, code=2)
    assert f"Invalid value for --var: {text!r} is not NAME=VALUE." in output
    assert api.requests == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        '"text"',
        "order=7",
        "{'a': 1}",
        '{"a": NaN}',
        '{"a": -Infinity}',
    ],
)
def test_metadata_is_a_json_object(shop: Shop, api: RetellApi, text: str) -> None:
    output = shop.run("call", FROM, TO, "--metadata", text, code=2)
    assert (
        'Invalid value for --metadata: It must be a JSON object, such as {"order": 7}.' in output
    )
    assert api.requests == []


@pytest.mark.parametrize(
    ("from_number", "to_number", "name"),
    [("4155550100", TO, "FROM"), (FROM, "+1 415 555 0142", "TO"), (FROM, "", "TO")],
)
def test_a_number_is_checked_before_the_call(
    shop: Shop, api: RetellApi, from_number: str, to_number: str, name: str
) -> None:
    output = shop.run("call", from_number, to_number, code=2)
    last = output.splitlines()[-1]
    assert last.startswith(f"Error: {name} is not in E.164 form")
    assert last.endswith("without spaces, such as '+14155550142'.")
    assert api.requests == []


@pytest.mark.parametrize("arguments", [[], [FROM], [FROM, TO, TO]])
def test_two_numbers_are_needed(shop: Shop, api: RetellApi, arguments: list[str]) -> None:
    shop.run("call", *arguments, code=2)
    assert api.requests == []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Reply(400, {"message": "No such\nnumber \x1b[2J"}), r"400 No such\nnumber \x1b[2J"),
        (Reply(401), "401 Something went wrong"),
        (Reply(402, {"message": "The trial is over"}), "402 The trial is over"),
        (Reply(422, {"message": "Agent not found"}), "422 Agent not found"),
        (Reply(429, headers={"Retry-After": "3600"}), "429 Something went wrong"),
        (Reply(500), "500 Something went wrong"),
    ],
    ids=str,
)
def test_what_retell_refuses_is_one_line(
    shop: Shop, api: RetellApi, fault: Fault, message: str
) -> None:
    api.faults.extend([fault] * 4)
    output = shop.run("call", FROM, TO, code=1)
    assert output.startswith(f"Error: POST /v2/create-phone-call: {message}")
    assert len(output.splitlines()) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Reset(), "the connection broke off."),
        (HalfAnswer(), "the connection broke off."),
        (
            HTML_PAGE,
            "it is not what was asked for. Is its address right, and no proxy in between?",
        ),
    ],
    ids=str,
)
def test_where_no_answer_came_the_phone_may_ring(
    shop: Shop, api: RetellApi, fault: Fault, message: str
) -> None:
    api.faults.extend([fault] * 4)
    output = shop.run("call", FROM, TO, code=1)
    end = f"{message} The call may have been started all the same: look before you try again.\n"
    assert output.startswith("Error: ")
    assert output.endswith(end)
    assert len(output.splitlines()) == 1


def test_where_nobody_answers_no_phone_rings(make_shop: Callable[..., Shop]) -> None:
    output = make_shop(RETELL_API_URL="http://127.0.0.1:1").run("call", FROM, TO, code=1)
    assert output.startswith("Error: POST http://127.0.0.1:1/v2/create-phone-call: no connection")
    assert output.endswith(" No call was started.\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"RETELL_API_URL": None}, "Error: TESTING is on, and a test must not ring a phone"),
        (
            {"RETELL_API_KEY": None, "RETELL_WEBHOOK_SECRET": "s"},
            "Error: RETELL_API_KEY is not set",
        ),
    ],
)
def test_an_application_that_cannot_call_says_why(
    make_shop: Callable[..., Shop], api: RetellApi, options: dict[str, Any], message: str
) -> None:
    output = make_shop(**{"RETELL_API_URL": api.url, **options}).run("call", FROM, TO, code=1)
    assert output.startswith(message)
    assert len(output.splitlines()) == 1


def test_the_key_is_not_shown(shop: Shop, api: RetellApi) -> None:
    api.faults.append(Reply(401, {"message": f"{KEY} is no key"}))
    assert "401 <key> is no key" in shop.run("call", FROM, TO, code=1)


def test_the_blueprint_chooses_the_key(api: RetellApi) -> None:
    sales = RetellBlueprint("sales", url_prefix="/sales", config_prefix="SALES")
    support = RetellBlueprint("support", url_prefix="/support", config_prefix="SUPPORT")
    options = {"SALES_API_URL": api.url, "SUPPORT_API_URL": api.url, "SALES_API_KEY": "other"}
    runner = make_app(sales, support, SUPPORT_API_KEY=KEY, **options).test_cli_runner()
    arguments = ["retell", "call", FROM, TO]
    assert runner.invoke(args=arguments).exit_code == 2
    assert runner.invoke(args=[*arguments, "--blueprint", "sales"]).exit_code == 1
    assert runner.invoke(args=[*arguments, "--blueprint", "support"]).exit_code == 0


@pytest.fixture
def as_it_rings(shop: Shop, api: RetellApi) -> Iterator[Callable[..., None]]:
    """Post these events once the call was started, while the command looks."""
    threads = []

    def post_all(*events: tuple[str, dict[str, Any]], call_id: str = CALL_ID) -> None:
        post = shop.client.post

        def work() -> None:
            deadline = time.monotonic() + 10
            while not api.calls and time.monotonic() < deadline:
                time.sleep(0.005)
            for name, call in events:
                post(call_payload(name, **{"call_id": call_id, **call}))
                time.sleep(0.03)

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield post_all
    for thread in threads:
        thread.join()


ENDED = {
    "call_status": "ended",
    "disconnection_reason": "user_hangup",
    "duration_ms": 61_500,
    "transcript": SPOKEN,
}
ANALYZED = {"call_analysis": {"user_sentiment": "Positive", "call_successful": True}}


def untimed(output: str) -> list[str]:
    return [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in output.splitlines()]


def test_the_events_are_shown_as_they_come(shop: Shop, as_it_rings: Callable[..., None]) -> None:
    shop.add("call_ended", "call_before")
    as_it_rings(
        ("call_started", {}),
        ("call_ended", {"call_id": "call_of_another"}),
        ("call_ended", ENDED),
        ("call_analyzed", {**ANALYZED, "transcript": SPOKEN}),
    )
    output = shop.run("call", FROM, TO, "--follow")
    assert untimed(output) == [
        f"{CALL_ID} is registered.",
        "call_started",
        "call_ended: user_hangup, 1m 1s",
        "call_analyzed: positive, successful",
        "",
        f"How your receivers took it: flask retell show {CALL_ID}",
    ]
    assert len(re.findall(r"^\d\d:\d\d:\d\d  ", output, re.MULTILINE)) == 3
    assert SPOKEN not in output


def test_each_event_is_shown_once(shop: Shop, as_it_rings: Callable[..., None]) -> None:
    as_it_rings(
        ("call_started", {}),
        ("call_started", {}),
        ("transcript_updated", {"transcript": SPOKEN}),
        ("hologram\x1b[2J", {}),
        ("call_ended", {"disconnection_reason": "dial_\x1b[2J"}),
        ("call_analyzed", {}),
    )
    assert untimed(shop.run("call", FROM, TO, "--follow"))[1:6] == [
        "call_started",
        "transcript_updated",
        r"hologram\x1b[2J",
        r"call_ended: dial_\x1b[2J",
        "call_analyzed",
    ]


def test_events_that_came_before_the_first_look_are_shown(
    shop: Shop, api: RetellApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("call_started", "call_ended", "call_analyzed"):
        shop.add(name, CALL_ID)
    output = shop.run("call", FROM, TO, "--follow")
    assert untimed(output)[1:4] == ["call_started", "call_ended", "call_analyzed"]


def test_a_transcript_that_a_later_one_replaced_is_not_shown(shop: Shop) -> None:
    for said in ("Hello", "Goodbye"):
        turns = [{"role": "user", "content": said}]
        shop.add("transcript_updated", CALL_ID, transcript_with_tool_calls=turns)
    shop.add("call_analyzed", CALL_ID)
    assert shop.statuses() == ["superseded", "pending", "pending"]
    output = shop.run("call", FROM, TO, "--follow")
    assert untimed(output)[1:3] == ["transcript_updated", "call_analyzed"]


def test_a_call_that_is_never_analyzed_is_not_followed_for_ever(
    shop: Shop, as_it_rings: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retell_flask.cli.call._ANALYSIS_SECONDS", 0.1)
    as_it_rings(("call_started", {}), ("call_ended", ENDED))
    began = time.monotonic()
    lines = untimed(shop.run("call", FROM, TO, "--follow"))
    assert lines[2] == "call_ended: user_hangup, 1m 1s"
    assert lines[3].startswith("It was not analyzed in time.")
    assert time.monotonic() - began < LONGEST


def test_a_call_that_did_not_connect_is_followed_for_less_long(
    shop: Shop, as_it_rings: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retell_flask.cli.call._ANALYSIS_OF_NOTHING_SECONDS", 0.1)
    missed = {"call_status": "not_connected", "disconnection_reason": "dial_no_answer"}
    as_it_rings(("call_ended", missed))
    began = time.monotonic()
    lines = untimed(shop.run("call", FROM, TO, "--follow"))
    assert lines[1:3] == ["call_ended: dial_no_answer", lines[2]]
    assert lines[2].startswith("It was not analyzed in time.")
    assert time.monotonic() - began < LONGEST


def test_the_first_to_look_makes_the_inbox(
    make_shop: Callable[..., Shop], api: RetellApi, as_it_rings: Callable[..., None]
) -> None:
    shop = make_shop(RETELL_API_URL=api.url)
    as_it_rings(("call_analyzed", {}))
    assert untimed(shop.run("call", FROM, TO, "--follow"))[1] == "call_analyzed"


def test_where_nothing_comes_a_hint_says_where_to_look(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retell_flask.cli.call._SILENCE_SECONDS", 0.03)
    monkeypatch.setattr("retell_flask.cli.call._LONGEST_CALL_SECONDS", 0.2)
    assert "Nothing has come yet. Does the webhook URL" in shop.run("call", FROM, TO, "--follow")


def test_a_call_of_which_nothing_comes_is_not_followed_for_ever(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retell_flask.cli.call._LONGEST_CALL_SECONDS", 0.1)
    lines = untimed(shop.run("call", FROM, TO, "--follow"))
    assert lines[1].startswith("It was not analyzed in time.")


def test_ctrl_c_ends_the_watching_alone(
    shop: Shop, api: RetellApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    clock = SimpleNamespace(sleep=interrupt, monotonic=time.monotonic)
    monkeypatch.setattr("retell_flask.cli.call.time", clock)
    lines = shop.run("call", FROM, TO, "--follow").splitlines()
    assert "The call goes on." in lines
    assert lines[-1].endswith(f"flask retell show {CALL_ID}")
    assert api.calls[CALL_ID]["call_status"] == "registered"


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("sqlite://", 2, "is in the memory of each process"),
        ("none", 1, "retell has no inbox"),
        ("sqlite:////dev/null/inbox.sqlite3", 1, "Error: The inbox does not answer"),
        ("postgresql://somebody:secret@127.0.0.1:1/nowhere", 1, "The inbox does not answer"),
    ],
)
def test_an_inbox_that_cannot_be_followed_is_told_before_the_phone_rings(
    make_shop: Callable[..., Shop], api: RetellApi, url: str, code: int, message: str
) -> None:
    shop = make_shop(RETELL_API_URL=api.url, RETELL_INBOX_URL=url)
    assert message in shop.run("call", FROM, TO, "--follow", code=code)
    assert api.requests == []


def test_a_call_that_was_not_started_is_not_followed(shop: Shop, api: RetellApi) -> None:
    api.faults.append(Reply(400))
    assert len(shop.run("call", FROM, TO, "--follow", code=1).splitlines()) == 1


def test_the_command_that_is_named_has_the_blueprint_where_that_is_needed(
    make_shop: Callable[..., Shop], api: RetellApi, shop: Shop
) -> None:
    other = RetellBlueprint("other", url_prefix="/other", config_prefix="OTHER")
    shop.app.config.update(OTHER_API_KEY="k", OTHER_INBOX_URL="none")
    shop.app.register_blueprint(other)
    shop.add("call_analyzed", CALL_ID)
    output = shop.run("call", FROM, TO, "--follow", "--blueprint", "retell")
    assert output.endswith(f"flask retell show {CALL_ID} --blueprint retell\n")
