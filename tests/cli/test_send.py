"""``send``."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response

from cli.shop import Shop
from retell_flask import InboundAnswer, RetellBlueprint
from retell_flask.testing import Capture, sample_names
from servers import eventually, free_port
from serving import serving
from support import KEY, PATH, SECRET


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop(RETELL_WEBHOOK_SECRET=SECRET)


@pytest.fixture
def url(shop: Shop) -> Iterator[str]:
    with serving(shop.app) as url:
        yield url


@pytest.fixture
def send(shop: Shop, url: str) -> Callable[..., str]:
    """What ``flask retell send`` prints, to the shop unless another URL is given."""

    def send(*arguments: str, to: str = "", **keywords: Any) -> str:
        output = shop.run("send", *arguments, "--url", to or url, **keywords)
        assert KEY not in output
        assert SECRET not in output
        return output

    return send


Send = Callable[..., str]


def test_an_event_is_sent_and_can_be_looked_at(shop: Shop, send: Send, url: str) -> None:
    lines = send("call_ended").splitlines()
    (entry,) = shop.entries()
    assert lines[0].startswith(f"Sent call_ended of {entry.session} (")
    assert lines[0].endswith(f" bytes) to {url}{PATH}")
    assert lines[1].startswith("200 in ")
    assert lines[1].endswith(' ms: {"received": true}')
    assert lines[2:] == ["Look at it:", f"  flask retell show {entry.session}"]
    assert entry.event_id in shop.run(*lines[3].split()[2:])


def test_an_event_of_no_call_is_looked_at_by_its_own_id(shop: Shop, send: Send) -> None:
    output = send("alert_triggered")
    assert output.endswith(f"flask retell show {shop.entries()[0].event_id}\n")


def test_each_event_is_of_another_call_unless_it_is_said_which(shop: Shop, send: Send) -> None:
    for options in ([], [], ["--set", "call_id=call_7"], ["--set", "call.call_id=call_7"]):
        send("call_started", *options)
    first, second, third, fourth = (entry.session for entry in shop.entries())
    assert first != second != third == fourth == "call_7"


def test_fields_are_set_to_json_or_text(captured: Capture, send: Send) -> None:
    settings = ["call.duration_ms=90000", "metadata.tags=[1]", "agent_name=Ada = 7", "transcript="]
    settings += ["call_status=null", 'metadata.note="5"', "metadata.nan=NaN"]
    send("call_ended", *(part for each in settings for part in ("--set", each)))
    call = captured.events[0].payload["call"]
    assert (call["duration_ms"], call["agent_name"], call["transcript"]) == (90_000, "Ada = 7", "")
    assert "call_status" not in call
    expected = {"tags": [1], "note": "5", "nan": "NaN"}
    assert {name: call["metadata"][name] for name in expected} == expected


def test_a_body_of_a_file_is_sent_byte_for_byte(
    shop: Shop, captured: Capture, send: Send, tmp_path: Path
) -> None:
    body = b'{ "event":"call_ended",\r\n "call": {"call_id": "call_\\u00e9"} }\n'
    (tmp_path / "body.json").write_bytes(body)
    assert "Sent call_ended of call_é (63 bytes)" in send(
        "--body-file", str(tmp_path / "body.json")
    )
    assert "duplicate" in send("--body-file", "-", input=body)
    assert captured.events[0].raw == body
    assert len(shop.entries()) == 1


def test_a_body_that_is_no_event_is_answered_as_one(shop: Shop, send: Send) -> None:
    output = send("--body-file", "-", input=b"\xff{", code=1)
    assert "Sent a body (2 bytes)" in output
    assert re.search(r'\n400 in \d+ ms: {"error": "The body is not JSON."}\n\Z', output)


def test_twins_are_one_entry_and_a_duplicate(shop: Shop, send: Send) -> None:
    output = send("call_ended", "--twins", "2")
    assert ", 2 times at the same moment" in output
    assert (output.count("200 in"), output.count('"duplicate": true')) == (2, 1)
    assert len(shop.entries()) == 1


def test_a_late_one_is_refused_and_that_is_as_it_should_be(
    make_shop: Callable[..., Shop],
) -> None:
    for tolerance in ("300s", "1h"):
        shop = make_shop(RETELL_SIGNATURE_TOLERANCE=tolerance)
        with serving(shop.app) as url:
            output = shop.run("send", "call_ended", "--late", "--url", url, code=1)
        assert "401 in" in output
        assert "So it should be" in output


def test_the_plain_scheme_takes_the_secret(shop: Shop, send: Send) -> None:
    assert "200 in" in send("call_ended", "--scheme", "plain")
    assert "_WEBHOOK_SECRET" in send("call_ended", "--scheme", "plain", "--key", "other", code=1)
    refused = send("call_inbound", "--scheme", "plain", code=1)
    assert "take Retell's own scheme alone" in refused


def test_the_plain_scheme_needs_a_secret(make_shop: Callable[..., Shop]) -> None:
    output = make_shop().run("send", "call_ended", "--scheme", "plain", code=2)
    assert "RETELL_WEBHOOK_SECRET is not set" in output


def test_another_key_is_refused_unless_it_is_the_servers(shop: Shop, send: Send) -> None:
    output = send("call_ended", "--key", "key_of_staging", code=1)
    assert "The application there has another RETELL_API_KEY" in output
    assert "key_of_staging" not in output
    assert "200 in" in send("call_ended", "--key", f" {SECRET} ")


def test_the_answer_to_an_inbound_call_is_shown(
    retell: RetellBlueprint, shop: Shop, send: Send
) -> None:
    retell.inbound(lambda inbound: InboundAnswer(dynamic_variables={"name": "José"}))
    output = send("call_inbound")
    assert f"{PATH}/inbound\n" in output
    answer = json.loads(output.partition(" ms:\n")[2])
    assert answer == {"call_inbound": {"dynamic_variables": {"name": "José"}}}


def test_the_result_of_a_function_is_shown(
    retell: RetellBlueprint, shop: Shop, send: Send
) -> None:
    @retell.function("book")
    def book(day: str) -> str:
        return f"Booked for {day}.\nBye \x1b[31m"

    output = send("custom_function", "--set", "name=book")
    assert "Sent function book of call_" in output
    assert output.endswith(":\n  Booked for thursday.\n  Bye \\x1b[31m\n")
    bare = f"{PATH}/functions/check_availability"
    assert bare in send("custom_function_args_only", code=1)
    assert "flask retell functions lists those" in send("custom_function", code=1)


def test_a_receiver_that_fails_is_told_with_where_to_look(
    shop: Shop, send: Send, fail: Callable[..., None]
) -> None:
    fail("call_ended", RuntimeError("no"))
    output = send("call_ended", code=1)
    assert "A receiver failed, in the request" in output
    assert output.endswith(f"flask retell show {shop.entries()[0].session}\n")


def test_a_url_without_a_path_leads_to_the_prefix(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(RetellBlueprint(url_prefix="/hooks/"))
    with serving(shop.app) as url:
        assert f"{url}/hooks/inbound" in shop.run("send", "call_inbound", "--url", f"{url}/")
        assert f"{url}/hooks\n" in shop.run("send", "call_ended", "--url", url)
        assert "404 in" in shop.run("send", "call_ended", "--url", f"{url}/elsewhere", code=1)


def test_where_nothing_listens_one_is_told_to_start_the_application(send: Send) -> None:
    output = send("call_ended", to=f"http://127.0.0.1:{free_port()}", code=1)
    assert "No answer after" in output
    assert "no connection" in output
    assert "Start the application (flask run)" in " ".join(output.split())


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (200, "<html>", "it is not retell-flask"),
        (302, "", "Retell follows no redirect"),
        (400, "<p>The CSRF token is missing.", "csrf.exempt(retell)"),
        (401, '{"error": "Unauthorized"}', "wants a login"),
        (403, "", "AirPlay"),
        (404, "<html>", "Is the blueprint registered there"),
        (413, "", "RETELL_MAX_BODY"),
        (429, "", "limiter.exempt(retell)"),
        (500, '{"error": ["x"]}', "application's log"),
        (503, '{"error": "Inbox unavailable"}', "The inbox cannot be written"),
        (599, "\a", "is there a proxy"),
    ],
)
def test_an_answer_of_another_kind_is_told_with_what_to_do(
    shop: Shop, send: Send, status: int, body: str, advice: str
) -> None:
    other = Flask("other")
    other.add_url_rule(PATH, view_func=lambda: Response(body, status), methods=["POST"])
    with serving(other) as url:
        output = send("call_ended", to=url, code=0 if status == 200 else 1)
    assert advice in " ".join(output.split())
    assert "\a" not in output
    assert "Look at it" not in output


def test_many_are_summed_up(shop: Shop, send: Send) -> None:
    lines = send("call_ended", "--count", "30", "--rate", "300", "--twins", "2").splitlines()
    assert lines[0].startswith("Sent 60 requests to http://")
    assert "a second" in lines[0]
    assert [line.split() for line in lines[1:4]] == [
        ["COUNT", "ANSWER"],
        ["30", "200"],
        ["30", "200", "duplicate"],
    ]
    assert lines[4].startswith("Milliseconds to the answer: p50 ")
    assert lines[5].startswith("The schedule ran late by ")
    assert len({entry.session for entry in shop.entries()}) == 30


def test_many_of_which_some_fail_are_a_failure(
    shop: Shop, send: Send, retell: RetellBlueprint
) -> None:
    heard = []

    @retell.on("call_started")
    def fail_once(sender: Any, event: Any, **extra: Any) -> None:
        heard.append(event)
        assert len(heard) != 3

    output = send("call_started", "--count", "5", code=1)
    assert ["1", "500"] in [line.split() for line in output.splitlines()]
    assert output.count("A receiver failed, in the request") == 1


@pytest.fixture
def at_a_terminal() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("at_a_terminal")
def test_ctrl_c_leaves_the_summary_of_what_was_sent(
    shop: Shop, send: Send, retell: RetellBlueprint
) -> None:
    heard = []

    @retell.on("call_started")
    def interrupt(sender: Any, event: Any, **extra: Any) -> None:
        heard.append(event)
        if len(heard) == 5:
            os.kill(os.getpid(), signal.SIGINT)

    output = send("call_started", "--count", "2000", "--rate", "100", code=1)
    count = len(shop.entries())
    assert 5 <= count < 2000
    assert output.startswith(f"Sent {count} of 2,000 requests to")
    assert [f"{count}", "200"] in [line.split() for line in output.splitlines()]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("at_a_terminal")
def test_a_second_ctrl_c_does_not_wait_for_answers(
    shop: Shop, send: Send, retell: RetellBlueprint
) -> None:
    @retell.on("call_started")
    def interrupt_twice(sender: Any, event: Any, **extra: Any) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    output = send("call_started", "--count", "2", "--rate", "0.01", code=1)
    assert output.startswith("Sent 0 of 2 requests to")
    eventually(lambda: shop.statuses() == ["done"])


def test_the_names_of_the_samples_are_listed(shop: Shop) -> None:
    assert shop.run("send", "--list").split() == sample_names()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "Which event?"),
        ("call_endet", "There is no sample 'call_endet'"),
        ("call_ended --body-file -", "leave EVENT out"),
        ("--body-file - --set x=1", "leave --set out"),
        ("call_ended --set duration_ms", "is not PATH=VALUE"),
        ("call_ended --set =1", "is not PATH=VALUE"),
        ("call_ended --set durations=1", "has no field 'durations'"),
        ("call_ended --set duration_ms=long", "Retell would not send this"),
        ("call_ended --rate 5", "add --count"),
        ("call_ended --count 0", "--count"),
        ("call_ended --count 2 --rate 0", "0.01 at least"),
        ("call_ended --count 2 --rate nan", "0.01 at least"),
        ("call_ended --twins 0", "--twins"),
        ("call_ended --late --scheme plain", "no timestamp"),
        ("call_ended --key ''", "--key"),
        ("call_ended --url localhost:5000", "no URL such as"),
        ("call_ended --url ftp://localhost", "no URL such as"),
        ("call_ended --url http://me:pass@localhost", "no URL such as"),
        ("call_ended --url http://[::1", "no URL such as"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    shop: Shop, arguments: str, message: str
) -> None:
    words = [word.strip("'") for word in arguments.split()]
    output = shop.run("send", *words, code=2)
    assert message in " ".join(output.split())
