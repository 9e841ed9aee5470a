"""The model of a power cut sees a loss where SQLite's documentation says there is one."""

from __future__ import annotations

import importlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from powercut import PowerCut, Snapshot, nothing, states

ROWS = 12


@pytest.fixture(params=["sqlite3", "pysqlite3.dbapi2"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    try:
        return importlib.import_module(request.param)
    except ModuleNotFoundError:
        pytest.skip(f"{request.param} is not installed")


class Workload:
    """Rows committed one by one below a power cut, and what is left of them at each instant."""

    def __init__(self, module: ModuleType, directory: Path) -> None:
        self.module = module
        self.directory = directory / "live"
        self.snapshots: list[Snapshot] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.cuts = (directory / f"cut-{number}" for number in range(1_000_000))

    @property
    def database(self) -> Path:
        return self.directory / "rows.db"

    def connect(self, journal_mode: str, synchronous: str) -> Any:
        connection = self.module.connect(self.database, isolation_level=None, timeout=30)
        found = connection.execute(f"PRAGMA journal_mode = {journal_mode}").fetchone()
        assert found == (journal_mode,)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        # Small enough that a checkpoint, and a log begun anew, fall among the rows.
        connection.execute("PRAGMA wal_autocheckpoint = 10")
        connection.execute("PRAGMA cache_size = 5")
        return connection

    def create(self, journal_mode: str) -> None:
        """What lies on the disk before the power cut is looked for."""
        self.directory.mkdir()
        with closing(self.connect(journal_mode, "full")) as connection:
            connection.execute("CREATE TABLE rows (number INTEGER PRIMARY KEY, filling BLOB)")

    def run(self, journal_mode: str, synchronous: str, rows: int = ROWS) -> None:
        self.create(journal_mode)
        with (
            PowerCut(self.module, self.snapshots.append) as power,
            closing(self.connect(journal_mode, synchronous)) as connection,
        ):
            self.insert(power, connection, range(rows))

    def insert(self, power: PowerCut, connection: Any, numbers: range) -> None:
        for number in numbers:
            connection.execute("INSERT INTO rows VALUES (?, randomblob(3000))", (number,))
            self.acknowledged.append((number, power.operations))

    def found(self, snapshot: Snapshot, survives: Callable[[Path], bool] = nothing) -> set[int]:
        cut = next(self.cuts)
        snapshot.restore(self.directory, cut, survives)
        with closing(self.module.connect(cut / "rows.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return {number for (number,) in connection.execute("SELECT number FROM rows")}

    def losses(self) -> Iterator[int]:
        """How many acknowledged rows are missing, for a cut at each instant."""
        for snapshot in states(self.snapshots):
            yield len(self.owed(snapshot) - self.found(snapshot))

    def owed(self, snapshot: Snapshot) -> set[int]:
        return {number for number, at in self.acknowledged if at <= snapshot.number}


@pytest.fixture
def workload(module: ModuleType, tmp_path: Path) -> Workload:
    return Workload(module, tmp_path)


@pytest.mark.parametrize(
    ("journal_mode", "synchronous"),
    [("wal", "full"), ("truncate", "full"), ("persist", "full"), ("delete", "extra")],
)
def test_no_acknowledged_row_is_lost(
    workload: Workload, journal_mode: str, synchronous: str
) -> None:
    workload.run(journal_mode, synchronous)
    losses = list(workload.losses())
    assert len(losses) > ROWS
    assert max(losses) == 0


def test_a_deleted_journal_comes_back_and_takes_the_last_row(workload: Workload) -> None:
    workload.run("delete", "full")
    assert max(workload.losses()) == 1


def test_a_log_that_is_not_synced_loses_rows(workload: Workload) -> None:
    workload.run("wal", "normal")
    assert max(workload.losses()) > 1


def test_no_row_of_several_threads_is_lost(workload: Workload) -> None:
    workload.create("wal")

    def insert(power: PowerCut, numbers: range) -> None:
        with closing(workload.connect("wal", "full")) as connection:
            workload.insert(power, connection, numbers)

    with PowerCut(workload.module, workload.snapshots.append) as power:
        threads = [
            threading.Thread(target=insert, args=(power, range(first, first + ROWS)))
            for first in (0, 100, 200)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(workload.acknowledged) == 3 * ROWS
    assert max(workload.losses()) == 0


@pytest.mark.parametrize("journal_mode", ["wal", "truncate"])
def test_writes_that_reach_the_disk_unsynced_do_no_harm(
    workload: Workload, journal_mode: str
) -> None:
    workload.run(journal_mode, "full")
    chance = random.Random(7)
    for snapshot in workload.snapshots:
        found = workload.found(snapshot, lambda path: chance.random() < 0.5)
        assert workload.owed(snapshot) <= found


def test_without_syncs_such_writes_tear_the_database(workload: Workload) -> None:
    workload.run("truncate", "off")
    chance = random.Random(7)
    with pytest.raises((AssertionError, workload.module.DatabaseError)):
        workload.found(workload.snapshots[-1], lambda path: chance.random() < 0.5)


def test_a_cut_may_be_taken_while_a_transaction_is_open(workload: Workload) -> None:
    workload.create("truncate")
    left = workload.directory.parent / "left"
    with (
        PowerCut(workload.module) as power,
        closing(workload.connect("truncate", "full")) as connection,
    ):
        workload.insert(power, connection, range(1))
        connection.execute("BEGIN IMMEDIATE")
        workload.insert(power, connection, range(1, ROWS))
        power.cut(workload.directory, left)
        connection.execute("COMMIT")
    with closing(workload.module.connect(left / "rows.db")) as connection:
        assert connection.execute("SELECT number FROM rows").fetchall() == [(0,)]


def test_a_database_the_cut_never_saw_synced_is_empty(workload: Workload) -> None:
    workload.directory.mkdir()
    left = workload.directory.parent / "left"
    with (
        PowerCut(workload.module) as power,
        closing(workload.connect("memory", "off")) as connection,
    ):
        connection.execute("CREATE TABLE rows (number)")
        power.cut(workload.directory, left)
    assert list(left.iterdir()) == []


def test_what_was_there_before_is_on_the_disk(workload: Workload) -> None:
    workload.create("delete")
    left = workload.directory.parent / "left"
    with (
        PowerCut(workload.module) as power,
        closing(workload.module.connect(workload.database)) as connection,
    ):
        connection.execute("SELECT * FROM rows").fetchall()
        power.cut(workload.directory, left)
    assert (left / "rows.db").read_bytes() == workload.database.read_bytes()


def test_a_connection_outlives_the_power_cut_unrecorded(workload: Workload) -> None:
    workload.create("wal")
    with PowerCut(workload.module, workload.snapshots.append) as power:
        connection = workload.connect("wal", "full")
        workload.insert(power, connection, range(1))
    recorded = len(workload.snapshots)
    with closing(connection):
        workload.insert(power, connection, range(1, ROWS))
    with closing(workload.module.connect(workload.database)) as connection:
        assert connection.execute("SELECT count(*) FROM rows").fetchone() == (ROWS,)
    assert recorded == len(workload.snapshots) == power.operations > 0


def test_a_cut_goes_to_an_empty_directory_only(workload: Workload) -> None:
    workload.create("wal")
    with PowerCut(workload.module) as power, pytest.raises(FileExistsError):
        power.cut(workload.directory, workload.directory)
