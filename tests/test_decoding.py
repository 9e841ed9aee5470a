from __future__ import annotations

import json
import logging
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retell_flask.decoding import Decoder, decode_object, repair
from retell_flask.models.base import Model


class Inner(Model, frozen=True, kw_only=True):
    number: int | None = None
    text: str | None = None


class Tagged(Model, frozen=True, kw_only=True, tag_field="role", tag="known"):
    text: str | None = None


class Other(Model, frozen=True, kw_only=True, tag_field="role", tag="other"):
    text: str | None = None


class Outer(Model, frozen=True, kw_only=True):
    name: str
    inner: Inner | None = None
    numbers: tuple[float, ...] | None = None
    texts: dict[str, str] | None = None
    anything: dict[str, Any] | None = None
    either: str | Inner | None = None
    items: tuple[Tagged | Other, ...] | None = None


DECODER: Decoder[Outer] = Decoder(Outer, unknown=lambda sent: sent["role"])


def decode(value: Any, caplog: pytest.LogCaptureFixture) -> tuple[Outer | None, list[str]]:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    caplog.clear()
    decoded = DECODER.decode(body, "outer")
    return decoded, [path for r in caplog.records for path in r.retell_paths]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sent", "path", "expected"),
    [
        ({"inner": {"number": "1", "text": "t"}}, "outer.inner.number", Inner(text="t")),
        ({"inner": {"number": 1.5}}, "outer.inner.number", Inner()),
        ({"inner": [1]}, "outer.inner", None),
        ({"inner": "text"}, "outer.inner", None),
        ({"numbers": [1, "two", 3]}, "outer.numbers[1]", (1.0, 3.0)),
        ({"numbers": {"a": 1}}, "outer.numbers", None),
        ({"texts": {"secret": 4, "b": "x"}}, "outer.texts[*]", {"b": "x"}),
        ({"either": {"number": []}}, "outer.either.number", Inner()),
        ({"either": 4}, "outer.either", None),
        ({"items": [{"role": "known", "text": 4}]}, "outer.items[0].text", (Tagged(),)),
        ({"items": [{"role": "other"}, 3]}, "outer.items[1]", (Other(),)),
    ],
)
def test_only_the_odd_field_is_lost_and_its_path_is_logged_once(
    sent: dict[str, Any], path: str, expected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    decoded, paths = decode({"name": "n", **sent}, caplog)
    assert decoded is not None
    assert decoded.name == "n"
    assert getattr(decoded, next(iter(sent))) == expected
    assert paths == [path]
    assert "secret" not in caplog.text


def test_null_and_absent_fields_are_not_odd(caplog: pytest.LogCaptureFixture) -> None:
    assert decode({"name": "n", "inner": None}, caplog) == (Outer(name="n"), [])


def test_unknown_keys_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert decode({"name": "n", "new": {"a": 1}}, caplog) == (Outer(name="n"), [])


def test_an_object_of_an_unknown_tag_is_kept_by_its_own_means(
    caplog: pytest.LogCaptureFixture,
) -> None:
    decoded, paths = decode({"name": "n", "items": [{"role": "new"}]}, caplog)
    assert decoded is not None
    assert decoded.items == ("new",)
    assert paths == []


def test_without_a_required_field_nothing_of_an_object_fits(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert decode({"inner": {}}, caplog) == (None, ["outer"])


def test_many_odd_fields_make_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    decode({"name": "n", "numbers": ["x"] * 1000}, caplog)
    assert len(caplog.records) == 1
    assert "and 990 more" in caplog.text


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"name": NaN}', b"\xef\xbb\xbf{}", b"\0"])
def test_what_is_no_json_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        DECODER.decode(body)


@pytest.mark.parametrize(
    ("sent", "repaired"),
    [
        (rb'"\ud800"', rb'"\ufffd"'),
        (rb'"\uDC00x"', rb'"\ufffdx"'),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'"\ud83d\ud83d\ude00"', rb'"\ufffd\ud83d\ude00"'),
        (rb'"\\ud800"', rb'"\\ud800"'),
        (rb'"\"\ud800"', rb'"\"\ufffd"'),
        (b'"\xff"', '"\ufffd"'.encode()),
        (b"[1e999,-1e999,1e5]", b"[null,null,1e5]"),
        (b'"1e999"', b'"1e999"'),
        (b"1" * 4301, b"null"),
        (b"123456789012345678901", b"123456789012345678901"),
    ],
)
def test_repair_replaces_only_what_msgspec_refuses(sent: bytes, repaired: bytes) -> None:
    assert repair(sent) == repaired
    msgspec.json.decode(repaired)


@pytest.mark.parametrize("text", [rb"\ud800", rb"\udfff\ud800", b"\xff\xfe"])
@pytest.mark.parametrize("where", [b'{"name":"n%s"}', b'{"name":"n","unknown":"%s"}'])
def test_broken_text_is_replaced_wherever_it_stands(where: bytes, text: bytes) -> None:
    decoded = DECODER.decode(where % text)
    assert decoded is not None
    assert decoded.name.rstrip("\ufffd") == "n"


values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
names = st.sampled_from(["name", "inner", "numbers", "texts", "either", "items", "other"])


@given(st.dictionaries(names, values))
def test_any_json_decodes_to_what_fits(sent: dict[str, Any]) -> None:
    logging.disable()
    try:
        decoded = DECODER.decode(json.dumps(sent).replace("Infinity", "1e999").encode())
    finally:
        logging.disable(logging.NOTSET)
    if isinstance(sent.get("name"), str):
        assert decoded is not None
        assert decoded.name == sent["name"].replace("Infinity", "1e999")
    else:
        assert decoded is None


def test_an_object_that_was_accepted_on_a_shallow_stack_decodes_on_a_deep_one() -> None:
    depth = 900
    body = b'{"a":' + b"[" * depth + b"]" * depth + b"}"

    def deeper(frames: int) -> dict[str, Any]:
        return deeper(frames - 1) if frames else decode_object(body)

    value = deeper(min(sys.getrecursionlimit() - 200, 500))["a"]
    for _ in range(depth - 1):
        (value,) = value
    assert value == []
