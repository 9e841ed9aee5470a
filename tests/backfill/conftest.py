from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from backfilling import Aftermath, OpenShop, skip_pauses
from databases import Clock
from retell_flask import RetellBlueprint
from retellapi import RetellApi
from support import make_app


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_shop(retell: RetellBlueprint, api: RetellApi, clock: Clock) -> Iterator[OpenShop]:
    with ExitStack() as stack:

        def open_shop(**options: Any) -> Aftermath:
            shop = Aftermath(make_app(retell, **{"RETELL_API_URL": api.url, **options}), api)
            shop.inbox.clock = clock
            stack.callback(shop.inbox.database.dispose)
            return shop

        yield open_shop


@pytest.fixture
def shop(open_shop: OpenShop) -> Aftermath:
    """Time stands still in it, and it knows ``agent_1``."""
    shop = open_shop()
    shop.hear_of("agent_1")
    return shop


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited for Retell, which takes no time."""
    return skip_pauses(monkeypatch)
