from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from call_center import create_app
from call_center.models import db
from call_center.settings import OPTIONS
from services.fixtures import attempts, hubspot, openai, slack, todoist  # noqa: F401


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The application as it comes: no service is set up."""
    for name in OPTIONS:
        monkeypatch.delenv(name, raising=False)
    database = f"sqlite:///{tmp_path}/call_center.sqlite3"
    app = create_app(TESTING=True, CALL_CENTER_DATABASE_URL=database)
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def rows(app: Flask) -> Callable[[type[Any]], list[Any]]:
    """What a table has: ``rows(Task)``."""

    def read(model: type[Any]) -> list[Any]:
        with app.app_context():
            return list(db.session.scalars(select(model)))

    return read
