"""Transactions: short ones for writing, bounded in time, and reads beside them.

What fails is an ``InboxError``, without a statement's parameters, which hold payloads.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ..errors import InboxError
from . import schema

T = TypeVar("T")

Operation = Callable[[Connection], T]

# Below Retell's 10 seconds, so that it is told to send again.
PATIENCE_SECONDS = 8.0


class Database:
    """An engine, and the tables once they were found or made.

    ``engine`` is called in each process at its first use.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._make_engine = engine
        self._forget_connections()
        _databases.add(self)

    def _forget_connections(self) -> None:
        self._engine: Engine | None = None
        self._is_prepared = False
        self._preparing = threading.RLock()

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            with self._preparing:
                if self._engine is None:
                    self._engine = self._make_engine()
        return self._engine

    def read(self, operation: Operation[T]) -> T:
        """Run a read. Raises ``InboxError``."""
        with _as_inbox_error():
            self._prepare()
            return self._read(operation)

    def write(self, operation: Operation[T]) -> T:
        """Run a transaction and commit it. Raises ``InboxError``; then nothing of it holds.

        ``operation`` may run in another thread, together with other operations, and once
        more if one of those fails.
        """
        with _as_inbox_error():
            self._prepare()
            return self._write(operation)

    def _read(self, operation: Operation[T]) -> T:
        with self.engine.connect() as connection:
            return operation(connection)

    def _write(self, operation: Operation[T]) -> T:
        with self.engine.begin() as connection:
            return operation(connection)

    def erase_traces(self) -> None:
        """See to it that nothing of what was deleted is left in the files, as far as we can."""

    def dispose(self) -> None:
        """Close all connections."""
        if self._engine is not None:
            self._engine.dispose()

    def init(self) -> bool:
        """Make the tables. False if they were there in this version. Raises ``InboxError``."""
        with _as_inbox_error():
            return self._init()

    def _init(self) -> bool:
        with self.engine.begin() as connection:
            found = schema.find_version(connection)
            if found is None:
                schema.create(connection)
            else:
                schema.check_version(found)
        return found is None

    def _prepare(self) -> None:
        if not self._is_prepared:
            with self._preparing:
                self._find_tables()
                self._is_prepared = True

    def _find_tables(self) -> object:
        """Make them, where that is allowed, or raise ``InboxError``."""
        with self.engine.connect() as connection:
            found = schema.find_version(connection)
        if found is None:
            raise InboxError("The inbox has no tables yet. Make them by: flask retell init-db")
        schema.check_version(found)
        return None


def connect_to_server(url: URL) -> Database:
    """A PostgreSQL server."""
    # A stale connection, after the server was restarted, is found and replaced. Nobody waits
    # for a server that does not answer longer than Retell would for us.
    defaults = {"connect_timeout": "5", "tcp_user_timeout": "8000"}
    url = url.set(query={**defaults, **url.query})
    return Database(
        functools.partial(
            create_engine,
            url,
            pool_pre_ping=True,
            pool_timeout=PATIENCE_SECONDS,
            hide_parameters=True,
        )
    )


@contextmanager
def _as_inbox_error() -> Iterator[None]:
    try:
        yield
    except InboxError:
        raise
    except (DBAPIError, PoolTimeoutError, OSError) as error:
        raise InboxError(_describe(error)) from None


def _describe(error: Exception) -> str:
    if isinstance(error, PoolTimeoutError):
        return f"All connections to the inbox were in use for {PATIENCE_SECONDS:.0f} s."
    original = error.orig if isinstance(error, DBAPIError) else error
    first_line = str(original).strip().partition("\n")[0]
    return f"The inbox does not answer: {type(original).__name__}: {first_line}"


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_of_the_parent: list[Any] = []


def _after_fork() -> None:
    """Connections and locks belong to the parent; the child begins anew."""
    for database in list(_databases):
        _of_the_parent.append(vars(database).copy())  # what nobody frees, nobody closes
        database._forget_connections()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
