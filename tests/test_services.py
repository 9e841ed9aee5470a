from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from services import require_service


@pytest.fixture
def port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def test_a_server_that_is_not_there_skips_and_is_named(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUIRE_SERVICES", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"Redis does not answer on 127.0.0.1:{port}"):
        require_service("Redis", port)


def test_a_server_that_is_not_there_fails_where_it_is_required(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUIRE_SERVICES", "1")
    with pytest.raises(pytest.fail.Exception, match="Redis does not answer"):
        require_service("Redis", port)


def test_a_server_that_is_there_is_used(port: int) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        require_service("Redis", listener.getsockname()[1])
