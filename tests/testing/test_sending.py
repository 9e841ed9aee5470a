from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from retell.lib.webhook_auth import symmetric
from werkzeug import Request, Response

from retell_flask import SignatureError
from retell_flask.signatures import HEADER, Scheme, verify
from retell_flask.testing.payloads import encode, path_of, renew, sample
from retell_flask.testing.sending import Load, Reply, Sender, Summary, Timed, signer
from retell_flask.values import Key
from serving import serving
from support import KEY

SIGNER = signer(Key(KEY.encode()))
BODY = encode(sample("call_ended_non_latin"))

Serve = Callable[[Callable[[Request], Response]], str]


@pytest.fixture
def requests() -> list[Request]:
    return []


@pytest.fixture
def serve(requests: list[Request]) -> Iterator[Serve]:
    """Have a function answer at a URL; what it was asked is in ``requests``."""
    servers = []

    def start(answer: Callable[[Request], Response]) -> str:
        @Request.application
        def application(request: Request) -> Response:
            request.get_data()
            requests.append(request)
            return answer(request)

        servers.append(serving(application))
        return servers[-1].__enter__()

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def received(_: Request) -> Response:
    return Response('{"received": true}', content_type="application/json")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# One request


def test_a_request_is_as_retell_makes_it(serve: Serve, requests: list[Request]) -> None:
    reply = Sender(serve(received) + "/hooks", SIGNER).post(BODY)
    assert (reply.status, reply.body, reply.error) == (200, b'{"received": true}', "")
    (request,) = requests
    assert (request.method, request.path, request.get_data()) == ("POST", "/hooks", BODY)
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"] == "retell-flask"


def test_retells_sdk_accepts_what_is_sent(serve: Serve, requests: list[Request]) -> None:
    url = serve(received)
    Sender(url, SIGNER).post(BODY)
    Sender(url, signer(Key(KEY.encode()), late_ms=600_000)).post(BODY)
    accepted = [
        symmetric["verify"](each.get_data(as_text=True), KEY, each.headers[HEADER])
        for each in requests
    ]
    assert accepted == [True, False]


@pytest.mark.parametrize("scheme", ["timestamped", "plain"])
def test_each_scheme_is_what_it_says(
    serve: Serve, requests: list[Request], scheme: Scheme
) -> None:
    Sender(serve(received), signer(Key(KEY.encode()), scheme)).post(BODY)
    header = requests[0].headers[HEADER]
    assert verify(BODY, header, (), secrets=KEY).scheme == scheme


def test_a_late_signature_is_stale_by_as_much(serve: Serve, requests: list[Request]) -> None:
    Sender(serve(received), signer(Key(KEY.encode()), late_ms=600_000)).post(BODY)
    with pytest.raises(SignatureError) as caught:
        verify(BODY, requests[0].headers[HEADER], KEY)
    assert caught.value.skew_ms == pytest.approx(600_000, abs=5_000)


def test_a_header_takes_the_place_of_the_signature(serve: Serve, requests: list[Request]) -> None:
    sender = Sender(serve(received), SIGNER)
    sender.post(BODY, header="v=1")
    sender.post(BODY, header="")
    assert [each.headers.get(HEADER) for each in requests] == ["v=1", None]


@pytest.mark.parametrize(
    ("url", "path", "target"),
    [
        ("", "", "/"),
        ("/", "/inbound", "/inbound"),
        ("/hooks/", "", "/hooks/"),
        ("/hooks/", "/inbound", "/hooks/inbound"),
        ("/hooks?tenant=1", "/inbound", "/hooks/inbound?tenant=1"),
    ],
)
def test_a_path_is_below_that_of_the_url(
    serve: Serve, requests: list[Request], url: str, path: str, target: str
) -> None:
    Sender(serve(received) + url, SIGNER).post(BODY, path)
    assert requests[0].environ["RAW_URI"] == target


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("call_ended", ""),
        ("call_inbound", "/inbound"),
        ("chat_inbound", "/inbound"),
        ("custom_function", "/functions/check_availability"),
    ],
)
def test_every_payload_has_its_place(name: str, path: str) -> None:
    assert path_of(sample(name)) == path


def test_a_name_leads_nowhere_else() -> None:
    assert path_of({"name": "../a b", "args": {}}) == "/functions/..%2Fa%20b"
    assert path_of({"name": 7}) == path_of({}) == ""


def test_a_redirect_is_an_answer(serve: Serve, requests: list[Request]) -> None:
    url = serve(lambda request: Response(status=302, headers={"Location": "/elsewhere"}))
    assert Sender(url, SIGNER).post(BODY).status == 302
    assert len(requests) == 1


@pytest.fixture
def mute() -> Iterator[socket.socket]:
    """Takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def test_what_never_answers_is_waited_for_only_so_long(mute: socket.socket) -> None:
    url = f"http://127.0.0.1:{mute.getsockname()[1]}"
    reply = Sender(url, SIGNER, timeout=0.1).post(BODY)
    assert (reply.status, reply.error) == (None, "no answer in time")
    assert 0.1 <= reply.seconds < 10


def test_why_there_is_no_answer_is_said_in_words(mute: socket.socket) -> None:
    port = mute.getsockname()[1]

    def hang_up() -> None:
        mute.accept()[0].close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    assert Sender(f"http://127.0.0.1:{port}", SIGNER).post(b"{}").error == "connection broken off"
    thread.join()
    mute.close()
    assert Sender(f"http://127.0.0.1:{port}", SIGNER).post(BODY).error == "no connection"
    assert Sender("http://nowhere.invalid", SIGNER).post(BODY).error == "host not found"


def test_what_speaks_no_tls_is_said_so(serve: Serve) -> None:
    url = serve(received).replace("http:", "https:")
    assert Sender(url, SIGNER).post(BODY).error == "no TLS"


@pytest.mark.parametrize("body", [b"", b"<html>duplicate", b"[" * 100_000 + b"duplicate", b"\xff"])
def test_an_answer_may_hold_anything(body: bytes) -> None:
    reply = Reply(200, body, 0.1)
    assert (reply.json, reply.name) == (None, "200")


# A load


def load(url: str, **options: Any) -> Load:
    return Load(Sender(url, SIGNER), lambda: encode(renew(sample("call_started"))), **options)


def test_a_slow_server_holds_no_event_up(serve: Serve) -> None:
    def answer_slowly(request: Request) -> Response:
        time.sleep(3)
        return received(request)

    sent = list(load(serve(answer_slowly), count=11, rate=50).run())
    sent.sort(key=lambda each: each.began)
    assert sent[-1].began - sent[0].began < 3
    for number, each in enumerate(sent):
        assert each.began - sent[0].began >= number / 50 - sent[0].late
    assert min(each.reply.seconds for each in sent) >= 1.2


def test_without_a_rate_a_few_are_under_way_at_once(serve: Serve) -> None:
    under_way: list[int] = []
    most = []

    def answer(request: Request) -> Response:
        under_way.append(1)
        most.append(len(under_way))
        time.sleep(0.02)
        under_way.pop()
        return received(request)

    sent = list(load(serve(answer), count=20).run())
    assert [each.reply.status for each in sent] == [200] * 20
    assert 2 <= max(most) <= 4


def test_twins_are_one_body_and_meet_in_the_server(serve: Serve, requests: list[Request]) -> None:
    together = threading.Barrier(6)

    def answer(request: Request) -> Response:
        together.wait(10)
        return received(request)

    sent = list(load(serve(answer), count=2, twins=6).run())
    assert [each.reply.status for each in sent] == [200] * 12
    bodies = [each.get_data() for each in requests]
    assert sorted(map(bodies.count, set(bodies))) == [6, 6]


def test_a_load_that_is_stopped_ends_with_what_was_sent(
    serve: Serve, requests: list[Request]
) -> None:
    stopped = load(serve(received), count=1000, rate=200)
    sent = []
    for each in stopped.run():
        sent.append(each)
        if len(sent) == 5:
            stopped.stop()
    assert 5 <= len(sent) == len(requests) < 1000


def test_a_load_is_stopped_in_a_pause_too(serve: Serve) -> None:
    stopped = load(serve(received), count=2, rate=0.01)
    sent = stopped.run()
    next(sent)
    stopped.stop()
    assert list(sent) == []


def test_a_schedule_that_cannot_be_kept_is_known_to_be_late(serve: Serve) -> None:
    slow = Load(
        Sender(serve(received), SIGNER), lambda: (time.sleep(0.05), BODY)[1], count=4, rate=1000
    )
    assert max(each.late for each in slow.run()) >= 0.1


# The summary


def summary_of(*replies: Reply, apart: float = 0.01) -> Summary:
    summary = Summary()
    for number, reply in enumerate(replies):
        summary.add(Timed(reply, 100 + number * apart, number / 1000))
    return summary


def test_a_summary_has_percentiles_as_the_statistics_module_has_them() -> None:
    summary = summary_of(*(Reply(200, b"", n / 1000) for n in range(101)))
    expected = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
    assert summary.latency == pytest.approx(expected)
    assert summary.rate == pytest.approx(100)
    assert (summary.total, summary.late) == (101, pytest.approx(0.1))


def test_a_summary_counts_answers_by_what_they_are() -> None:
    again = Reply(200, b'{"received": true, "duplicate": true}', 0.004)
    nothing = Reply(None, b"", 10, "no answer in time")
    summary = summary_of(Reply(200, b"", 0.002), again, again, nothing, Reply(503, b"", 0.002))
    assert summary.answers == {"200": 1, "200 duplicate": 2, "no answer in time": 1, "503": 1}
    assert summary.examples["no answer in time"] is nothing
    assert summary.latency["max"] == 4


def test_a_summary_of_one_or_none_has_no_rate() -> None:
    assert (summary_of().rate, summary_of().latency) == (None, {})
    one = summary_of(Reply(200, b"", 0.002))
    assert (one.rate, set(one.latency.values())) == (None, {2.0})


def test_an_answer_that_trickles_in_is_given_up_and_a_long_one_cut(serve: Serve) -> None:
    def trickle(request: Request) -> Response:
        return Response(
            (time.sleep(0.02) or b"x" * 16 for _ in range(500)), direct_passthrough=True
        )

    began = time.monotonic()
    reply = Sender(serve(trickle), SIGNER, timeout=0.3).post(BODY)
    assert reply.error == "no answer in time"
    assert time.monotonic() - began < 9  # and not ten
    long = serve(lambda request: Response(b"x" * 3_000_000))
    assert len(Sender(long, SIGNER).post(BODY).body) < 200_000
