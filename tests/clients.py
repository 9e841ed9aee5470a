"""What the tests of the REST client share."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from retell_flask import RetellClient
from retellapi import RetellApi

NUMBERS = {"from_number": "+14155550100", "to_number": "+14155550101"}


def make_client(api: RetellApi, **options: Any) -> RetellClient:
    return RetellClient(api.key, **{"url": api.url, "timeout": 5, **options})


def fill(api: RetellApi, *calls: dict[str, Any]) -> None:
    api.calls.update({call["call_id"]: call for call in calls})


def skip_waiting(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The seconds that a client would have waited from now on, in order."""
    slept: list[Any] = []
    clock = SimpleNamespace(sleep=slept.append, time=time.time, monotonic=time.monotonic)
    for module in ("urllib3.util.retry", "retell_flask.transport"):
        monkeypatch.setattr(f"{module}.time", clock)
    return slept
