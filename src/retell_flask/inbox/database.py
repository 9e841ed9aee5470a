"""Transactions: short ones for writing, bounded in time, and reads beside them.

What fails is an ``InboxError``, without a statement's parameters, which hold payloads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ..errors import InboxError
from ..forks import ProcessBound, bind_to_process, gate
from . import schema, silence

T = TypeVar("T")

Operation = Callable[[Connection], T]

# Below Retell's 10 seconds, so that it is told to send again.
PATIENCE_SECONDS = 8.0
_CONNECT_SECONDS, _PING_SECONDS = 4, 3.0  # within that, one after the other


class Database(ProcessBound):
    """An engine, and the tables once they were found or made.

    ``engine`` is called in each process at its first use.
    """

    # What is an outage. Everything else is a fault of ours, and passes.
    faults: tuple[type[Exception], ...] = (DBAPIError, PoolTimeoutError, OSError)

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._make_engine = engine
        self._of_the_parent: list[Any] = []
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """Forget connections and locks, which belong to the parent after a fork."""
        # What nobody frees, nobody closes.
        self._of_the_parent.append(vars(self).get("_engine"))
        self._engine: Engine | None = None
        self._is_prepared = False
        self._preparing = threading.RLock()
        self._failure: tuple[float, InboxError] | None = None

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
        return self._run(lambda: self._read(operation))

    def write(self, operation: Operation[T]) -> T:
        """Run a transaction and commit it. Raises ``InboxError``; then nothing of it holds.

        ``operation`` may run in another thread, together with other operations, and once
        more if one of those fails.
        """
        return self._run(lambda: self._write(operation))

    def _read(self, operation: Operation[T]) -> T:
        # Committed: at a rollback psycopg forgets what it has prepared, and PostgreSQL spends more
        # on planning our statements than on running them.
        with self.engine.begin() as connection:
            return operation(connection)

    def _write(self, operation: Operation[T]) -> T:
        with self.engine.begin() as connection:
            return operation(connection)

    def erase_traces(self) -> bool:
        """Clear the files of what was deleted, as far as we can; whether it worked."""
        return True

    def dispose(self) -> None:
        """Close all connections."""
        if self._engine is not None:
            self._engine.dispose()

    def init(self) -> bool:
        """Make the tables. False if they were there in this version. Raises ``InboxError``."""
        return self._run(self._make_tables, prepare=False)

    def _prepare(self) -> None:
        began = time.monotonic()
        if not self._preparing.acquire(timeout=PATIENCE_SECONDS):
            raise InboxError("The inbox did not answer in time.")
        try:
            if self._failure is not None and self._failure[0] > began:
                raise self._failure[1]  # it failed while we waited: we need not wait once more
            if not self._is_prepared:
                self._find_tables()
                self._is_prepared = True
        except Exception as error:
            self._failure = time.monotonic(), self._inbox_error(error)
            raise
        finally:
            self._preparing.release()

    def _find_tables(self) -> None:
        """Raise ``InboxError`` unless they are there in this version."""
        if self.dialect == "sqlite":
            self._make_tables()
            return
        with self.engine.connect() as connection:
            found = schema.find_version(connection)
        if found is None:
            raise InboxError("The inbox has no tables yet. Make them by: flask retell init-db")
        schema.check_version(found)

    def _make_tables(self) -> bool:
        with self.engine.begin() as connection:
            return schema.ensure(connection)

    def _run(self, work: Callable[[], T], *, prepare: bool = True) -> T:
        try:
            with gate:
                if prepare and not self._is_prepared:
                    self._prepare()
                return work()
        except self.faults as error:
            raise self._inbox_error(error) from None

    def _inbox_error(self, error: Exception) -> InboxError:
        return InboxError(str(error) if isinstance(error, InboxError) else describe(error))


def connect_to_server(url: URL) -> Database:
    """A PostgreSQL server."""
    # A stale connection, after the server was restarted, is found and replaced. No request waits
    # for a server that does not answer, or for a lock, longer than Retell would for us.
    defaults = {"connect_timeout": str(_CONNECT_SECONDS), "tcp_user_timeout": "8000"}
    url = url.set(query={**defaults, **url.query})

    def make_engine() -> Engine:
        engine = create_engine(url, pool_timeout=PATIENCE_SECONDS / 2, hide_parameters=True)
        event.listen(engine, "connect", _limit_waiting)
        silence.watch(engine, ping_seconds=_PING_SECONDS)
        return engine

    return Database(make_engine)


def _limit_waiting(connection: Any, _: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {PATIENCE_SECONDS * 500:.0f}")  # ms
        cursor.execute("SET statement_timeout = 60000")
    connection.commit()


def describe(error: Exception) -> str:
    """An outage in a line, without a statement or its parameters."""
    if isinstance(error, PoolTimeoutError):
        return "All connections to the inbox were in use."
    original = error.orig if isinstance(error, DBAPIError) else error
    first_line = str(original).strip().partition("\n")[0]
    return f"The inbox does not answer: {type(original).__name__}: {first_line}"
