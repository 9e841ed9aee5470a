from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask

from retell_flask import RetellBlueprint
from support import make_app


@pytest.fixture
def open_url(tmp_path: Path, postgresql_url: Callable[[], str]) -> Callable[[str], str | None]:
    """The URL of an inbox of a kind with no results in it."""

    def url(kind: str) -> str | None:
        if kind == "postgresql":
            with psycopg.connect(postgresql_url(), autocommit=True) as server:
                server.execute("TRUNCATE retell_answer")
            return postgresql_url()
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/inbox.sqlite3"
        return None if kind == "memory" else kind

    return url


@pytest.fixture
def open_app() -> Iterator[Callable[..., Flask]]:
    """Make applications, and close the inboxes of all at the end."""
    made: list[Flask] = []

    def open_app(blueprint: RetellBlueprint, url: str | None, **config: Any) -> Flask:
        app = make_app(blueprint, RETELL_INBOX_URL=url, **config)
        made.append(app)
        return app

    yield open_app
    for app in made:
        for state in app.extensions["retell"].values():
            if state.inbox is not None:
                state.inbox.database.dispose()
