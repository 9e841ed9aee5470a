"""Receipts that wait at the same time, written by one statement of SQLite's driver.

A statement by itself is a transaction, and one step of the driver. With more steps, the
thread that holds the file's lock would wait after each until the others of its process
let it go on.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects import sqlite

from . import statements
from .receipts import Values
from .schema import Moment, entries, microseconds

_SET_LATER = {"id", "lease_token", "lease_expires_at"}
_NAMES = [column.name for column in entries.c if column.name not in _SET_LATER]
_INSERT_ONE = str(statements.INSERT_ENTRIES.compile(dialect=sqlite.dialect(), column_keys=_NAMES))
_SELECT_NEW = "SELECT id, blueprint, event_id FROM retell_event WHERE id > ?"
_MOMENTS = [name for name in _NAMES if isinstance(entries.c[name].type, Moment)]


def insert_together(driver: Any, rows: Sequence[Values]) -> list[int | None]:
    """Write rows, and return the id of each; None where its event id was taken."""
    parameters: list[Any] = []
    for row in rows:
        moments = {name: microseconds(row[name]) for name in _MOMENTS}
        parameters += map({**row, **moments}.__getitem__, _NAMES)
    cursor = driver.execute(_insert(len(rows)), parameters)
    count, last = cursor.rowcount, cursor.lastrowid
    if count == len(rows):
        return list(range(last - count + 1, last + 1))
    return _find_new(driver, rows, last - count) if count else [None] * len(rows)


@functools.cache
def _insert(count: int) -> str:
    row = f"({', '.join('?' * len(_NAMES))})"
    return _INSERT_ONE.replace(row, ", ".join([row] * count))


def _find_new(driver: Any, rows: Sequence[Values], before: int) -> list[int | None]:
    found = {tuple(key): entry_id for entry_id, *key in driver.execute(_SELECT_NEW, (before,))}
    # Of twins, the first is the one that was written.
    return [found.pop((row["blueprint"], row["event_id"]), None) for row in rows]
