"""SQLite that keeps what it acknowledged through a power cut, with several processes writing.

SQLite lets one write at a time and makes the others poll, which is slow and unfair. Here
the writers of a process stand in one line, and the first of them commits for all who
wait; the processes take turns by a lock on a file beside the database.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine import URL
from sqlalchemy.pool import StaticPool

from ..errors import InboxError
from . import schema
from .database import PATIENCE_SECONDS, Database, Operation, describe
from .filelock import FileLock
from .line import Line
from .receipts import NewEntry
from .together import insert_together

_logger = logging.getLogger(__name__)

T = TypeVar("T")

OLDEST = (3, 35, 0)  # RETURNING


def sqlite_module() -> ModuleType:
    """pysqlite3, whose SQLite is newer than most, if it is installed; else the standard one."""
    try:
        return importlib.import_module("pysqlite3.dbapi2")
    except ImportError:
        return sqlite3


def is_safe_in_wal(version: tuple[int, ...]) -> bool:
    """Whether SQLite is free of the fault by which WAL can lose commits of two writers.

    Fixed in 3.51.3, 3.50.7 and 3.44.6 (https://sqlite.org/wal.html#walresetbug).
    """
    return version >= (3, 51, 3) or any(
        fixed <= version < (fixed[0], fixed[1] + 1, 0) for fixed in ((3, 50, 7), (3, 44, 6))
    )


class MemoryDatabase(Database):
    """One connection that all threads of the process share: for tests."""

    def __init__(self) -> None:
        super().__init__(self._create_engine)

    def begin_anew(self) -> None:
        super().begin_anew()
        self._turn = threading.RLock()

    def _create_engine(self) -> Engine:
        return _create_engine("sqlite://", sqlite3, poolclass=StaticPool)

    def _read(self, operation: Operation[T]) -> T:
        return self._write(operation)

    def _write(self, operation: Operation[T]) -> T:
        with self._turn:
            return super()._write(operation)


class FileDatabase(Database):
    """A file of its own, made when it is first used."""

    def __init__(
        self, path: Path, synchronous: str = "FULL", module: ModuleType | None = None
    ) -> None:
        self.path = path
        self._file = str(path)
        self._log = f"{path}-wal"
        self._synchronous = synchronous
        self._module = module or sqlite_module()
        self.is_wal: bool = is_safe_in_wal(self._module.sqlite_version_info)
        self.faults: tuple[type[Exception], ...] = (*Database.faults, self._module.Error)
        # The other errors are those of one operation, and no fault of its neighbours.
        self._outages = self._module.OperationalError, self._module.InterfaceError
        super().__init__(self._create_engine)

    def begin_anew(self) -> None:
        self._of_the_parent.append(vars(self).get("_writer"))
        super().begin_anew()
        self._writer: Connection | None = None
        self._files: tuple[Any, Any] = None, None  # the database and, in WAL mode, its log
        self._has_log = False
        self._line = Line(self._commit)
        self._file_lock = FileLock(Path(f"{self.path}.lock"))

    def has_tables(self) -> bool:
        """Look, where any other use would make them. Raises ``InboxError``."""
        try:
            with contextlib.closing(
                self._module.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
            ) as connection:
                names = connection.execute("SELECT name FROM sqlite_master").fetchall()
        except self._module.Error as error:
            raise InboxError(describe(error)) from None
        return (schema.schema_version.name,) in names

    def erase_traces(self) -> bool:
        """Deleted content is overwritten in the file; here the log goes, which has it too."""
        if not self.is_wal:
            return True
        checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"
        is_busy, *_ = self.read(lambda connection: connection.exec_driver_sql(checkpoint).one())
        return not is_busy

    def before_fork(self) -> None:
        """The child's SQLite would believe that it has the locks of connections it inherits."""
        self.dispose()

    def dispose(self) -> None:
        with self._line.turn:
            self._drop_writer()
        super().dispose()

    def _create_engine(self) -> Engine:
        url = URL.create("sqlite", database=str(self.path))
        engine = _create_engine(url, self._module, begin=None)
        # Not by a method: the pool keeps its listeners while the writer, which we keep, is out.
        listener = functools.partial(
            _set_pragmas, synchronous=self._synchronous, is_wal=self.is_wal
        )
        event.listen(engine, "connect", listener)
        return engine

    def _write(self, operation: Operation[T]) -> T:
        # The other half is for a lock that others than we may hold.
        return self._line.write(operation, PATIENCE_SECONDS / 2)

    def _commit(self, take: Callable[[], list[Operation[Any]]], deadline: float) -> list[Any]:
        self._file_lock.take(deadline)
        try:
            return self._transact(take())
        finally:
            self._file_lock.release()
            self._check_files()

    def _transact(self, operations: list[Operation[Any]]) -> list[Any]:
        if not operations:
            return []
        new = [each for each in operations if isinstance(each, NewEntry)]
        try:
            connection = self._connected()
            # By the driver: SQLAlchemy's own way takes longer than the statements.
            driver: Any = connection.connection.driver_connection
            if len(new) == len(operations):
                return insert_together(driver, [each.values for each in new])
            driver.execute("BEGIN IMMEDIATE")
            results = [operation(connection) for operation in operations]
            driver.execute("COMMIT")
        except BaseException as error:
            self._drop_writer()  # which rolls back
            if isinstance(error, self._outages):
                raise InboxError(describe(error)) from None
            raise
        return results

    def _check_files(self) -> None:
        """A file that was deleted or replaced takes writes, which nobody will find."""
        has_log = self._has_log and self._writer is not None
        found = _identity(self._file), has_log and _identity(self._log)
        known_file, known_log = self._files
        self._files = known_file or found[0], known_log or found[1]
        if None in found or found != self._files:
            self._drop_writer()
            self._files = None, None
            self.engine.dispose()
            raise InboxError(f"{self.path} was deleted or replaced while it was in use.")

    def _connected(self) -> Connection:
        if self._writer is None:
            self._writer = self.engine.connect()
        return self._writer

    def _drop_writer(self) -> None:
        # The next one looks for the tables: without connections, the file may be another.
        self._is_prepared = False
        if self._writer is not None:
            writer, self._writer = self._writer, None
            self._files = self._files[0], None  # the log goes with its last connection
            with contextlib.suppress(Exception):
                writer.invalidate()
                writer.close()

    def _make_tables(self) -> bool:
        self._make_directory()
        deadline = time.monotonic() + PATIENCE_SECONDS / 2
        with self._line.turn:
            self._file_lock.take(deadline)
            try:
                return self._make_file()
            finally:
                self._file_lock.release()

    def _make_file(self) -> bool:
        is_new = not self.path.exists()
        self._set_journal_mode()
        (is_made,) = self._transact([self._ensure_tables])
        if is_new:
            _sync_directory(self.path.parent)
            self._say_what_is_safe()
        return bool(is_made)

    def _say_what_is_safe(self) -> None:
        if not self.is_wal:
            _logger.info(
                "SQLite %s can lose commits in WAL mode, so the inbox does without it. "
                "pip install 'retell-flask[sqlite]' brings a newer one, which is faster",
                self._module.sqlite_version,
            )

    def _ensure_tables(self, connection: Connection) -> bool:
        if schema.find_version(connection) is None:
            self._refuse_a_hosts_file(connection)
        return schema.ensure(connection)

    def _make_directory(self) -> None:
        directory = self.path.parent
        if not directory.exists():
            directory.mkdir(parents=True, exist_ok=True)
            _sync_directory(directory.parent)

    def _set_journal_mode(self) -> None:
        """WAL where it is safe. Others may be connected, who hold a mode in place."""
        wanted = "wal" if self.is_wal else "truncate"
        with contextlib.closing(
            self._module.connect(self.path, timeout=PATIENCE_SECONDS / 2, isolation_level=None)
        ) as connection:
            try:
                (got,) = connection.execute(f"PRAGMA journal_mode={wanted}").fetchone()
            except self._module.OperationalError as error:
                if "locked" not in str(error):
                    raise
                (got,) = connection.execute("PRAGMA journal_mode").fetchone()
        self._has_log = got == "wal"
        if got != wanted:
            _logger.warning(
                "The inbox %s is in journal mode %s, not %s: another process holds it there",
                self.path,
                got,
                wanted,
            )

    def _refuse_a_hosts_file(self, connection: Connection) -> None:
        others = set(inspect(connection).get_table_names()) - set(schema.metadata.tables)
        if others:
            raise InboxError(
                f"{self.path} holds tables of another application "
                f"({', '.join(sorted(others)[:3])}). The inbox needs a SQLite file of its own: "
                "set RETELL_INBOX_URL to another path."
            )


def _create_engine(
    url: URL | str, module: ModuleType, *, begin: str | None = "BEGIN", **options: Any
) -> Engine:
    """The driver opens no transaction by itself: its own would upgrade, and fail, in mid-way."""
    engine = create_engine(
        url,
        module=module,
        connect_args={
            "factory": _closing(module.Connection),
            "isolation_level": None,
            "check_same_thread": False,
            "timeout": PATIENCE_SECONDS / 2,
        },
        hide_parameters=True,
        **options,
    )
    if begin is not None:
        event.listen(
            engine, "begin", lambda connection: connection.exec_driver_sql(begin) and None
        )
    return engine


def _set_pragmas(connection: Any, _: Any, *, synchronous: str, is_wal: bool) -> None:
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("PRAGMA secure_delete=ON")
    if not is_wal:  # WAL stays with the file, this with the connection
        # Not while a process with a newer SQLite holds the file in WAL mode.
        with contextlib.suppress(connection.OperationalError):
            connection.execute("PRAGMA journal_mode=TRUNCATE")


def _closing(connection: type[Any]) -> type[Any]:
    """Closed when its application is dropped, since no host closes one; 3.13 warns of others."""
    return type(connection.__name__, (connection,), {"__del__": connection.close})


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - twice as fast, for each commit
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _sync_directory(directory: Path) -> None:
    """A new file is there after a power cut only once its directory was synced."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
