"""The SQLite file of an application's inbox, looked at from beside."""

from __future__ import annotations

import contextlib
import itertools
import time
from pathlib import Path
from typing import Any

import facts
from retell_flask.inbox.database import Database
from retell_flask.inbox.sqlite import sqlite_module

PATIENCE_SECONDS = 120.0


class InboxFile:
    """Opens the file anew for each look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._last = 0

    def about(self) -> str:
        return facts.describe_sqlite(sqlite_module(), self.path)

    def count(self, condition: str = "1") -> int:
        """How many entries meet a condition."""
        (found,) = self._ask(f"SELECT count(*) FROM retell_event WHERE {condition}")[0]
        return int(found)

    def wait_until_delivered(self) -> float:
        """How many seconds that took."""
        began = time.monotonic()
        while self.count("status IN ('pending', 'running')"):
            time.sleep(0.02)
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise SystemExit(f"Not delivered after {PATIENCE_SECONDS:.0f} s: {self.path}")
        return time.monotonic() - began

    def new_rows(self) -> list[tuple[Any, ...]]:
        """What was stored since the last time."""
        rows = self._ask("SELECT * FROM retell_event WHERE id > ? ORDER BY id", self._last)
        self._last = rows[-1][0] if rows else self._last
        return rows

    def schema(self) -> list[str]:
        """The statements that make the table of events and its indexes."""
        made = "SELECT sql FROM sqlite_master WHERE tbl_name = 'retell_event' AND sql NOT NULL"
        return [sql for (sql,) in self._ask(f"{made} ORDER BY type = 'index'")]

    def column_names(self) -> list[str]:
        return [name for _, name, *_ in self._ask("PRAGMA table_info(retell_event)")]

    def _ask(self, statement: str, *values: object) -> list[Any]:
        with contextlib.closing(sqlite_module().connect(self.path, timeout=10)) as connection:
            found: list[Any] = connection.execute(statement, values).fetchall()
            return found


def pragmas(database: Database) -> dict[str, Any]:
    """How the library's own connections to its file are set up."""
    return {
        name: database.read(lambda c: c.exec_driver_sql(f"PRAGMA {name}").scalar())  # noqa: B023
        for name in ("journal_mode", "synchronous", "secure_delete", "wal_autocheckpoint")
    }


class BareTable:
    """A table like the inbox's, with its indexes, to which rows are committed one by one."""

    def __init__(self, path: Path, like: InboxFile, pragmas: dict[str, Any]) -> None:
        self._connection = sqlite_module().connect(
            path, isolation_level=None, check_same_thread=False
        )
        for name, value in pragmas.items():
            self._connection.execute(f"PRAGMA {name}={value}")
        for statement in like.schema():
            self._connection.execute(statement)
        names = like.column_names()
        self._insert = f"INSERT INTO retell_event VALUES ({', '.join('?' * len(names))})"
        self._numbers = itertools.count()

    def fresh(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """An equal row with keys of its own."""
        return (None, f"evt_{next(self._numbers):032x}", *row[2:])

    def commit(self, row: tuple[Any, ...]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(self._insert, row)
        self._connection.execute("COMMIT")

    def commit_microseconds(self, rows: list[tuple[Any, ...]]) -> float:
        fresh = [self.fresh(row) for row in rows]
        began = time.perf_counter()
        for row in fresh:
            self.commit(row)
        return (time.perf_counter() - began) / len(rows) * 1e6

    def close(self) -> None:
        self._connection.close()
