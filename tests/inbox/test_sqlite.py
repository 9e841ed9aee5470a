from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from databases import fallback
from retell_flask.errors import InboxError
from retell_flask.inbox import filelock, schema, sqlite
from retell_flask.inbox.filelock import FileLock
from retell_flask.inbox.line import Ticket
from retell_flask.inbox.sqlite import FileDatabase, is_safe_in_wal


@pytest.fixture(params=["safe in WAL", "fallback"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "fallback":
        database = fallback(tmp_path / "inbox.sqlite3")
    else:
        pytest.importorskip("pysqlite3")
        database = FileDatabase(tmp_path / "inbox.sqlite3")
    yield database
    database.dispose()


def scalar(database: FileDatabase, statement: str, *, write: bool = False) -> Any:
    def operation(connection: Connection) -> Any:
        result = connection.exec_driver_sql(statement)
        return result.scalar() if result.returns_rows else None

    return database.write(operation) if write else database.read(operation)


@pytest.mark.parametrize(
    ("version", "is_safe"),
    [
        ((3, 35, 0), False),
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 3), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_wal_is_for_versions_without_its_fault(version: tuple[int, ...], is_safe: bool) -> None:
    assert is_safe_in_wal(version) is is_safe


def test_every_commit_is_synced_in_the_mode_that_is_safe(database: FileDatabase) -> None:
    for write in (True, False):
        mode = "wal" if database.is_wal else "truncate"
        assert scalar(database, "PRAGMA journal_mode", write=write) == mode
        assert scalar(database, "PRAGMA synchronous", write=write) == 2
        assert scalar(database, "PRAGMA secure_delete", write=write) == 1


def test_the_file_leaves_wal_where_wal_is_not_safe(tmp_path: Path) -> None:
    pytest.importorskip("pysqlite3")
    path = tmp_path / "inbox.sqlite3"
    newer = FileDatabase(path)
    assert scalar(newer, "PRAGMA journal_mode") == "wal"
    newer.dispose()
    older = fallback(path)
    assert scalar(older, "PRAGMA journal_mode") == "truncate"
    older.dispose()


def test_normal_is_for_those_who_say_so(tmp_path: Path) -> None:
    database = FileDatabase(tmp_path / "inbox.sqlite3", "NORMAL")
    assert scalar(database, "PRAGMA synchronous") == 1
    database.dispose()


def test_directory_and_tables_are_made(tmp_path: Path) -> None:
    database = FileDatabase(tmp_path / "some" / "instance" / "retell.sqlite3")
    assert scalar(database, "SELECT version FROM retell_schema") == schema.VERSION
    database.dispose()


def test_tables_of_another_application_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "host.sqlite3"
    with sqlite3.connect(path) as host:
        host.execute("CREATE TABLE customer (id)")
    host.close()
    database = FileDatabase(path)
    with pytest.raises(InboxError, match=r"tables of another application \(customer\)"):
        scalar(database, "SELECT 1")
    database.dispose()


def test_tables_of_a_later_version_are_refused(database: FileDatabase) -> None:
    scalar(database, "UPDATE retell_schema SET version = 99 RETURNING 1", write=True)
    again = FileDatabase(database.path)
    with pytest.raises(InboxError, match="upgrade retell-flask"):
        scalar(again, "SELECT 1")
    again.dispose()


def test_tables_of_an_earlier_version_are_upgraded(database: FileDatabase) -> None:
    for table in ("retell_answer", "retell_agent"):
        scalar(database, f"DROP TABLE {table}", write=True)
    scalar(database, "UPDATE retell_schema SET version = 1 RETURNING 1", write=True)
    again = FileDatabase(database.path)
    assert scalar(again, "SELECT count(*) FROM retell_answer") == 0
    assert scalar(again, "SELECT version FROM retell_schema") == schema.VERSION
    again.dispose()


def test_those_who_wait_are_committed_together(database: FileDatabase) -> None:
    commits: list[int] = []
    commit = database._line._commit

    def counting(take: Callable[[], list[Any]], deadline: float) -> list[Any]:
        results = commit(take, deadline)
        commits.append(len(results))
        return results

    scalar(database, "CREATE TABLE t (n)", write=True)
    database._line._commit = counting
    with database._line.turn:  # as if a commit took its time
        threads = [
            threading.Thread(
                target=database.write,
                args=(lambda c, n=n: c.execute(text("INSERT INTO t VALUES (:n)"), {"n": n}),),
            )
            for n in range(20)
        ]
        for thread in threads:
            thread.start()
        while len(database._line) < 20:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert commits == [20]
    assert scalar(database, "SELECT count(*) FROM t") == 20


def test_one_that_fails_takes_no_other_along(database: FileDatabase) -> None:
    scalar(database, "CREATE TABLE t (n UNIQUE)", write=True)
    errors: list[Exception] = []

    def insert(value: int) -> None:
        try:
            scalar(database, f"INSERT INTO t VALUES ({value}) RETURNING n", write=True)
        except InboxError as error:
            errors.append(error)

    with database._line.turn:
        threads = [threading.Thread(target=insert, args=(n // 2,)) for n in range(8)]
        for thread in threads:
            thread.start()
        while len(database._line) < 8:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert len(errors) == 4
    assert scalar(database, "SELECT count(*) FROM t") == 4


@contextmanager
def held_elsewhere(turn: threading.RLock) -> Iterator[None]:
    """As if another thread's commit took its time."""
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with turn:
            is_held.set()
            is_over.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait(10)
    try:
        yield
    finally:
        is_over.set()
        holder.join()


def test_nobody_waits_longer_than_patience_allows(
    database: FileDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    scalar(database, "CREATE TABLE t (n)", write=True)
    monkeypatch.setattr(sqlite, "PATIENCE_SECONDS", 0.05)
    with held_elsewhere(database._line.turn), pytest.raises(InboxError, match="busy"):
        scalar(database, "INSERT INTO t VALUES (1) RETURNING n", write=True)
    scalar(database, "INSERT INTO t VALUES (2) RETURNING n", write=True)
    assert scalar(database, "SELECT group_concat(n) FROM t") == "2"


@pytest.mark.skipif(filelock.fcntl is None, reason="this system has no flock")
def test_a_process_that_keeps_the_lock_is_not_waited_for_for_ever(
    database: FileDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    scalar(database, "CREATE TABLE t (n)", write=True)
    monkeypatch.setattr(sqlite, "PATIENCE_SECONDS", 0.05)
    holder = FileLock(Path(f"{database.path}.lock"))
    holder.take(time.monotonic() + 1)
    with pytest.raises(InboxError, match="Another process holds"):
        scalar(database, "INSERT INTO t VALUES (1) RETURNING n", write=True)
    holder.release()
    scalar(database, "INSERT INTO t VALUES (2) RETURNING n", write=True)


def test_an_interrupted_write_leaves_the_line_in_order(database: FileDatabase) -> None:
    def interrupted(connection: Any) -> None:
        raise KeyboardInterrupt

    other: Ticket[int] = Ticket(lambda connection: 7)
    scalar(database, "SELECT 1")
    database._line.join(other)
    with pytest.raises(KeyboardInterrupt):
        database.write(interrupted)
    assert not other.is_settled
    assert scalar(database, "SELECT 1", write=True) == 1
    assert other.result() == 7


class InterruptedLock:
    """Interrupts whoever takes it for the first time, as soon as that is done."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_quiet = False
        self.release = self._lock.release

    def acquire(self, timeout: float) -> bool:
        is_taken = self._lock.acquire(timeout=timeout)
        if not self._is_quiet:
            self._is_quiet = True
            raise KeyboardInterrupt
        return is_taken

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_an_interrupted_wait_leaves_the_turn_to_others(
    database: FileDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    scalar(database, "SELECT 1")
    monkeypatch.setattr(sqlite, "PATIENCE_SECONDS", 2)
    monkeypatch.setattr(database._line, "turn", InterruptedLock())
    with pytest.raises(KeyboardInterrupt):
        scalar(database, "SELECT 1", write=True)
    others = threading.Thread(
        target=scalar, args=(database, "CREATE TABLE t (n)"), kwargs={"write": True}
    )
    others.start()
    others.join()
    assert scalar(database, "SELECT count(*) FROM t") == 0


def test_a_receipt_that_was_taken_out_of_the_line_is_not_forgotten(
    database: FileDatabase,
) -> None:
    scalar(database, "SELECT 1")
    with held_elsewhere(database._line.turn):
        writer = threading.Thread(
            target=scalar, args=(database, "CREATE TABLE t (n)"), kwargs={"write": True}
        )
        writer.start()
        while not len(database._line):
            time.sleep(0.001)
        database._line._waiting.clear()  # an interrupt does that, between two instructions
    writer.join(10)
    assert scalar(database, "SELECT count(*) FROM t") == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_goes_on_when_its_parent_ends(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from retell_flask.inbox.sqlite import FileDatabase\n"
        "def write():\n"
        "    database.write(lambda c: c.exec_driver_sql('INSERT INTO t VALUES (1)'))\n"
        "database = FileDatabase(Path(sys.argv[1]))\n"
        "database.write(lambda c: c.exec_driver_sql('CREATE TABLE t (n)'))\n"
        "parent = os.getpid()\n"
        "if os.fork():\n"
        "    time.sleep(0.5)\n"
        "    sys.exit()\n"
        "write()\n"
        "while os.getppid() == parent:\n"
        "    time.sleep(0.01)\n"
        "for _ in range(3):\n"
        "    write()\n"
        "print('written')\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "inbox.sqlite3")]
    ended = subprocess.run(command, check=True, timeout=30, stdout=subprocess.PIPE)
    assert ended.stdout == b"written\n"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_an_inbox_that_is_dropped_closes_its_connections(kind: str, tmp_path: Path) -> None:
    # From 3.13 on the standard library warns of one that is left open, which fails the test.
    path = tmp_path / "inbox.sqlite3"
    database = sqlite.MemoryDatabase() if kind == "memory" else fallback(path)
    assert database.write(lambda connection: connection.exec_driver_sql("SELECT 1").scalar()) == 1
    del database
    for _ in range(3):  # SQLAlchemy's pool goes after its connections
        gc.collect()
    names = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert not [name for name in names if name.startswith(str(path))]


def test_many_processes_make_one_new_file(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from retell_flask.inbox.sqlite import *\n"
        "FileDatabase(Path(sys.argv[1])).read(lambda c: None)"
    )
    path = str(tmp_path / "new" / "inbox.sqlite3")
    processes = [subprocess.Popen([sys.executable, "-c", program, path]) for _ in range(6)]
    assert [process.wait(30) for process in processes] == [0] * 6


def test_what_is_deleted_leaves_no_trace_in_the_files(database: FileDatabase) -> None:
    secret = "said in confidence " * 500
    scalar(database, "CREATE TABLE t (n)", write=True)
    database.write(lambda c: c.execute(text("INSERT INTO t VALUES (:s)"), {"s": secret}))
    database.write(lambda c: c.execute(text("DELETE FROM t")))
    database.erase_traces()
    database.dispose()
    for file in database.path.parent.iterdir():
        assert b"in confidence" not in file.read_bytes(), file


@pytest.mark.skipif(os.name == "nt", reason="this system has no such modes")
def test_a_directory_that_cannot_be_made_is_an_inbox_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = FileDatabase(tmp_path / "file" / "inbox.sqlite3")
    with pytest.raises(InboxError):
        scalar(database, "SELECT 1")


@pytest.mark.parametrize("content", [None, b"", b"no database" * 100])
def test_what_is_no_database_is_an_inbox_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "inbox.sqlite3"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    database = FileDatabase(path)
    for write in (True, False):
        if content == b"":
            assert scalar(database, "SELECT 1", write=write) == 1
        else:
            with pytest.raises(InboxError):
                scalar(database, "SELECT 1", write=write)
    database.dispose()


def test_a_lock_that_others_hold_is_an_outage_for_all_who_wait(
    database: FileDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "PATIENCE_SECONDS", 0.4)
    database = type(database)(database.path) if database.is_wal else fallback(database.path)
    scalar(database, "CREATE TABLE t (n)", write=True)
    errors: list[Exception] = []

    def insert() -> None:
        try:
            scalar(database, "INSERT INTO t VALUES (1) RETURNING n", write=True)
        except InboxError as error:
            errors.append(error)

    other = database._module.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    threads = [threading.Thread(target=insert) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    waited = time.monotonic() - began
    other.execute("ROLLBACK")
    other.close()
    assert len(errors) == 12
    assert waited < 5  # and not twelve times the patience, one after the other
    scalar(database, "INSERT INTO t VALUES (2) RETURNING n", write=True)
    assert scalar(database, "SELECT group_concat(n) FROM t") == "2"
    database.dispose()


def test_the_log_is_not_cleared_while_somebody_reads_it(database: FileDatabase) -> None:
    if not database.is_wal:
        pytest.skip("a rollback journal is gone with each commit")
    scalar(database, "CREATE TABLE t (n)", write=True)
    with closing(database._module.connect(database.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        scalar(database, "INSERT INTO t VALUES (1) RETURNING n", write=True)
        assert database.erase_traces() is False
        reader.execute("COMMIT")
    assert database.erase_traces() is True


@pytest.mark.parametrize("suffixes", [[""], ["-wal"], ["", "-wal", "-shm"]])
def test_a_file_that_was_deleted_takes_no_more_events(
    suffixes: list[str], database: FileDatabase
) -> None:
    if not database.is_wal and suffixes == ["-wal"]:
        pytest.skip("there is no log")
    scalar(database, "CREATE TABLE t (n)", write=True)
    scalar(database, "INSERT INTO t VALUES (1) RETURNING n", write=True)
    for suffix in suffixes:
        Path(f"{database.path}{suffix}").unlink(missing_ok=True)
    with pytest.raises(InboxError):
        scalar(database, "INSERT INTO t VALUES (2) RETURNING n", write=True)
    if "" in suffixes:  # a new inbox is made, and takes them
        assert scalar(database, "SELECT count(*) FROM retell_event", write=True) == 0


def test_a_new_inbox_is_made_where_the_file_went_while_nobody_had_it_open(
    database: FileDatabase,
) -> None:
    with pytest.raises(InboxError):
        scalar(database, "no statement", write=True)  # which closes the connection
    database.engine.dispose()
    for file in database.path.parent.iterdir():
        if file != database.path:
            file.unlink()
    database.path.write_bytes(b"")  # as a new file often has the number of the deleted one
    with suppress(InboxError):
        scalar(database, "SELECT 1", write=True)
    assert scalar(database, "SELECT count(*) FROM retell_event", write=True) == 0
