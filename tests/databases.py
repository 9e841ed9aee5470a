"""Databases for tests: every kind that an inbox can be in, each for its test alone."""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine

from retell_flask.inbox import schema, sqlite
from retell_flask.inbox.database import Database, connect_to_server
from retell_flask.inbox.location import use_engine
from retell_flask.inbox.store import Inbox
from retell_flask.settings import read_settings
from retell_flask.values import inbox_url
from services import require_service

_SERVER = os.environ.get("TEST_POSTGRESQL_URL", "postgresql://root@127.0.0.1:5432/test")

KINDS = ("sqlite", "sqlite-fallback", "sqlite-memory", "sqlite-host", "postgresql")


class Clock:
    """Time that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of a new database on the server, with an inbox's tables."""
    require_service("PostgreSQL")
    name = f"retell_{uuid.uuid4().hex[:12]}"
    url = f"{_SERVER.rpartition('/')[0]}/{name}"
    with psycopg.connect(_SERVER, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"'.encode())
    try:
        database = connect_to_server(_parsed(url))
        database.init()
        database.dispose()
        yield url
    finally:
        with psycopg.connect(_SERVER, autocommit=True) as server:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def empty(url: str) -> None:
    """Delete all rows of an inbox."""
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(
            "TRUNCATE retell_delivery, retell_event, retell_answer, retell_agent, retell_pruned, "
            "retell_message RESTART IDENTITY"
        )


def _parsed(url: str) -> Any:
    return inbox_url(url)


def open_kind(kind: str, directory: Path, postgresql_url: Callable[[], str]) -> Database:
    """A database of one of ``KINDS`` with nothing in it."""
    path = directory / "inbox.sqlite3"
    if kind == "sqlite-memory":
        return sqlite.MemoryDatabase()
    if kind == "sqlite-host":
        engine = create_engine(f"sqlite:///{path}")
        database = use_engine(engine)
        database.init()
        return database
    if kind == "postgresql":
        url = postgresql_url()
        empty(url)
        return connect_to_server(_parsed(url))
    if kind == "sqlite":
        pytest.importorskip("pysqlite3")
        return sqlite.FileDatabase(path)
    return fallback(path)


def fallback(path: Path) -> Database:
    """SQLite as it is where the linked one is not safe in WAL mode."""
    database = sqlite.FileDatabase(path, module=sqlite3)
    database.is_wal = False
    return database


def make_inbox(
    database: Database, clock: Clock | None = None, *, lease: float | None = None, **options: Any
) -> Inbox:
    config = {"RETELL_API_KEY": "k"} | {f"RETELL_{k}": v for k, v in options.items()}
    settings = read_settings(config, environ={})
    if lease is not None:  # shorter than the option allows
        settings = replace(settings, lease=timedelta(seconds=lease))
    return Inbox(database, "retell", settings, clock or Clock())


def rows(database: Database, table: str = "retell_event") -> list[dict[str, Any]]:
    """A table as it is, in the order of its keys."""
    found = schema.metadata.tables[table]
    statement = found.select().order_by(found.c.id)
    return database.read(lambda c: [dict(row._mapping) for row in c.execute(statement)])
