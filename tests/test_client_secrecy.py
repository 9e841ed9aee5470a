"""The API key is in nothing that ``RetellClient`` shows, logs or raises."""

from __future__ import annotations

import io
import logging
import pprint
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import pytest

from clients import NUMBERS, fill, make_client, skip_waiting
from retell_flask import ApiError, ConfigurationError, RetellBlueprint, RetellClient
from retellapi import (
    HTML_PAGE,
    Fault,
    HalfAnswer,
    Reply,
    Reset,
    RetellApi,
    Silence,
    make_call,
)
from support import make_app

KEY = "key_that_nobody_may_see"
CALL_ID = "call_000001"
REQUESTS: list[Callable[[RetellClient], Any]] = [
    lambda client: client.create_phone_call(**NUMBERS),
    lambda client: client.create_web_call("agent_1"),
    lambda client: client.get_call(CALL_ID),
    lambda client: list(client.list_calls()),
    lambda client: client.update_call(CALL_ID, metadata={}),
    lambda client: client.request("POST", "/v3/list-calls", json={}),
    lambda client: client.patient().get_call(CALL_ID),
]
ECHO = {"status": "error", "message": f"The key {KEY!r} in 'Bearer {KEY}' is no key of ours"}
FAULTS: list[Fault] = [
    *(Reply(status, ECHO) for status in (301, 400, 401, 402, 403, 404, 422, 429, 500)),
    *(HTML_PAGE, Reply(200, "{"), Reply(400, f"<p>{KEY}</p>")),
    *(Reset(), Reset(processed=True), HalfAnswer(), HalfAnswer(processed=False), Silence(5)),
    Reply(401, {"message": "x" * 480 + KEY}),  # as long as messages may be, and longer
    Reply(400, {"message": {KEY: KEY}}),
    Reply(302, "", {"Location": f"http://127.0.0.1:1/{KEY}"}),
    Reply(429, ECHO, {"Retry-After": "3600"}),
    Reply(429, ECHO, {"Retry-After": KEY}),
]
# A part is as bad as all of it.
PARTS = [KEY[n : n + 12] for n in range(len(KEY) - 11)]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_waiting(monkeypatch)


@pytest.fixture
def api(api: RetellApi) -> RetellApi:
    api.key = KEY
    fill(api, make_call(1))
    return api


def assert_secret(*shown: str) -> None:
    for text in shown:
        assert not [part for part in PARTS if part in text], text


def frames(found: TracebackType | None) -> Iterator[str]:
    """The local variables of each frame but those of the tests."""
    while found is not None:
        frame, found = found.tb_frame, found.tb_next
        if frame.f_code.co_filename != __file__:
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_name}: {name} = {value!r}"


def all_of(error: BaseException | None) -> Iterator[str]:
    """What could be shown of an error, and of those behind it."""
    if error is None:
        return
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
    yield "".join(traceback.format_exception(error))
    yield from frames(error.__traceback__)
    yield from all_of(error.__cause__)
    yield from all_of(error.__context__)


def inside(value: Any, depth: int = 8) -> Iterator[str]:
    """What a debugger shows that opens every object: attributes of attributes."""
    yield repr(value)
    if depth and not isinstance(value, (str, bytes, int, float, type, type(None))):
        inner = [*value.items()] if isinstance(value, dict) else value
        inner = inner if isinstance(inner, (list, tuple, set)) else vars_of(value)
        for each in inner:
            yield from inside(each, depth - 1)


def vars_of(value: Any) -> list[Any]:
    return [*getattr(value, "__dict__", {}).values()]


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_no_error_shows_the_key(
    api: RetellApi, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    caplog.set_level(logging.DEBUG)
    client = make_client(api, timeout=0.02 if isinstance(fault, Silence) else 5)
    for send in REQUESTS:
        api.faults.extend([fault] * 100)
        with pytest.raises(ApiError) as caught:
            send(client)
        api.faults.clear()
        shown = list(all_of(caught.value))
        assert len(shown) > 10
        assert_secret(*shown)
    assert "127.0.0.1" in caplog.text
    assert_secret(caplog.text, *(str(vars(record)) for record in caplog.records))


def test_an_echo_of_the_key_is_blotted_out(api: RetellApi) -> None:
    api.faults.append(Reply(401, ECHO))
    with pytest.raises(ApiError, match=r"The key '<key>' in 'Bearer <key>' is no key of ours$"):
        make_client(api).get_call(CALL_ID)


def test_no_success_shows_the_key(api: RetellApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown = [repr(send(make_client(api))) for send in REQUESTS]
    shown += [str(vars(record)) for record in caplog.records]
    assert "create-phone-call" in caplog.text
    assert_secret(*shown)


def test_no_unreachable_host_shows_the_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for url in ("http://127.0.0.1:1", "https://127.0.0.1:1", "http://a..b", "http://*.example"):
        with pytest.raises(ApiError) as caught:
            RetellClient(KEY, url=url).get_call(CALL_ID)
        assert_secret(*all_of(caught.value))
    assert_secret(caplog.text)


def test_no_view_of_a_client_shows_the_key(api: RetellApi) -> None:
    client = make_client(api)
    client.get_call(CALL_ID)
    for each in (client, client.patient()):
        stream = io.StringIO()
        pprint.pprint(vars(each), stream=stream)
        shown = list(inside(each))
        assert any("<key>" in text for text in shown)
        assert_secret(f"{each} {each!r}", stream.getvalue(), *shown)


def test_no_view_of_an_application_shows_the_key(api: RetellApi, retell: RetellBlueprint) -> None:
    app = make_app(retell, RETELL_API_KEY=KEY, RETELL_API_URL=api.url)
    with app.app_context():
        retell.client.get_call(CALL_ID)
    state = app.extensions["retell"]["retell"]
    assert_secret(repr(vars(state)), *inside(state.settings), *inside(state.client))


@pytest.mark.parametrize(
    "options",
    [
        {"url": f"https://{KEY}@api.retellai.com"},
        {"url": f"nowhere/{KEY}"},
        {"timeout": 0},
        {"timeout": KEY},
    ],
)
def test_no_wrong_argument_shows_the_key(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="takes a") as caught:
        RetellClient(KEY, **options)
    assert_secret(str(caught.value), repr(vars(caught.value)))
    assert_secret("".join(traceback.format_exception(caught.value)))


@pytest.mark.parametrize("key", [f"{KEY} é", f"{KEY}\n{KEY}", f"'{KEY}'", f"{KEY}\ud800"])
def test_no_wrong_key_is_shown(key: str) -> None:
    with pytest.raises((ConfigurationError, ValueError)) as caught:
        RetellClient(key)
    assert_secret(str(caught.value), repr(vars(caught.value)))
    assert_secret("".join(traceback.format_exception(caught.value)))


def test_no_frame_shows_the_key_where_the_client_was_not_made() -> None:
    for key, options in [(KEY, {"timeout": 0}), (KEY, {"url": "nowhere"}), (f"{KEY} é", {})]:
        with pytest.raises((ConfigurationError, ValueError)) as caught:
            RetellClient(key, **options)  # type: ignore[arg-type]
        assert_secret(*frames(caught.value.__traceback__))


class TimeOut(BaseException):
    """As gevent raises it, wherever the program is."""


def test_no_frame_shows_the_key_while_an_answer_is_waited_for(
    api: RetellApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise TimeOut

    monkeypatch.setattr("http.client.HTTPResponse.begin", interrupt)
    for send in REQUESTS:
        with pytest.raises(TimeOut) as caught:
            send(make_client(api))
        shown = list(all_of(caught.value))
        assert any("getresponse" in text for text in shown)
        assert_secret(*shown)
