"""Faults between ``RetellClient`` and Retell's API, its connections, threads and forks."""

from __future__ import annotations

import gzip
import json
import os
import socket
import socketserver
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import retellapi
from clients import NUMBERS, fill, make_client, skip_waiting
from retell_flask import (
    ApiError,
    BadRequest,
    ConfigurationError,
    KeyRefused,
    NotFound,
    PaymentRequired,
    RateLimited,
    RetellClient,
    Unreachable,
)
from retellapi import (
    HTML_PAGE,
    WRONG_SHAPE,
    Fault,
    HalfAnswer,
    Reply,
    Reset,
    RetellApi,
    Silence,
    make_call,
    retell_api,
)


class Half(Fault):
    """Half of a longer answer, also where the right one is empty."""

    def spoil(self, answer: Any, connection: socket.socket) -> Any:
        answer = retellapi.to_response(200, {"call_id": CALL_ID, "access_token": "token"})
        return HalfAnswer().spoil(answer, connection)


class Stalled(Half):
    """And nothing after it, on a connection that stays open."""

    def spoil(self, answer: Any, connection: socket.socket) -> Any:
        half = super().spoil(answer, connection)
        half.response = self.parts(half.get_data(), connection)
        return half

    def parts(self, data: bytes, connection: socket.socket) -> Iterator[bytes]:
        yield data
        connection.settimeout(5)
        with suppress(OSError):
            connection.recv(1)


Request = Callable[[RetellClient], Any]

CALL_ID = "call_000001"
REPEATABLE: dict[str, Request] = {
    "create_phone_call": lambda client: client.create_phone_call(**NUMBERS),
    "get_call": lambda client: client.get_call(CALL_ID),
    "list_calls": lambda client: list(client.list_calls()),
    "update_call": lambda client: client.update_call(CALL_ID, metadata={"order": 7}),
    "request(get)": lambda client: client.request("get", "/get-concurrency"),
    "request(PUT, repeatable=True)": lambda client: client.request(
        "PUT", f"/rerun-call-analysis/{CALL_ID}", repeatable=True
    ),
}
ONCE: dict[str, Request] = {
    "create_web_call": lambda client: client.create_web_call("agent_1"),
    "stop_call": lambda client: client.stop_call(CALL_ID),
    "request(POST)": lambda client: client.request("POST", "/v3/list-calls", json={"limit": 1}),
    "request(PUT)": lambda client: client.request("PUT", f"/rerun-call-analysis/{CALL_ID}"),
    "request(DELETE)": lambda client: client.request("DELETE", f"/v2/delete-call/{CALL_ID}"),
    "request(GET, repeatable=False)": lambda client: client.request(
        "GET", "/get-concurrency", repeatable=False
    ),
}
ALL = {**REPEATABLE, **ONCE}
LOST: list[Fault] = [
    Reset(),
    Reset(processed=True),
    Silence(0.01),
    Silence(0.01, processed=True),
]
REFUSED: list[Fault] = [Reply(429), Reply(500)]

repeatable = pytest.mark.parametrize("send", REPEATABLE.values(), ids=[*REPEATABLE])
once = pytest.mark.parametrize("send", ONCE.values(), ids=[*ONCE])
each = pytest.mark.parametrize("send", ALL.values(), ids=[*ALL])


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited between tries, had it been."""
    return skip_waiting(monkeypatch)


@pytest.fixture
def api(api: RetellApi) -> RetellApi:
    fill(api, make_call(1))
    return api


@pytest.fixture
def client(api: RetellApi) -> RetellClient:
    return make_client(api)


def creates(api: RetellApi) -> list[str]:
    """The idempotency keys that phone calls were created with, in order."""
    return [
        request.json["idempotency_key"]
        for request in api.requests
        if request.path == "/v2/create-phone-call"
    ]


def assert_sent(api: RetellApi, count: int) -> None:
    """So many requests, of which some may be under way after their sender has gone."""
    deadline = time.monotonic() + 5
    while len(api.requests) < count and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(api.requests) == count


def made(api: RetellApi) -> int:
    return len(api.calls) - 1


@repeatable
@pytest.mark.parametrize("fault", [Reset(processed=True), Half(), *REFUSED], ids=str)
def test_what_can_be_repeated_is(
    api: RetellApi, client: RetellClient, send: Request, fault: Fault
) -> None:
    api.faults.extend([fault] * 3)
    send(client)
    assert (len(api.requests), len(api.faults)) == (4, 0)
    assert len({(request.path, request.body) for request in api.requests}) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_statuses_that_may_pass_bring_another_try(
    api: RetellApi, client: RetellClient, status: int
) -> None:
    api.faults.append(Reply(status))
    assert client.get_call(CALL_ID).call_id == CALL_ID
    assert len(api.requests) == 2


@repeatable
def test_what_can_be_repeated_is_tried_four_times(
    api: RetellApi, client: RetellClient, slept: list[float], send: Request
) -> None:
    api.faults.extend([Reset()] * 5)
    with pytest.raises(Unreachable, match=r"^[A-Z]+ http:.*/.*: the connection broke off$"):
        send(client)
    assert (len(api.requests), len(api.faults)) == (4, 1)
    assert slept == sorted(slept)
    assert 0 < sum(slept) < 10


@once
@pytest.mark.parametrize("fault", [*LOST, *REFUSED, Half()], ids=str)
def test_other_requests_are_sent_once(
    api: RetellApi, client: RetellClient, slept: list[float], send: Request, fault: Fault
) -> None:
    api.faults.append(fault)
    with pytest.raises(ApiError):
        send(client)
    assert len(api.requests) == 1
    assert slept == []


@pytest.mark.parametrize("fault", LOST, ids=str)
def test_a_lost_answer_makes_no_second_phone_call(
    api: RetellApi, client: RetellClient, fault: Fault
) -> None:
    api.faults.extend([fault] * 2)
    call = client.create_phone_call(**NUMBERS)
    assert (made(api), call.call_id in api.calls) == (1, True)
    assert len(creates(api)) == 3
    assert len(set(creates(api))) == 1
    assert creates(api)[0]


def test_a_late_answer_makes_no_second_phone_call(api: RetellApi) -> None:
    api.faults.append(Silence(5, processed=True))
    call = make_client(api, timeout=0.3).create_phone_call(**NUMBERS)
    assert list(api.calls) == [CALL_ID, call.call_id]
    assert len(set(creates(api))) == 1


def test_a_phone_call_is_repeated_through_mixed_faults(
    api: RetellApi, client: RetellClient
) -> None:
    api.faults.extend([Reset(processed=True), Reply(500), Silence(0.01, processed=True)])
    client.create_phone_call(**NUMBERS, idempotency_key="k")
    assert (made(api), creates(api)) == (1, ["k"] * 4)


@pytest.mark.parametrize("fault", [Reset(processed=True), HalfAnswer(), HTML_PAGE], ids=str)
def test_trying_again_with_the_same_key_makes_no_second_call(
    api: RetellApi, client: RetellClient, fault: Fault
) -> None:
    api.faults.extend([fault] * 4)
    with pytest.raises(ApiError):
        client.create_phone_call(**NUMBERS, idempotency_key="k")
    api.faults.clear()
    call = client.create_phone_call(**NUMBERS, idempotency_key="k")
    assert (made(api), call.call_id in api.calls) == (1, True)


@each
def test_half_an_answer_is_none(api: RetellApi, client: RetellClient, send: Request) -> None:
    api.faults.extend([Half()] * 5)
    with pytest.raises(Unreachable, match="the connection broke off") as caught:
        send(client)
    assert (caught.value.status, caught.value.may_have_arrived) == (None, True)
    assert len(api.requests) == (4 if send in REPEATABLE.values() else 1)
    assert made(api) <= 1


@each
def test_half_an_answer_is_not_waited_upon_for_ever(api: RetellApi, send: Request) -> None:
    api.faults.extend([Stalled()] * 50)
    with pytest.raises(Unreachable, match=r"no answer within 0\.02 s"):
        send(make_client(api, timeout=0.02))
    assert made(api) <= 1


def test_mixed_faults_bring_no_more_tries_than_one_kind(
    api: RetellApi, client: RetellClient
) -> None:
    api.faults.extend([Reset(), Half(), Reply(500), Half(), Reset()] * 10)
    with pytest.raises(ApiError):
        client.get_call(CALL_ID)
    assert len(api.requests) == 4


@each
@pytest.mark.parametrize("fault", [HTML_PAGE, Reply(200, "{}{")], ids=str)
def test_a_success_that_is_not_json_is_an_error(
    api: RetellApi, client: RetellClient, send: Request, fault: Fault
) -> None:
    api.faults.append(fault)
    if send is ONCE["stop_call"]:
        send(client)
        return
    with pytest.raises(ApiError, match=r"not what was asked for.*proxy in between") as caught:
        send(client)
    assert type(caught.value) is Unreachable
    assert caught.value.may_have_arrived
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [WRONG_SHAPE, Reply(200, {}), Reply(200, "null"), Reply(200, {"status": "error"})]
    + [Reply(200, {"items": "none", "has_more": False}), Reply(204, ""), Reply(200, '"call"')],
    ids=str,
)
@pytest.mark.parametrize("name", [*list(REPEATABLE)[:4], "create_web_call"])
def test_a_success_of_another_shape_is_an_error(
    api: RetellApi, client: RetellClient, name: str, fault: Fault
) -> None:
    api.faults.append(fault)
    with pytest.raises(ApiError, match="not what was asked for"):
        ALL[name](client)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, KeyRefused),
        (402, PaymentRequired),
        (403, KeyRefused),
        (404, NotFound),
        (409, ApiError),
        (418, ApiError),
        (422, NotFound),
        (429, RateLimited),
        (500, ApiError),
        (503, ApiError),
    ],
)
@pytest.mark.parametrize("send", [*REPEATABLE.values()][:1] + [*ONCE.values()][:1])
def test_each_status_has_its_exception(
    api: RetellApi, client: RetellClient, send: Request, status: int, kind: type[ApiError]
) -> None:
    api.faults.extend([Reply(status, retellapi.to_error("What Retell says"))] * 4)
    with pytest.raises(ApiError, match=rf"^[A-Z]+ /v.*: {status} What Retell says$") as caught:
        send(client)
    assert (type(caught.value), caught.value.status) == (kind, status)
    is_repeated = send in REPEATABLE.values() and status in (429, 500, 503)
    assert len(api.requests) == (4 if is_repeated else 1)


@pytest.mark.parametrize(
    ("send", "kind"),
    [
        (lambda client: client.create_phone_call("+12", "1", check_e164=False), BadRequest),
        (lambda client: client.get_call("call_unknown"), NotFound),
        (lambda client: client.request("GET", "/unknown"), NotFound),
        (
            lambda client: client.request("PATCH", f"/v2/update-call/{CALL_ID}", json=[]),
            BadRequest,
        ),
    ],
)
def test_what_retell_refuses_is_not_repeated(
    api: RetellApi, client: RetellClient, send: Request, kind: type[ApiError]
) -> None:
    with pytest.raises(kind):
        send(client)
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<h1>no</h1>", "BAD REQUEST"),
        ("", "BAD REQUEST"),
        ({"message": None}, "BAD REQUEST"),
        ({"message": {"a": 1}}, "BAD REQUEST"),
        (["message"], "BAD REQUEST"),
        ('{"message": "half \\ud83d"}', "half \ufffd"),
        ({"message": "é" * 10_000}, "é" * 500),
    ],
)
def test_the_message_is_retells_or_that_of_the_status(
    api: RetellApi, client: RetellClient, body: Any, message: str
) -> None:
    api.faults.append(Reply(400, body))
    with pytest.raises(BadRequest) as caught:
        client.get_call(CALL_ID)
    assert str(caught.value) == f"GET /v2/get-call/{CALL_ID}: 400 {message}"


@pytest.mark.parametrize(
    ("header", "seconds"), [("1", 1), ("30", 30), (" 7 ", 7), ("in 20 s", 20)]
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_short_pause_is_kept_to(
    api: RetellApi,
    client: RetellClient,
    slept: list[float],
    header: str,
    seconds: int,
    status: int,
) -> None:
    api.faults.append(Reply(status, headers={"Retry-After": as_date(header)}))
    client.get_call(CALL_ID)
    assert slept == [pytest.approx(seconds, abs=1.5)]


def as_date(text: str) -> str:
    """``in 20 s`` as the date that it is then."""
    if not text.startswith("in "):
        return text
    moment = datetime.now(timezone.utc) + timedelta(seconds=float(text.split()[1]))
    return format_datetime(moment, usegmt=True)


@pytest.mark.parametrize(("header", "seconds"), [("31", 31), ("3600", 3600), ("in 60 s", 60)])
@repeatable
def test_a_long_pause_is_left_to_the_caller(
    api: RetellApi,
    client: RetellClient,
    slept: list[float],
    send: Request,
    header: str,
    seconds: int,
) -> None:
    api.faults.append(Reply(429, headers={"Retry-After": as_date(header)}))
    with pytest.raises(RateLimited, match=r"it asks for a pause of [0-9.]+ s") as caught:
        send(client)
    assert caught.value.retry_after == pytest.approx(seconds, abs=1.5)
    assert (len(api.requests), slept) == (1, [])


def test_a_long_pause_after_another_error_is_not_waited_for(
    api: RetellApi, client: RetellClient, slept: list[float]
) -> None:
    api.faults.append(Reply(503, headers={"Retry-After": "3600"}))
    with pytest.raises(ApiError) as caught:
        client.get_call(CALL_ID)
    assert (caught.value.status, len(api.requests), slept) == (503, 1, [])


@pytest.mark.parametrize("retry_after", ["1", "31"])
@once
def test_what_is_sent_once_says_how_long_to_wait(
    api: RetellApi, client: RetellClient, send: Request, retry_after: str
) -> None:
    api.faults.append(Reply(429, headers={"Retry-After": retry_after}))
    with pytest.raises(RateLimited) as caught:
        send(client)
    assert caught.value.retry_after == float(retry_after)
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    "header",
    [None, "", "soon", "-5", "1.5", "0x10", "\xff", "Fri, 31 Dec 99999 23:59:59 GMT", "9" * 5000],
    ids=lambda header: str(header)[:10],
)
def test_a_pause_that_is_none_is_ours(
    api: RetellApi, client: RetellClient, slept: list[float], header: str | None
) -> None:
    headers = {} if header is None else {"Retry-After": header}
    api.faults.extend([Reply(429, headers=headers)] * 4)
    with pytest.raises(RateLimited):
        client.get_call(CALL_ID)
    assert sum(slept) < 10


def test_work_in_the_background_waits_for_long_pauses(
    api: RetellApi, client: RetellClient, slept: list[float]
) -> None:
    for seconds in ("31", "600"):
        api.faults.append(Reply(429, headers={"Retry-After": seconds}))
    assert client.patient().create_phone_call(**NUMBERS).call_id in api.calls
    assert slept == [31, 600]
    assert len(set(creates(api))) == 1


def test_work_in_the_background_waits_no_longer_than_ten_minutes(
    api: RetellApi, client: RetellClient, slept: list[float]
) -> None:
    api.faults.append(Reply(429, headers={"Retry-After": "601"}))
    with pytest.raises(RateLimited) as caught:
        client.patient().get_call(CALL_ID)
    assert (caught.value.retry_after, slept, len(api.requests)) == (601, [], 1)


def test_work_in_the_background_waits_where_no_pause_is_named(
    api: RetellApi, client: RetellClient, slept: list[float]
) -> None:
    api.faults.extend([Reply(429)] * 4)
    assert client.patient().get_call(CALL_ID).call_id == CALL_ID
    assert slept[-1] == 30


def test_work_in_the_background_ends_waiting(
    api: RetellApi, client: RetellClient, slept: list[float]
) -> None:
    api.faults.extend([Reply(429, headers={"Retry-After": "60"})] * 100)
    patient = client.patient()
    with pytest.raises(RateLimited):
        patient.get_call(CALL_ID)
    assert slept == [60] * 10
    assert len(api.requests) == 11
    with pytest.raises(RateLimited):
        client.get_call(CALL_ID)
    assert len(slept) == 10


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("send", [*REPEATABLE.values()][:1] + [*ONCE.values()][:1])
def test_nobody_else_is_followed_to(
    api: RetellApi, client: RetellClient, send: Request, status: int
) -> None:
    with retell_api() as other:
        api.faults.append(Reply(status, "", {"Location": f"{other.url}/v2/get-call/{CALL_ID}"}))
        with pytest.raises(ApiError, match=str(status)) as caught:
            send(client)
    assert caught.value.status == status
    assert (len(api.requests), other.requests) == (1, [])


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of a server that gives every request this answer, and hangs up."""

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while b"\r\n\r\n" not in connection.recv(65_536):
                    pass
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00\xff\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        OK + b"X: y\r\n" * 200 + b"\r\n{}",
        OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n{}",
        OK + b"Content-Encoding: gzip\r\n\r\n{}",
        OK + b"Transfer-Encoding: chunked\r\n\r\nno chunk",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
        OK + b"Content-Length: 5\r\n\r\n{}",
        OK + b"\r\n" + b"[" * 100_000,
        OK + b"\r\n\xff\xfe",
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://a:99999/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 \r\n\r\n" + b"[" * 100_000,
    ],
    ids=lambda answer: answer.decode("latin-1")[-40:],
)
def test_whatever_answers_the_error_is_ours(answer: bytes) -> None:
    with answering(answer) as url, pytest.raises(ApiError):
        RetellClient("key", url=url, timeout=2).get_call(CALL_ID)


BODY = json.dumps(
    {"call_id": CALL_ID, "message": "What Retell says", "text": "é" * 50_000}
).encode()
PACKED = gzip.compress(BODY)


@pytest.mark.parametrize(
    "rest",
    [
        b"\r\n" + BODY,
        b"Content-Encoding: gzip\r\n\r\n" + PACKED,
        b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED,
        b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(BODY),
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    ],
    ids=lambda rest: rest.partition(b"\r\n")[0].decode(),
)
def test_an_answer_may_be_packed(rest: bytes) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n" + rest) as url:
        assert RetellClient("key", url=url).get_call(CALL_ID).call_id == CALL_ID
    refused = pytest.raises(BadRequest, match="What Retell says")
    with answering(b"HTTP/1.1 400 No\r\n" + rest) as url, refused:
        RetellClient("key", url=url).get_call(CALL_ID)


@each
def test_a_refused_connection_is_tried_again(
    api: RetellApi, client: RetellClient, monkeypatch: pytest.MonkeyPatch, send: Request
) -> None:
    connect = socket.create_connection
    refusals = [ConnectionRefusedError(), TimeoutError(), OSError("no route to host")]

    def create_connection(address: Any, *_: Any, **__: Any) -> socket.socket:
        if refusals:
            raise refusals.pop()
        return connect(address)

    monkeypatch.setattr("urllib3.util.connection.create_connection", create_connection)
    send(client)
    assert (len(api.requests), refusals) == (1, [])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionRefusedError(), "no connection: it was refused, or there is no way there"),
        (TimeoutError(), "no connection within 5 s"),
        (socket.gaierror(-2, "Name or service not known"), "its host name was not found"),
    ],
)
@each
def test_where_nobody_answers_nobody_is_reached(
    monkeypatch: pytest.MonkeyPatch, send: Request, error: OSError, message: str
) -> None:
    tries = []

    def create_connection(*arguments: Any, **_: Any) -> None:
        tries.append(arguments)
        raise error

    monkeypatch.setattr("urllib3.util.connection.create_connection", create_connection)
    with pytest.raises(Unreachable, match=message) as caught:
        send(RetellClient("key", timeout=5))
    assert not caught.value.may_have_arrived
    assert len(tries) == 4


class TimeIsUp(Exception):
    """As a task queue raises it from a signal handler, wherever the task is."""


@pytest.mark.parametrize("send", [*REPEATABLE.values()][:1] + [*ONCE.values()][:1])
def test_an_interruption_is_no_fault_of_the_network(
    client: RetellClient, monkeypatch: pytest.MonkeyPatch, send: Request
) -> None:
    interruptions = [TimeIsUp()]

    def begin(_: Any) -> None:
        raise interruptions.pop()

    monkeypatch.setattr("http.client.HTTPResponse.begin", begin)
    with pytest.raises(TimeIsUp):
        send(client)


@pytest.mark.parametrize("fault", [Reset(processed=True), HalfAnswer()])
def test_a_call_that_may_have_arrived_before_the_line_was_cut_is_said_to(
    api: RetellApi, client: RetellClient, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    connect = socket.create_connection
    connections = [connect]

    def create_connection(address: Any, *_: Any, **__: Any) -> socket.socket:
        if not connections:
            raise ConnectionRefusedError
        return connections.pop()(address)

    monkeypatch.setattr("urllib3.util.connection.create_connection", create_connection)
    api.faults.append(fault)
    with pytest.raises(Unreachable, match="no connection") as caught:
        client.create_phone_call(**NUMBERS)
    assert (caught.value.may_have_arrived, made(api)) == (True, 1)


def test_a_port_that_nobody_listens_at_is_unreachable() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        client = RetellClient("key", url=f"http://127.0.0.1:{reserved.getsockname()[1]}")
        with pytest.raises(Unreachable, match="refused"):
            client.get_call(CALL_ID)


@each
def test_nothing_is_sent_again_on_a_broken_tls_connection(
    client: RetellClient, monkeypatch: pytest.MonkeyPatch, send: Request
) -> None:
    tries = []

    def begin(response: Any) -> None:
        tries.append(response)
        raise ssl.SSLError(1, "decryption failed or bad record mac")

    monkeypatch.setattr("http.client.HTTPResponse.begin", begin)
    with pytest.raises(Unreachable, match="no TLS connection"):
        send(client)
    assert len(tries) == 1


def test_a_server_without_tls_is_unreachable(api: RetellApi) -> None:
    client = make_client(api, url=api.url.replace("http:", "https:"))
    with pytest.raises(Unreachable, match="no TLS connection"):
        client.get_call(CALL_ID)
    assert api.requests == []


def use_proxy(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("user", ["", "key:password@"])
def test_a_proxy_that_is_not_there_is_named(
    api: RetellApi, client: RetellClient, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    use_proxy(monkeypatch, f"http://{user}127.0.0.1:1")
    with pytest.raises(Unreachable, match="the proxy makes no connection") as caught:
        client.get_call(CALL_ID)
    assert "password" not in str(caught.value)
    assert not caught.value.may_have_arrived
    assert api.requests == []


@each
def test_the_timeout_is_named(api: RetellApi, send: Request) -> None:
    api.faults.extend([Silence(5)] * 4)
    with pytest.raises(Unreachable, match=r"^[A-Z]+ http:.*/.*: no answer within 0\.02 s$"):
        send(make_client(api, timeout=0.02))
    assert_sent(api, 4 if send in REPEATABLE.values() else 1)


@pytest.mark.parametrize("timeout", [0, -1, True, None, float("nan"), "soon", timedelta(0)])
def test_there_is_no_request_without_a_timeout(api: RetellApi, timeout: Any) -> None:
    with pytest.raises(ValueError, match="takes a duration above zero"):
        make_client(api, timeout=timeout)


@pytest.mark.parametrize("timeout", [2, 0.5, "2s", timedelta(seconds=2)])
def test_a_timeout_has_many_forms(api: RetellApi, timeout: Any) -> None:
    assert make_client(api, timeout=timeout).get_call(CALL_ID).call_id == CALL_ID


@pytest.mark.parametrize(
    "key", ["clé", "key with spaces", "key\nX-Other: 1", "k\x00", "key\u2028key"]
)
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="no HTTP header can carry") as caught:
        RetellClient(key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("key", ["key_1", b"key_1", "  key_1\n"])
def test_a_key_is_text_or_bytes(api: RetellApi, key: Any) -> None:
    api.key = "key_1"
    assert RetellClient(key, url=api.url).get_call(CALL_ID).call_id == CALL_ID


@pytest.mark.parametrize("key", ["", " ", None, 7, "'key'", ["key"]])
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(ValueError, match="key"):
        RetellClient(key)


def test_a_password_file_does_not_replace_the_key(
    api: RetellApi, client: RetellClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text("default login somebody password secret\n", "utf-8")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for send in ALL.values():
        send(client)
        fill(api, make_call(1))
    assert {r.headers["authorization"] for r in api.requests} == {f"Bearer {api.key}"}


def test_no_cookie_is_kept(api: RetellApi, client: RetellClient) -> None:
    api.faults.append(Reply(200, make_call(1), {"Set-Cookie": "a=b; Path=/"}))
    for _ in range(2):
        client.get_call(CALL_ID)
    assert not any("cookie" in request.headers for request in api.requests)


class KeepAlive(BaseHTTPRequestHandler):
    """Answers with a call named by the request's path, on connections that stay open."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # an answer is one packet
    hangs_up = False  # without saying so
    server: Server

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def answer(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.seen.append((name, self.client_address))
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"call_id": name, "items": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.hangs_up

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Remembers each request's name and the client's end of the connection it came by."""

    request_queue_size = 50

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), KeepAlive)
        self.seen: list[tuple[str, Any]] = []
        self.closed = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.client = RetellClient("key", url=self.url, timeout=5)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.closed.set()

    def connections(self, prefix: str = "") -> set[Any]:
        return {address for name, address in self.seen if name.startswith(prefix)}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_connection_is_used_again(server: Server) -> None:
    for _ in range(3):
        server.client.get_call("a")
        server.client.patient().get_call("a")
    assert (len(server.seen), len(server.connections())) == (6, 1)


def test_a_proxy_is_gone_through(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    use_proxy(monkeypatch, server.url)
    client = RetellClient("key", url="http://api.retell.invalid", timeout=5)
    assert [client.get_call(name).call_id for name in ("a", "b")] == ["a", "b"]
    assert (len(server.seen), len(server.connections())) == (2, 1)


@pytest.fixture
def swallowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What a proxy took and did not answer."""
    taken: list[bytes] = []

    class Swallow(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            taken.append(self.request.recv(65_536))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Swallow) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        use_proxy(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
        yield taken
        server.shutdown()
        thread.join()


def test_what_a_proxy_took_may_have_arrived(
    swallowed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_waiting(monkeypatch)
    client = RetellClient("key", url="http://api.retell.invalid", timeout=5)
    with pytest.raises(Unreachable) as caught:
        client.create_web_call("agent_1")
    assert caught.value.may_have_arrived
    assert len(swallowed) == 1
    with pytest.raises(Unreachable) as caught:
        client.create_phone_call(**NUMBERS)
    assert caught.value.may_have_arrived
    assert len(swallowed) == 5  # under one key


@pytest.mark.parametrize("length", ["9" * 23, "-5"])
def test_a_length_beyond_reason_is_an_error_of_the_api(
    length: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()

    class Boast(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            self.request.sendall(head + b"{}")

    skip_waiting(monkeypatch)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Boast) as server:
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(ApiError):
            RetellClient("key", url=url, timeout=5).get_call("call_1")
        server.shutdown()


@each
def test_a_connection_that_was_closed_meanwhile_does_no_harm(
    server: Server, monkeypatch: pytest.MonkeyPatch, send: Request
) -> None:
    monkeypatch.setattr(KeepAlive, "hangs_up", True)
    send(server.client)
    assert server.closed.wait(5)
    send(server.client)
    assert len(server.connections()) == len(server.seen) == 2


def test_threads_share_a_client(server: Server) -> None:
    barrier = threading.Barrier(20)

    def work(number: int) -> list[str]:
        barrier.wait()
        return [server.client.get_call(f"call_{number}_{n}").call_id for n in range(10)]

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(work, range(20)))
    assert found == [[f"call_{number}_{n}" for n in range(10)] for number in range(20)]
    assert len(server.seen) == 200
    assert len(server.connections()) <= 20


def test_threads_create_one_call_each(api: RetellApi) -> None:
    client = make_client(api)

    def work(number: int) -> tuple[int, Any]:
        return number, client.create_phone_call(**NUMBERS, metadata={"number": number}).metadata

    with ThreadPoolExecutor(20) as pool:
        assert all(metadata == {"number": n} for n, metadata in pool.map(work, range(60)))
    assert made(api) == len(set(creates(api))) == 60


def run_in_child(work: Callable[[], Any]) -> int:
    """The exit code of a forked process: 0 if ``work`` is true there."""
    child = os.fork()
    if not child:  # no assertion may leave this branch
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("is_patient", [False, True], ids=["", "patient"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own(server: Server, is_patient: bool) -> None:
    client = server.client.patient() if is_patient else server.client
    client.get_call("parent")

    def child() -> bool:
        return all(client.get_call(name).call_id == name for name in ("child_1", "child_2"))

    assert run_in_child(child) == 0
    client.get_call("parent_again")
    assert len(server.connections("child")) == len(server.connections("parent")) == 1
    assert server.connections("child") != server.connections("parent")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_requests_go_on_while_a_process_is_forked(server: Server) -> None:
    stop = threading.Event()

    def work(number: int) -> int:
        count = 0
        while not stop.is_set():
            count += 1
            name = f"parent_{number}_{count}"
            assert server.client.get_call(name).call_id == name
        return count

    def child() -> bool:
        return server.client.get_call("child").call_id == "child"

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(work, number) for number in range(4)]
        codes = [run_in_child(child) for _ in range(5)]
        stop.set()
        counts = [worker.result() for worker in workers]
    assert codes == [0] * 5
    assert min(counts) > 0
    assert not server.connections("parent") & server.connections("child")
