from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.shop import Shop
from retell_flask import RetellBlueprint
from support import make_app


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/inbox.sqlite3"


@pytest.fixture
def make_shop(retell: RetellBlueprint, file_url: str) -> Iterator[Callable[..., Shop]]:
    shops: list[Shop] = []

    def make(blueprint: RetellBlueprint = retell, **options: Any) -> Shop:
        shops.append(Shop(make_app(blueprint, **{"RETELL_INBOX_URL": file_url, **options})))
        return shops[-1]

    yield make
    for shop in shops:
        if shop.state.inbox is not None:
            shop.state.inbox.database.dispose()


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    """Time stands still in it."""
    shop = make_shop()
    shop.clock.freeze()
    shop.inbox.check()
    return shop


@pytest.fixture
def next_release(make_shop: Callable[..., Shop]) -> Callable[[], Shop]:
    """The same inbox, and a blueprint that nothing is connected to."""
    return lambda: make_shop(RetellBlueprint())


@pytest.fixture
def fail(retell: RetellBlueprint) -> Iterator[Callable[..., None]]:
    """Connect a receiver that raises what it is told to, while it is told to."""
    errors: dict[str, BaseException | None] = {}

    def connect(signal: str, error: BaseException | None, name: str = "shop:bill") -> None:
        is_new = name not in errors
        errors[name] = error
        if is_new:

            @retell.on(signal, name=name)
            def receive(sender: Any, **extra: Any) -> None:
                if errors[name] is not None:
                    raise errors[name]  # type: ignore[misc]

    yield connect
    errors.clear()
