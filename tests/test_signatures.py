from __future__ import annotations

import gzip
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from retell.lib.webhook_auth import symmetric

from retell_flask import SignatureError
from retell_flask.signatures import explain, read_header, sign, sign_plain, verify
from retell_flask.testing import encode, sample

NOW = 1_700_000_000_000
KEY = "key_0123456789abcdef"
BODY = b'{"event":"call_ended"}'
VECTORS = json.loads((Path(__file__).parent / "signature_vectors.json").read_text("utf-8"))


def vector_body(vector: dict[str, Any]) -> bytes:
    if "raw_body" in vector:
        return str(vector["raw_body"]).encode()
    name = vector["name"].removeprefix("file:").removesuffix(".json (compact dump)")
    return encode(sample(name))


def reason(body: bytes, header: Any, keys: Any = KEY, **options: Any) -> str:
    with pytest.raises(SignatureError) as caught:
        verify(body, header, keys, **{"now_ms": NOW, **options})
    return caught.value.reason


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors_verify_and_are_what_sign_makes(vector: dict[str, Any]) -> None:
    body, header, at = vector_body(vector), vector["x_retell_signature"], vector["timestamp_ms"]
    verified = verify(body, header, vector["api_key"], now_ms=at)
    assert verified == ("timestamped", 0, at)
    assert sign(body, vector["api_key"], timestamp_ms=at) == header


@pytest.mark.parametrize("offset", [-300_000, -1, 0, 1, 300_000])
def test_accepted_up_to_the_tolerance_on_both_sides(offset: int) -> None:
    header = sign(BODY, KEY, timestamp_ms=NOW + offset)
    assert verify(BODY, header, KEY, now_ms=NOW).timestamp_ms == NOW + offset


@pytest.mark.parametrize("offset", [-300_001, 300_001])
def test_stale_one_millisecond_past_the_tolerance(offset: int) -> None:
    header = sign(BODY, KEY, timestamp_ms=NOW + offset)
    with pytest.raises(SignatureError) as caught:
        verify(BODY, header, KEY, now_ms=NOW)
    assert (caught.value.reason, caught.value.skew_ms) == ("stale", -offset)


def test_any_of_several_keys_and_secrets_verifies() -> None:
    keys, secrets = ["old", "new"], ["other"]
    for index, key in enumerate([*keys, *secrets]):
        verified = verify(BODY, sign(BODY, key), keys, secrets=secrets)
        assert (verified.scheme, verified.key_index) == ("timestamped", index)


def test_plain_is_checked_against_secrets_alone() -> None:
    verified = verify(BODY, sign_plain(BODY, "s"), KEY, secrets=["r", "s"])
    assert verified == ("plain", 2, None)
    assert reason(BODY, sign_plain(BODY, KEY)) == "mismatch"
    assert reason(BODY, sign_plain(BODY, "s"), secrets="s", schemes=["timestamped"]) == "malformed"


def test_timestamped_delivery_cannot_be_turned_into_a_plain_one() -> None:
    digest = sign(BODY, "s", timestamp_ms=NOW).split("d=")[1]
    disguised = BODY + str(NOW).encode()
    assert sign_plain(disguised, "s") == digest
    assert reason(disguised, digest, secrets="s") == "mismatch"


def test_digits_cannot_move_between_body_and_timestamp() -> None:
    body = b"17"
    digest = sign(body, KEY, timestamp_ms=NOW).split("d=")[1]
    for moved in range(1, 5):
        shifted = body + str(NOW)[:moved].encode()
        assert reason(shifted, f"v={str(NOW)[moved:]},d={digest}") in ("stale", "malformed")


@pytest.mark.parametrize("keys", ["", [""], [KEY, ""], b""])
def test_an_empty_key_is_an_error_and_not_a_key(keys: Any) -> None:
    with pytest.raises(ValueError, match="empty key"):
        verify(BODY, sign(BODY, KEY), keys)
    with pytest.raises(ValueError, match="empty key"):
        sign(BODY, "")


def test_without_keys_nothing_verifies() -> None:
    assert reason(BODY, sign(BODY, KEY, timestamp_ms=NOW), []) == "mismatch"


GOOD = sign(BODY, KEY, timestamp_ms=NOW)
DIGEST = GOOD.split("d=")[1]


@pytest.mark.parametrize("digest", ["", "ab", DIGEST[:63], DIGEST + "0", f"{DIGEST},d={DIGEST}"])
def test_row_1_digests_of_other_lengths(digest: str) -> None:
    assert reason(BODY, f"v={NOW},d={digest}") == "malformed"


def test_row_3_another_body_or_timestamp() -> None:
    assert reason(BODY + b" ", GOOD) == "mismatch"
    assert reason(BODY.replace(b"e", b"f", 1), GOOD) == "mismatch"
    assert reason(BODY, f"v={NOW + 1},d={DIGEST}") == "mismatch"


@pytest.mark.parametrize(
    "timestamp",
    [
        "1" * 5000,
        f"-{NOW}",
        f"+{NOW}",
        f" {NOW}",
        f"{NOW} ",
        f"0{NOW}",
        "１７０００００００００００",
        "١٧٠٠٠٠٠٠٠٠٠٠٠",
        "",
    ],
)
def test_row_5_timestamps_that_are_no_plain_number(timestamp: str) -> None:
    assert reason(BODY, f"v={timestamp},d={DIGEST}") == "malformed"


def test_row_5_a_timestamp_in_seconds_is_stale() -> None:
    assert reason(BODY, sign(BODY, KEY, timestamp_ms=NOW // 1000)) == "stale"


@pytest.mark.parametrize("header", [None, "", b""])
def test_no_header_is_missing(header: Any) -> None:
    assert reason(BODY, header) == "missing"


@pytest.mark.parametrize(
    "header",
    [
        GOOD.upper(),
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace(",", ", "),
        f"{GOOD},{GOOD}",
        "v=1",
        "\0",
    ],
)
def test_row_4_other_forms_are_malformed(header: str) -> None:
    assert reason(BODY, header) == "malformed"
    assert reason(BODY, header.encode()) == "malformed"


@given(st.binary(), st.one_of(st.none(), st.text(), st.binary(max_size=200)))
@example(BODY, "é" * 100_000)
@example(BODY, "\ud800")
@example(BODY, f"v={'9' * 16},d={'0' * 64}")
def test_any_header_ends_in_one_of_the_four_reasons(body: bytes, header: Any) -> None:
    assert reason(body, header, secrets="s") in ("missing", "malformed", "stale", "mismatch")


# Where the SDK and this library may differ, since the fault is the SDK's: it
# - raises for bytes and undecodable bodies, and for a missing header (TypeError),
# - accepts an empty key,
# - accepts leading zeros and other alphabets' digits in the timestamp.
text_bodies = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
headers = st.builds(
    lambda timestamp, digest: f"v={timestamp},d={digest}",
    st.one_of(st.integers(0, 10**16), st.just(NOW), st.text("0123456789", max_size=20)),
    st.one_of(st.just(DIGEST), st.text("0123456789abcdefABCDEF", min_size=60, max_size=66)),
)


def sdk_verifies(body: Any, key: str, header: Any, now_ms: int) -> bool:
    return bool(symmetric["verify"](body, key, header, {"timestamp": now_ms}))


@given(text_bodies, keys, st.integers(-400_000, 400_000))
def test_the_sdk_agrees_about_what_is_rightly_signed(body: str, key: str, offset: int) -> None:
    header = sign(body.encode(), key, timestamp_ms=NOW + offset)
    ours = abs(offset) <= 300_000
    assert sdk_verifies(body, key, header, NOW) == ours
    assert (_verifies(body, key, header)) == ours


@st.composite
def nearly_right(draw: st.DrawFn) -> tuple[str, str, str]:
    """A body, a key and a rightly signed header, one of them changed a little."""
    body, key = draw(text_bodies), draw(keys)
    header = sign(body.encode(), key, timestamp_ms=NOW + draw(st.integers(-300_001, 300_001)))
    at, change = draw(st.integers(0, len(header))), draw(st.sampled_from("0aA,= \nv١"))
    return draw(
        st.sampled_from(
            [
                (body, key, header),
                (body, key, header[:at] + change + header[at:]),
                (body, key, header[:at] + header[at + 1 :]),
                (body, key, header[:at] + change + header[at + 1 :]),
                (body, key, header.upper()),
                (body, key, f"{header},{header}"),
                (body + change, key, header),
                (body[:-1], key, header),
                (body, key + change, header),
            ]
        )
    )


@given(st.one_of(nearly_right(), st.tuples(text_bodies, keys, st.one_of(st.text(), headers))))
def test_the_sdk_agrees_about_everything_else(delivery: tuple[str, str, str]) -> None:
    body, key, header = delivery
    timestamp = header.partition("v=")[2].partition(",")[0]
    if timestamp != timestamp.lstrip("0") or not timestamp.isascii():
        return  # the SDK's faults, above
    assert sdk_verifies(body, key, header, NOW) == _verifies(body, key, header)


def test_the_faults_of_the_sdk_are_still_there() -> None:
    with pytest.raises(TypeError):
        sdk_verifies(BODY, KEY, GOOD, NOW)
    with pytest.raises(TypeError):
        sdk_verifies(BODY.decode(), KEY, None, NOW)
    empty = hmac.digest(b"", BODY + str(NOW).encode(), "sha256").hex()
    assert sdk_verifies(BODY.decode(), "", f"v={NOW},d={empty}", NOW)
    zeros = GOOD.replace("v=", "v=0")
    arabic = GOOD.translate({ord("0") + n: 0x660 + n for n in range(10)})
    arabic = arabic.partition(",")[0] + "," + GOOD.partition(",")[2]
    assert sdk_verifies(BODY.decode(), KEY, zeros, NOW)
    assert sdk_verifies(BODY.decode(), KEY, arabic, NOW)
    assert reason(BODY, zeros) == reason(BODY, arabic) == "malformed"


def _verifies(body: str, key: str, header: str) -> bool:
    try:
        return bool(verify(body.encode(), header, key, schemes=["timestamped"], now_ms=NOW))
    except SignatureError:
        return False


def test_read_header_looks_at_no_body() -> None:
    claim = read_header(GOOD, now_ms=NOW)
    assert claim.check(BODY, [KEY.encode()]).timestamp_ms == NOW
    assert DIGEST not in repr(claim)


PAYLOAD = {"event": "call_ended", "call": {"call_id": "c", "transcript": "¿Cómo? a/b"}}
SIGNED = encode(PAYLOAD)


@pytest.mark.parametrize(
    ("cause", "body", "header", "keys"),
    [
        ("verified", SIGNED, sign(SIGNED, KEY, timestamp_ms=NOW), KEY),
        ("missing", SIGNED, None, KEY),
        ("wrong_key", SIGNED, sign(SIGNED, "other", timestamp_ms=NOW), KEY),
        ("key_padded", SIGNED, sign(SIGNED, KEY, timestamp_ms=NOW), f" {KEY}\n"),
        ("reserialised", json.dumps(PAYLOAD).encode(), sign(SIGNED, KEY, timestamp_ms=NOW), KEY),
        (
            "reserialised",
            SIGNED,
            sign(json.dumps(PAYLOAD).encode(), KEY, timestamp_ms=NOW),
            KEY,
        ),
        (
            "reserialised",
            SIGNED,
            sign(SIGNED.replace(b"/", rb"\/"), KEY, timestamp_ms=NOW),
            KEY,
        ),
        ("seconds", SIGNED, sign(SIGNED, KEY, timestamp_ms=NOW // 1000), KEY),
        ("stale", SIGNED, sign(SIGNED, KEY, timestamp_ms=NOW - 600_000), KEY),
        ("header_cut", SIGNED, sign(SIGNED, KEY, timestamp_ms=NOW)[:40], KEY),
        ("header_padded", SIGNED, sign(SIGNED, KEY, timestamp_ms=NOW) + " ", KEY),
        ("malformed", SIGNED, "Bearer token", KEY),
        ("plain_scheme", SIGNED, sign_plain(SIGNED, KEY), KEY),
        ("newline", SIGNED + b"\n", sign(SIGNED, KEY, timestamp_ms=NOW), KEY),
        ("newline", SIGNED, sign(SIGNED + b"\n", KEY, timestamp_ms=NOW), KEY),
        ("gzip", gzip.compress(SIGNED), sign(SIGNED, KEY, timestamp_ms=NOW), KEY),
    ],
)
def test_explain_names_the_cause(cause: str, body: bytes, header: Any, keys: str) -> None:
    explanation = explain(body, header, keys, now_ms=NOW)
    assert explanation.cause == cause
    assert len(explanation.message) > 20
    assert KEY not in explanation.message


def test_explain_says_how_far_the_clock_is_off() -> None:
    header = sign(SIGNED, KEY, timestamp_ms=NOW + 600_000)
    assert "600.0 s in the future" in explain(SIGNED, header, KEY, now_ms=NOW).message


@given(st.binary(), st.one_of(st.none(), st.text(), st.binary(max_size=100)))
def test_explain_never_raises(body: bytes, header: Any) -> None:
    assert explain(body, header, [KEY], secrets=["s"], now_ms=NOW).message
