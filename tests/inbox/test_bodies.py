from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retell_flask.inbox.bodies import pack, unpack


@given(st.binary(max_size=2000) | st.binary(max_size=20).map(lambda part: part * 200))
def test_the_exact_bytes_come_back(body: bytes) -> None:
    assert unpack(*pack(body)) == body


@pytest.mark.parametrize("magic", [b"\x28\xb5\x2f\xfd" * 100, pack(b"x" * 1000)[1] * 50])
def test_bytes_that_look_compressed_come_back_as_they_were(magic: bytes) -> None:
    assert unpack(*pack(magic)) == magic


def test_compressing_is_for_what_gets_smaller() -> None:
    assert pack(b"x" * 10_000)[0]
    assert len(pack(b"x" * 10_000)[1]) < 100
    assert pack(b"short") == (False, b"short")
    noise = bytes(hash((n, "x")) % 256 for n in range(5000))
    compressed, stored = pack(noise)
    assert len(stored) <= len(noise)
    assert unpack(compressed, stored) == noise


def test_a_freed_body_is_none() -> None:
    assert unpack(False, None) is None
    assert unpack(True, None) is None
