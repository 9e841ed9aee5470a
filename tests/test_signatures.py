from __future__ import annotations

import gzip
import hmac
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from retell.lib.webhook_auth import symmetric

from faults import FAULTS, HEADER, NOW, SIGNED, Fault, python_form
from retell_flask import SignatureError
from retell_flask.signatures import OWN_SCHEME, explain, read_header, sign, sign_plain, verify
from retell_flask.testing import encode, sample
from support import KEY

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


def test_the_sdk_accepts_the_delivery_that_the_faults_happen_to() -> None:
    assert sdk_verifies(SIGNED.decode(), KEY, HEADER, NOW)
    verified = verify(SIGNED, HEADER, KEY, now_ms=NOW)
    assert explain(SIGNED, HEADER, KEY, now_ms=NOW)[::2] == ("verified", verified)


@pytest.mark.parametrize(
    "fault",
    [
        *FAULTS,
        Fault("no header", "missing", header=""),
        Fault("another header", "malformed", header="Bearer token"),
        Fault("header padded", "header_padded", header=f"{HEADER} "),
        Fault("line end lost", "newline", header=sign(SIGNED + b"\n", KEY, timestamp_ms=NOW)),
        Fault("saved by an editor", "byte_order_mark", b"\xef\xbb\xbf" + SIGNED + b"\r\n"),
        Fault("read before", "empty_body", b""),
        Fault(
            "timestamp moved into the body",
            "disguised",
            SIGNED + str(NOW).encode(),
            HEADER.partition("d=")[2],
            "s",
        ),
    ],
    ids=lambda fault: fault.name,
)
def test_explain_names_the_cause(fault: Fault) -> None:
    secrets = [KEY] if fault.cause == "disguised" else []
    explanation = explain(fault.body, fault.header, fault.key, secrets=secrets, now_ms=NOW)
    assert explanation.cause == fault.cause
    assert len(explanation.message) > 20
    assert KEY not in explanation.message


@pytest.mark.parametrize(
    ("cause", "body"),
    [
        ("reserialised_by_python", python_form(indent=2)),
        ("reserialised_by_python", python_form(ensure_ascii=False)),
        ("reserialised_by_python", python_form(separators=(",", ":"))),
        ("reserialised_by_python", python_form(ensure_ascii=False, separators=(",", ":"))),
        ("reserialised_by_python", python_form().replace(b'"start": 1,', b'"start": 1.0,')),
        (
            "reserialised_by_javascript",
            python_form(indent="\t", ensure_ascii=False)
            .replace(b"1e-05", b"0.00001")
            .replace(b"1.5e-07", b"1.5e-7"),
        ),
        ("reserialised", SIGNED.replace(b"/", rb"\/")),
        ("reserialised", SIGNED.replace(b'":', b'" :')),
        ("reserialised", SIGNED.replace(b'":', b'": ')),
    ],
)
def test_explain_says_who_wrote_the_body(cause: str, body: bytes) -> None:
    assert explain(body, HEADER, KEY, now_ms=NOW).cause == cause


def test_what_cannot_be_told_apart_is_ascribed_to_nobody() -> None:
    header = sign(BODY, KEY, timestamp_ms=NOW)
    indented = b'{\n  "event": "call_ended"\n}'  # JavaScript and Python both write it so
    assert explain(indented, header, KEY, now_ms=NOW).cause == "reserialised"


@pytest.mark.parametrize(
    ("options", "writer"),
    [
        ({}, "Python's json.dumps"),
        ({"ensure_ascii": False}, "a json.dumps without ASCII escapes"),
        ({"separators": (",", ":")}, "a json.dumps without spaces"),
    ],
)
def test_what_python_signed_is_known_in_javascripts_form(
    options: dict[str, Any], writer: str
) -> None:
    header = sign(python_form(**options), KEY, timestamp_ms=NOW)
    explanation = explain(SIGNED, header, KEY, now_ms=NOW)
    assert explanation.cause == "reserialised_by_javascript"
    assert f"as {writer} writes it" in explanation.message


@pytest.mark.parametrize(
    ("cause", "body"),
    [
        ("wrong_key", SIGNED),
        ("damaged", SIGNED[:-1]),
        ("damaged", SIGNED.decode().encode("utf-16")),
        ("rewritten", b'{\n  "event": "call_ended"\n}'),
        ("rewritten", b'{"call":{},"event":"call_ended"}'),
    ],
)
def test_a_body_that_retell_did_not_send_is_told_before_the_key(cause: str, body: bytes) -> None:
    assert explain(body, sign(b"another", KEY, timestamp_ms=NOW), KEY, now_ms=NOW).cause == cause


def test_keys_that_repeat_their_order_and_any_depth_survive_the_rewriting() -> None:
    signed = b'{"b":1,"a":2,"b":%s}' % (b"[" * 50_000 + b"]" * 50_000)
    header = sign(signed, KEY, timestamp_ms=NOW)
    spaced = signed.replace(b":", b": ").replace(b",", b", ")
    assert explain(spaced, header, KEY, now_ms=NOW).cause == "reserialised_by_python"


def test_javascript_itself_is_recognised() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not there, whose JSON.stringify this test asks")
    numbers = [5e-324, 1.7976931348623157e308, 1e-6, 1e-7, -1.5e-9, 123456789.125, 1e15, 2.5e20]
    numbers += [1e21, 123456789012345683968, 0.1, -0.0, 100.0, 1 / 3, 2.0**70]
    strings = ["é", "😀", "a/b", '"\\', "\b\f\n\r\t\0\x1f\x7f", "\u2028", "\ud800", "\udc00x"]
    payload = {"event": "call_ended", "numbers": numbers, "strings": strings, "none": [{}, []]}
    program = "const x = JSON.parse(require('fs').readFileSync(0)); console.log(JSON.stringify("
    program += "[undefined, 2, '\\t'].map(indent => JSON.stringify(x, null, indent))))"
    done = subprocess.run(
        [node, "-e", program], input=json.dumps(payload).encode(), capture_output=True, check=True
    )
    compact, *indented = [form.encode() for form in json.loads(done.stdout)]
    header = sign(compact, KEY, timestamp_ms=NOW)
    parsed = json.loads(compact)
    for body in indented:
        assert explain(body, header, KEY, now_ms=NOW).cause == "reserialised_by_javascript"
    for indent in (None, 2):
        body = json.dumps(parsed, indent=indent).encode()
        assert explain(body, header, KEY, now_ms=NOW).cause == "reserialised_by_python"


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (NOW + 600_000, "600.0 s in the past, and 300.0 s are allowed"),
        (NOW - 600_000, "600.0 s in the future"),
        (NOW + 9_000_000, "2.5 hours in the past"),
        (NOW + 30 * 86_400_000, "30.0 days in the past"),
    ],
)
def test_explain_says_how_far_the_clock_is_off_and_what_was_right(at: int, words: str) -> None:
    explanation = explain(SIGNED, HEADER, ["other", KEY], now_ms=at)
    assert explanation.cause == "stale"
    assert words in explanation.message
    assert explanation.verified == ("timestamped", 1, NOW)


@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.cause not in ("seconds", "stale")], ids=lambda f: f.name
)
def test_of_several_faults_the_one_beside_the_old_timestamp_is_named(fault: Fault) -> None:
    long_after = NOW + 90 * 86_400_000
    assert explain(fault.body, fault.header, fault.key, now_ms=long_after).cause == fault.cause


def test_a_right_signature_of_a_scheme_that_is_not_accepted_is_named() -> None:
    header = sign_plain(SIGNED, "s")
    explanation = explain(SIGNED, header, KEY, secrets="s", schemes=OWN_SCHEME)
    assert explanation.cause == "scheme_refused"
    assert explanation.verified == ("plain", 1, None)
    assert explain(SIGNED, header, KEY, secrets="s").cause == "verified"


@given(st.binary(), st.one_of(st.none(), st.text(), st.binary(max_size=100)))
def test_explain_never_raises(body: bytes, header: Any) -> None:
    assert explain(body, header, [KEY], secrets=["s"], now_ms=NOW).message


json_like = st.text(st.sampled_from('{}[]:,"\\ud8é/ \n\t0123456789.eE+-'))


@pytest.mark.parametrize(
    ("cause", "header"),
    [
        ("plain_wrong_key", HEADER.partition("d=")[2]),
        ("timestamp_changed", HEADER.replace(str(NOW), str(NOW // 1000))),
        ("wrong_key", HEADER.replace(str(NOW), str(NOW + 1))),
    ],
)
def test_a_header_that_retell_did_not_send_is_told_before_the_key(cause: str, header: str) -> None:
    assert explain(SIGNED, header, KEY, now_ms=NOW).cause == cause


_WITHOUT_A_FIT = {"wrong_key", "empty_body", "damaged", "rewritten"}


@given(st.one_of(st.binary(), json_like.map(str.encode)))
@example(b"9" * 5000)
@example(b"1e999999999999999999")
def test_explain_never_raises_where_every_change_is_tried(body: bytes) -> None:
    assert explain(body, HEADER, KEY, now_ms=NOW).cause in _WITHOUT_A_FIT


@pytest.mark.parametrize("unit", ['"', '\\"', '"",', "[", '{"a":', "1.5,", "1e", "\n", "\\u00e9"])
def test_a_hostile_body_takes_linear_time(unit: str) -> None:
    began = time.monotonic()
    explain((unit * 300_000)[:300_000].encode(), HEADER, KEY, now_ms=NOW)
    assert time.monotonic() - began < 10  # 0.3 s, or minutes where it is quadratic


def test_a_gzip_bomb_is_not_unpacked_as_a_whole() -> None:
    unpacked = bytes(65 * 1024 * 1024)
    bomb = gzip.compress(unpacked, 1)
    header = sign(unpacked, KEY, timestamp_ms=NOW)
    assert explain(bomb, header, KEY, now_ms=NOW).cause == "damaged"


def test_a_body_too_long_to_be_rewritten_is_said_to_be() -> None:
    body = SIGNED.replace(b'":', b'": ') + b" " * 5_000_000
    assert "too long to try" in explain(body, HEADER, KEY, now_ms=NOW).message
