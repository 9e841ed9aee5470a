"""Hostile requests that only a real server can pass on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from retell_flask.testing import encode, sign
from servers import COMMANDS, Server, running
from support import KEY, call_payload

LIMIT = 10_000
BODY = encode(call_payload("call_ended"))


@pytest.fixture(scope="module", params=COMMANDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(request.param, RETELL_API_KEY=KEY, RETELL_MAX_BODY=str(LIMIT)) as server:
        yield server


def request(
    body: bytes,
    signature: bytes | None = b"",
    *,
    length: int | None = None,
    extra: bytes = b"",
) -> bytes:
    if signature == b"":
        signature = sign(body, KEY).encode()
    head = b"POST /webhooks/retellai HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    if signature is not None:
        head += b"X-Retell-Signature: " + signature + b"\r\n"
    head += b"Content-Length: %d\r\n" % (len(body) if length is None else length)
    return head + extra + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    head = request(b"", sign(body, KEY).encode()).replace(
        b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n"
    )
    chunks = [body[n : n + 1000] for n in range(0, len(body), 1000)]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"


def test_a_signed_event_is_received(server: Server) -> None:
    body = encode(call_payload("call_ended", call_id="call_received"))
    status, answer = server.send(request(body))
    assert (status, json.loads(answer)) == (200, {"received": True})


@pytest.mark.parametrize(
    "signature",
    [b"\x80\xff", "é".encode(), b"v=1,d=\xff", b"x" * 100_000, b"v=1\0", b"v=1\x01"],
)
def test_row_4_header_bytes(server: Server, signature: bytes) -> None:
    # 400 and 431 are the server's own, before the application sees anything.
    assert server.send(request(BODY, signature))[0] in (0, 400, 401, 431)


def test_row_4_a_header_that_comes_twice(server: Server) -> None:
    again = b"X-Retell-Signature: " + sign(BODY, KEY).encode() + b"\r\n"
    assert server.send(request(BODY, extra=again))[0] in (400, 401)


def test_row_4_a_folded_header(server: Server) -> None:
    folded = sign(BODY, KEY).encode().replace(b",", b",\r\n ")
    assert server.send(request(BODY, folded))[0] in (0, 400, 401)


@pytest.mark.parametrize(
    ("length", "status"), [(LIMIT, 200), (LIMIT + 1, 413), (2 * LIMIT, 413), (20 * LIMIT, 413)]
)
def test_row_7_chunked_bodies_around_the_limit(server: Server, length: int, status: int) -> None:
    got, answer = server.send(chunked(BODY.ljust(length)))
    assert got == status
    assert next(iter(json.loads(answer))) == {200: "received", 413: "error"}[status]


@pytest.mark.parametrize(
    "chunks",
    [
        b"nonsense\r\n",
        b"5\r\nabc",
        b"-1\r\n\r\n",
        b"1;" + b"x" * 20_000 + b"\r\na\r\n0\r\n\r\n",
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    ],
)
def test_row_7_chunks_that_are_none(server: Server, chunks: bytes) -> None:
    whole = chunked(b"")
    head = whole[: whole.index(b"\r\n\r\n") + 4]
    status, _ = server.send(head + chunks, close_writing=True)
    assert status in (0, 400, 401, 413, 431)  # 0: the server drops the connection


def test_row_7_a_declared_length_over_the_limit(server: Server) -> None:
    assert server.send(request(BODY.ljust(LIMIT + 1)))[0] == 413


def test_row_7_a_body_shorter_than_its_content_length(server: Server) -> None:
    if server.name == "waitress":
        pytest.skip("waitress drops such a request itself, without an answer")
    assert server.send(request(BODY, length=len(BODY) + 9), close_writing=True)[0] == 400


@pytest.mark.parametrize("signature", [None, b"v=1,d=2"])
def test_row_8_no_signature_and_a_huge_body_that_never_comes(
    server: Server, signature: bytes | None
) -> None:
    if server.name == "waitress":
        pytest.skip("waitress reads the whole body before the application sees the request")
    assert server.send(request(b"", signature, length=10**9))[0] == 401


def test_row_10_a_form_of_thousands_of_parts_is_not_parsed(server: Server) -> None:
    body = b"&".join([b"a"] * 4_900)
    form = request(body).replace(b"application/json", b"application/x-www-form-urlencoded")
    assert server.send(form)[0] == 400


def test_row_13_ids_with_line_breaks_write_one_line(server: Server) -> None:
    body = encode(call_payload("call_ended", call_id="a\r\nFAKE \x1b[31m"))
    assert server.send(request(body))[0] == 200
    log = server.wait_for_log(r"handled event_received (call_ended) of a\r\nFAKE \x1b[31m")
    assert "\nFAKE" not in log


def test_no_request_of_this_module_was_a_500(server: Server) -> None:
    assert server.send(request(BODY))[0] == 200
    log = server.log.read_text("utf-8")
    assert "Traceback" not in log
    assert '" 500 ' not in log
