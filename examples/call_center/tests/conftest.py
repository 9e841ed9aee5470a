from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import select

from call_center import create_app
from call_center.models import create_tables, db
from call_center.settings import OPTIONS
from services.fixtures import attempts, hubspot, openai, slack, todoist  # noqa: F401

SERVER = os.environ.get("TEST_POSTGRESQL_URL", "postgresql://root@127.0.0.1:5432/test")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of a new database, of the version that the Compose file has."""
    try:
        psycopg.connect(SERVER, connect_timeout=2).close()
    except psycopg.OperationalError:
        if os.environ.get("REQUIRE_SERVICES") == "1":
            raise
        pytest.skip(f"PostgreSQL does not answer at {SERVER}")
    name = f"call_center_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"'.encode())
    yield f"{SERVER.rpartition('/')[0]}/{name}"
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/call_center.sqlite3"


@pytest.fixture(params=["sqlite", "postgresql"])
def either_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/call_center.sqlite3"
    url = str(request.getfixturevalue("database"))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


@pytest.fixture(autouse=True)
def _no_option_of_yours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPTIONS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def app(database_url: str, _no_option_of_yours: None) -> Iterator[Flask]:
    """The application as it comes: no service is set up."""
    app = create_app(TESTING=True, CALL_CENTER_DATABASE_URL=database_url)
    with app.app_context():
        create_tables()
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
