"""Whatever arrives, the answer is one of the documented ones and never a 500."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from flask import Flask
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from werkzeug.test import EnvironBuilder

from retell_flask import RetellBlueprint
from retell_flask.events import INBOUND_TYPES, SUBJECTS
from retell_flask.inbox.bodies import unpack
from retell_flask.inbox.schema import entries
from retell_flask.testing import encode, sign, sign_plain
from support import KEY, PATH, Post, call_payload, make_app

ANSWERS = {
    200: [
        {"received": True},
        {"received": True, "duplicate": True},
        {"call_inbound": {}},
        {"chat_inbound": {}},
    ],
    401: [{"error": "Invalid signature"}],
    405: [{"error": "Method not allowed"}],
}


def make_hostile_app() -> Flask:
    retell = RetellBlueprint()
    retell.on("event_received", name="reader")(lambda _, event, **extra: event.payload)
    return make_app(retell, TESTING=True, RETELL_WEBHOOK_SECRET="s", RETELL_MAX_BODY=10_000)


APP = make_hostile_app()
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
types = st.sampled_from([*SUBJECTS, "call_inbound", "chat_inbound", "new"])
payloads = st.fixed_dictionaries(
    {"event": st.one_of(types, json_values)},
    optional={
        "call": st.one_of(st.just({"call_id": "c"}), json_values),
        "chat": st.one_of(st.just({"chat_id": "c"}), json_values),
        "alert": json_values,
    },
)
call_fields = dict.fromkeys(
    ["latency", "call_analysis", "call_cost", "transcript_object", "metadata", "error"],
    json_values,
)
bodies = st.one_of(
    st.binary(max_size=200),
    payloads.map(lambda p: json.dumps(p).encode()),
    json_values.map(repr).map(str.encode),
)
headers = st.one_of(
    st.none(),
    st.text(st.characters(max_codepoint=255)),
    st.sampled_from(["signed", "plain", "v=1,d=" + "0" * 64, "0" * 64]),
)


def send(body: bytes, header: str | None, **options: Any) -> tuple[int, Any]:
    """Straight into the WSGI callable, since clients refuse to send some of it."""
    if header == "signed":
        header = sign(body, KEY)
    elif header == "plain":
        header = sign_plain(body, "s")
    environ = EnvironBuilder(PATH, method="POST", input_stream=None, data=body).get_environ()
    environ.update(options)
    if header is not None:
        environ["HTTP_X_RETELL_SIGNATURE"] = header
    answer: list[int] = []
    chunks = APP(environ, lambda status, headers, exc_info=None: answer.append(int(status[:3])))
    text = b"".join(chunks)
    return answer[0], json.loads(text) if text else None


@given(
    bodies,
    headers,
    st.sampled_from(["application/json", "multipart/form-data; boundary=x", "\xff", ""]),
    st.sampled_from(["POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"]),
    st.sampled_from(["", "/", "/inbound", "/functions/f", "/functions/\u00ff\n"]),
)
@settings(max_examples=300)
@example(b"", None, "", "POST", "")
@example(b"x" * 20_000, "signed", "", "POST", "")
def test_only_documented_answers(
    body: bytes, header: str | None, content_type: str, method: str, path: str
) -> None:
    environ = {"CONTENT_TYPE": content_type, "REQUEST_METHOD": method, "PATH_INFO": PATH + path}
    status, answer = send(body, header, **environ)
    assert status in (200, 400, 401, 405, 413) or (status == 404 and "functions" in path)
    if method == "HEAD":
        assert (status, answer) == (405, None)
    elif status in ANSWERS:
        assert answer in ANSWERS[status]
    else:
        assert list(answer) == ["error"]


@given(
    st.fixed_dictionaries(
        {"event": types},
        optional={
            "call": st.fixed_dictionaries({"call_id": st.text(min_size=1)}, optional=call_fields),
            "chat": st.just({"chat_id": "c"}),
            "alert": st.just({}),
            "end_reason": json_values,
            "transfer_destination": json_values,
        },
    )
)
def test_signed_payloads_are_received_or_refused_for_their_subject(payload: Any) -> None:
    status, answer = send(
        json.dumps(payload).replace("NaN", "0").replace("Infinity", "1e999").encode(), "signed"
    )
    needed = SUBJECTS.get(payload["event"], ())
    if payload["event"] in INBOUND_TYPES:
        needed = (payload["event"],)
    if not needed or any(subject in payload for subject in needed):
        assert status in (200, 413)
        assert status == 413 or answer in ANSWERS[200]
    else:
        assert (status, "needs" in answer["error"]) == (400, True)


@pytest.mark.parametrize(
    "length", ["0", "-1", "5", "100000", "1" * 5000, "abc", "", "٥", "1.5", "0x10"]
)
@pytest.mark.parametrize("header", [None, "signed"])
def test_any_content_length(length: str, header: str | None) -> None:
    body = encode(call_payload("call_ended"))
    status, answer = send(body, header, CONTENT_LENGTH=length)
    assert status in ((401,) if header is None else (400, 401, 413))
    assert list(answer) == ["error"]


def stored(app: Flask) -> set[tuple[bytes, str]]:
    inbox = app.extensions["retell"]["retell"].inbox
    found = inbox.database.read(
        lambda c: c.execute(select(entries.c.compressed, entries.c.body, entries.c.status)).all()
    )
    return {(unpack(row.compressed, row.body), row.status) for row in found}


def nested(depth: int) -> bytes:
    return b'{"event":"new","x":' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (nested(900), {200, 400}),
        (nested(1_000), {200, 400}),
        (nested(4_900), {200, 400}),
        (b'{"event":"new","x":NaN}', {400}),
        (b'{"event":"new","x":Infinity}', {400}),
        (b'{"event":"new","x":1e999}', {200}),
        (b'{"event":"call_ended","call":{"call_id":"c","duration_ms":1e999}}', {200}),
        (b'{"event":"new","x":' + b"1" * 20 + b"}", {200}),
        (b'{"event":"new","x":' + b"1" * 4_301 + b"}", {200}),
        (rb'{"event":"new","x":"\ud800"}', {200}),
        (rb'{"event":"call_ended","call":{"call_id":"\udfff"}}', {200}),
        (b'{"event":"new","x":"\xff"}', {200}),
        (b'{"event":"\xff"}', {200}),
        (b"\xef\xbb\xbf" + b'{"event":"new"}', {400}),
        ('{"event":"new"}'.encode("utf-16"), {400}),
        (b'{"event":"new","event":"newer"}', {200}),
        (rb'{"event":"a\u0000b"}', {200}),
        (b'{"event":1}', {400}),
        (b'{"event":[]}', {400}),
        (b'{"event":null}', {400}),
        (b"{}", {400}),
        (b'{"event":"' + b"x" * 9_900 + b'"}', {200}),
        (b'{"event":"call_ended","call":"c"}', {400}),
        (b'{"event":"call_ended","call":null}', {400}),
        (b'{"event":"call_ended","call":{}}', {400}),
        (rb'{"event":"call_ended","call":{"call_id":"a\r\n\u001b[31m"}}', {200}),
    ],
)
def test_rows_12_and_13_content(body: bytes, statuses: set[int]) -> None:
    status, _ = send(body, "signed")
    assert status in statuses
    # Kept byte for byte, and delivered where it is an event.
    assert (body, {200: "done", 400: "invalid"}[status]) in stored(APP)


@pytest.mark.parametrize(
    "header",
    [
        {"HTTP_X_FORWARDED_FOR": "100.20.5.228"},
        {"HTTP_FORWARDED": "for=100.20.5.228"},
        {"HTTP_X_REAL_IP": "100.20.5.228", "REMOTE_ADDR": "::ffff:100.20.5.228"},
        {"REMOTE_ADDR": "100.20.5.228"},
    ],
)
def test_row_16_no_address_lets_anybody_in_or_keeps_anybody_out(header: dict[str, str]) -> None:
    body = encode(call_payload("call_ended", call_id=str(header)))
    assert send(body, None, **header)[0] == 401
    assert send(body, "signed", **header)[0] == 200


@pytest.mark.parametrize("depth", [100_000])
def test_row_12_a_hundred_thousand_levels(depth: int, post: Post) -> None:
    assert post(nested(depth)).status_code == 400


def test_row_2_a_signature_under_an_empty_key(post: Post) -> None:
    body = encode(call_payload("call_ended"))
    timestamp = sign(body, KEY).partition(",")[0].removeprefix("v=")
    digest = hmac.digest(b"", body + timestamp.encode(), "sha256").hex()
    assert post(body, header=f"v={timestamp},d={digest}").status_code == 401
