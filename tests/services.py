"""PostgreSQL, Redis and RabbitMQ, where they run."""

from __future__ import annotations

import os
import socket

import pytest

PORTS = {"PostgreSQL": 5432, "Redis": 6379, "RabbitMQ": 5672}


def require_service(name: str, port: int | None = None) -> None:
    """Skip the test unless the server answers, and fail it instead under REQUIRE_SERVICES=1."""
    try:
        socket.create_connection(("127.0.0.1", port or PORTS[name]), timeout=2).close()
    except OSError:
        missing = f"{name} does not answer on 127.0.0.1:{port or PORTS[name]}"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"{missing}, and REQUIRE_SERVICES=1 wants it", pytrace=False)
        pytest.skip(missing)
