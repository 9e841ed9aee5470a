from __future__ import annotations

import time
from typing import Any

import pytest

from retell_flask.receiver import Incoming, Rejection, authenticate, read_event
from retell_flask.settings import read_settings
from retell_flask.signatures import OWN_SCHEME, SCHEMES, sign, sign_plain
from retell_flask.testing import encode
from support import KEY, SECRET, call_payload

BODY = encode(call_payload("call_ended"))
SETTINGS = read_settings(
    {"RETELL_API_KEY": KEY, "RETELL_WEBHOOK_SECRET": SECRET, "RETELL_MAX_BODY": 1000}, environ={}
)


def incoming(
    body: bytes = BODY, *, header: str | None = "", declared: int | None = -1
) -> Incoming:
    return Incoming(
        header=sign(body, KEY) if header == "" else header,
        declared_length=len(body) if declared == -1 else declared,
        read=lambda limit: body[:limit],
    )


def unreadable(limit: int) -> bytes:
    raise AssertionError("the body was read")


def rejection(request: Incoming, schemes: Any = SCHEMES) -> Rejection:
    with pytest.raises(Rejection) as caught:
        read_event(request, SETTINGS, schemes)
    return caught.value


def test_a_signed_event_is_received() -> None:
    assert read_event(incoming(), SETTINGS, SCHEMES).type == "call_ended"


def test_plain_is_received_where_it_is_allowed() -> None:
    plain = incoming(header=sign_plain(BODY, SECRET))
    assert read_event(plain, SETTINGS, SCHEMES).type == "call_ended"
    assert rejection(plain, OWN_SCHEME).status == 401


@pytest.mark.parametrize("type_", ["call_inbound", "chat_inbound"])
def test_inbound_events_are_never_received_by_the_plain_scheme(type_: str) -> None:
    body = encode({"event": type_, type_: {}})
    assert read_event(incoming(body), SETTINGS, SCHEMES).type == type_
    refused = rejection(incoming(body, header=sign_plain(body, SECRET)))
    assert (refused.status, refused.reason) == (401, "mismatch")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "missing"),
        ("v=1", "malformed"),
        (sign(BODY, KEY, timestamp_ms=1_000_000_000_000), "stale"),
    ],
)
def test_row_8_a_hopeless_header_is_refused_before_the_body_is_read(
    header: str | None, reason: str
) -> None:
    refused = rejection(Incoming(header, 10**12, unreadable))
    assert (refused.status, refused.reason, refused.error) == (401, reason, "Invalid signature")


def test_a_declared_length_over_the_limit_is_refused_before_the_body_is_read() -> None:
    refused = rejection(Incoming(sign(BODY, KEY), 1001, unreadable))
    assert (refused.status, refused.reason) == (413, "too_large")


@pytest.mark.parametrize(("length", "status"), [(1000, 400), (1001, 413), (2000, 413)])
def test_row_7_a_body_without_a_declared_length(length: int, status: int) -> None:
    body = BODY + b" " * (length - len(BODY) - 1) + b"x"
    assert rejection(incoming(body, declared=None)).status == status


def test_row_7_a_body_shorter_than_declared() -> None:
    refused = rejection(incoming(declared=len(BODY) + 1))
    assert (refused.status, refused.reason) == (400, "truncated")


def test_the_digest_goes_before_the_length_and_the_hint_says_what_is_missing() -> None:
    refused = rejection(incoming(BODY[:-1], header=sign(BODY, KEY), declared=len(BODY)))
    assert (refused.status, refused.reason) == (401, "mismatch")
    assert "shorter than its Content-Length" in refused.hint
    consumed = rejection(incoming(b"", header=sign(BODY, KEY), declared=len(BODY)))
    assert "before_request" in consumed.hint


def test_the_tolerance_is_the_options() -> None:
    settings = read_settings(
        {"RETELL_API_KEY": KEY, "RETELL_SIGNATURE_TOLERANCE": "10m"}, environ={}
    )
    header = sign(BODY, KEY, timestamp_ms=time.time_ns() // 1_000_000 - 400_000)
    assert read_event(incoming(header=header), settings, SCHEMES).type == "call_ended"
    assert rejection(incoming(header=header)).reason == "stale"


def test_a_stale_signature_says_how_stale() -> None:
    header = sign(BODY, KEY, timestamp_ms=time.time_ns() // 1_000_000 - 600_000)
    refused = rejection(incoming(header=header))
    assert refused.skew_ms is not None
    assert 600_000 <= refused.skew_ms < 700_000
    assert "600 s" in refused.hint


def test_a_wrong_digest_goes_before_wrong_content() -> None:
    assert rejection(incoming(b"no json", header=sign(b"other", KEY))).status == 401
    assert rejection(incoming(b"no json")).status == 400


def test_authenticate_returns_the_exact_bytes() -> None:
    body, verified = authenticate(incoming(b"\xff\x00 "), SETTINGS, OWN_SCHEME)
    assert body == b"\xff\x00 "
    assert verified.scheme == "timestamped"
