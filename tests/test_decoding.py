from __future__ import annotations

import json
import math
import sys
from types import NoneType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retell_flask.decoding import Decoder, decode_object, repair, warn_of_odd
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


DECODER: Decoder[Outer] = Decoder(Outer, unknown=lambda sent: str(sent.get("role")))


def decode(value: Any) -> tuple[Outer | None, list[str]]:
    odd: list[str] = []
    return DECODER.decode(json.dumps(value).encode(), odd, "outer"), odd


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
def test_only_the_odd_field_is_lost(sent: dict[str, Any], path: str, expected: Any) -> None:
    decoded, odd = decode({"name": "n", **sent})
    assert decoded is not None
    assert decoded.name == "n"
    assert getattr(decoded, next(iter(sent))) == expected
    assert odd == [path]
    assert "secret" not in path


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"inner": None}, None),
        ({"numbers": [1, None, 2]}, (1.0, 2.0)),
        ({"texts": {"a": None, "b": "x"}}, {"b": "x"}),
        ({"anything": {"a": None}}, {"a": None}),
    ],
)
def test_null_is_not_odd(sent: dict[str, Any], expected: Any) -> None:
    decoded, odd = decode({"name": "n", **sent})
    assert getattr(decoded, next(iter(sent))) == expected
    assert odd == []


def test_unknown_keys_are_ignored() -> None:
    assert decode({"name": "n", "new": {"a": 1}}) == (Outer(name="n"), [])


def test_an_object_of_an_unknown_tag_is_kept_by_its_own_means() -> None:
    decoded, odd = decode({"name": "n", "items": [{"role": "new"}]})
    assert decoded is not None
    assert decoded.items == ("new",)
    assert odd == []


def test_without_a_required_field_nothing_of_an_object_fits() -> None:
    assert decode({"inner": {}}) == (None, ["outer"])


def test_behind_a_thousand_odd_items_nothing_is_looked_into_any_more() -> None:
    items = [{"role": "known", "text": 1}] * 1_500 + [{"role": "known", "text": "t"}]
    decoded, odd = decode({"name": "n", "items": items})
    assert decoded is not None
    assert decoded.items == (*[Tagged()] * 1_000, Tagged(text="t"))
    assert len(odd) == 1_500


def test_many_odd_fields_make_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_odd([f"call.x[{n}]" for n in range(1000)])
    (record,) = caplog.records
    assert record.getMessage().endswith("call.x[9] and 990 more")
    caplog.clear()
    warn_of_odd([])
    assert caplog.text == ""


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"name": NaN}', b"\xef\xbb\xbf{}", b"\0"])
def test_what_is_no_json_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        DECODER.decode(body, [])


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
    decoded = DECODER.decode(where % text, [])
    assert decoded is not None
    assert decoded.name.rstrip("\ufffd") == "n"


values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
named = st.fixed_dictionaries(
    {"name": st.text()},
    optional={
        "inner": st.dictionaries(st.sampled_from(["number", "text"]), values),
        "numbers": st.lists(st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text()),
        "texts": st.dictionaries(st.text(), st.text() | st.integers()),
        "items": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["known", "other", "new"])}, optional={"text": values}
            )
        ),
    },
)


def is_plain_int(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**64


names = st.sampled_from(["name", "inner", "numbers", "texts", "either", "items", "other"])


@given(st.one_of(named, st.dictionaries(names, values)))
def test_any_json_decodes_to_what_fits(sent: dict[str, Any]) -> None:
    decoded = DECODER.decode(json.dumps(sent).replace("Infinity", "1e999").encode(), [])
    if isinstance(sent.get("name"), str):
        assert decoded is not None
        assert decoded.name == sent["name"].replace("Infinity", "1e999")
        assert isinstance(decoded.inner, (Inner, NoneType))
        if isinstance(inner := sent.get("inner"), dict):
            assert decoded.inner is not None
            number = inner.get("number")
            assert decoded.inner.number == (number if is_plain_int(number) else None)
        if isinstance(numbers := sent.get("numbers"), list):
            kept = [n for n in numbers if type(n) in (int, float) and math.isfinite(n)]
            assert decoded.numbers == tuple(map(float, kept))
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


@pytest.mark.parametrize("unit", [rb"\"", b'"', rb"\\", b"[", b"1", b"1e", rb"\ud800"])
def test_repairing_a_megabyte_of_anything_comes_to_an_end(unit: bytes) -> None:
    # Quadratic time, as for quotes without an end at one time, would be most of an hour.
    body = b'"' + unit * (1_000_000 // len(unit))
    assert len(repair(body)) <= len(body)
