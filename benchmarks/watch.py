"""What those who deliver use and wait for, as Linux's ``/proc`` and PostgreSQL tell it."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Pool, event, text

from retell_flask.inbox.database import Database

WATCHED = "retell-drain"  # the application_name of the connections that are looked at
CORES = os.cpu_count() or 1
BUSY = 0.9  # of what there is: that is the limit
MOST_BY_OTHERS = 0.3  # cores
_USERS = ("workers", "database", "broker")
_BACKENDS = text(
    "SELECT pid, wait_event_type, wait_event FROM pg_stat_activity"
    f" WHERE datname = current_database() AND application_name = '{WATCHED}'"
)
Figures = dict[str, float]


def family(pid: int) -> set[int]:
    """A process, and all that it has started and that run."""
    found = {pid}
    for each in _read(Path(f"/proc/{pid}/task/{pid}/children")).split():
        found |= family(int(each))
    return found


class Watch:
    """Looks at processes from before they have anything to do until they are through."""

    def __init__(self, workers: Iterable[int], brokers: Iterable[int], database: Database) -> None:
        self._workers = list(workers)
        self._brokers = set(brokers)
        self._database = database
        self._meters = {name: _Meter() for name in _USERS}
        self.begin()
        self.look()
        self.begin()

    def begin(self) -> None:
        """They have begun."""
        self._waits: Counter[str] = Counter()
        self._looks = 0
        self._began, self._machine = time.monotonic(), _machine_seconds()

    def look(self) -> None:
        backends = self._ask(_BACKENDS)
        self._meters["workers"].look(each for pid in self._workers for each in family(pid))
        self._meters["database"].look(row.pid for row in backends)
        self._meters["broker"].look(self._brokers)
        self._waits.update(_wait_of(row) for row in backends)
        self._looks += 1

    def figures(self, events: int, seconds: float, lanes: int) -> Figures:
        """What was found, where ``lanes`` ran receivers side by side for ``seconds``: cores in
        use, milliseconds an event, and what a lane's time went to.
        """
        machine = (_machine_seconds() - self._machine) / (time.monotonic() - self._began)
        self.look()
        ran = {name: meter.ran.total() / 1e9 for name, meter in self._meters.items()}
        workers, backends = self._meters["workers"], self._meters["database"]
        runners = [pid for pid in workers.ran if len(family(pid)) == 1]
        waited = sum(workers.waited[pid] for pid in runners) + backends.waited.total()
        of_lane = {
            "own": sum(workers.ran[pid] for pid in runners) / 1e9,
            "database": ran["database"],
            "core": waited / 1e9,
        }
        return {
            "events/s": events / seconds,
            "cores": machine,
            "other cores": max(0.0, machine - sum(ran.values()) / seconds),
            "busiest": max(workers.ran[pid] for pid in runners) / 1e9 / seconds,
            **{f"{name} cores": ran[name] / seconds for name in _USERS},
            **{f"{name} ms": ran[name] / events * 1000 for name in _USERS},
            **{f"lane {name}": of_lane[name] / seconds / lanes for name in of_lane},
            **{
                f"lane {name}": self._waits[name] / self._looks / lanes
                for name in ("sync", "locks")
            },
        }

    def _ask(self, statement: Any) -> list[Any]:
        if self._database.dialect == "sqlite":
            return []
        return list(self._database.read(lambda connection: connection.execute(statement).all()))


class _Meter:
    """For how long processes ran and waited for a core, since they were first looked at."""

    def __init__(self) -> None:
        self.ran: Counter[int] = Counter()
        self.waited: Counter[int] = Counter()
        self._last: dict[Path, tuple[int, int]] = {}

    def look(self, pids: Iterable[int]) -> None:
        for pid in pids:
            for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                ran, waited, *_ = map(int, _read(thread).split() or (0, 0))
                before = self._last.get(thread, (ran, waited))
                self.ran[pid] += ran - before[0]
                self.waited[pid] += waited - before[1]
                self._last[thread] = ran, waited


def _wait_of(backend: Any) -> str:
    if backend.wait_event in ("WALSync", "WALWrite"):
        return "sync"
    return "locks" if backend.wait_event_type in ("Lock", "LWLock") else ""


def _machine_seconds() -> float:
    """How long the cores have worked, for whomever."""
    fields = _read(Path("/proc/stat")).split(maxsplit=9)[1:9]
    user, nice, system, _, _, *interrupts = map(int, fields)
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""


def limit_of(found: Figures, rest: str) -> str:
    """What would have to be more, or faster, for the drain to be faster.

    ``rest`` is what a lane's time goes to otherwise.
    """
    lane = {name: found[f"lane {key}"] for key, name in _LANE.items()}
    is_full = found["cores"] >= BUSY * CORES
    if found["other cores"] >= MOST_BY_OTHERS and (
        is_full or max(lane, key=lane.__getitem__) == _CORE
    ):
        return f"unknown, since others used {found['other cores']:.2f} of the machine's cores"
    if is_full:
        cores = {name: found[f"{name} cores"] for name in (*_USERS, "other")}
        return f"the machine's {CORES} cores: {_listed(cores, '{:.2f}')}"
    if found["busiest"] >= BUSY:
        return f"the one core that a Python process can use: {found['busiest']:.2f} of it"
    lane[rest] = max(0.0, 1 - sum(lane.values()))
    return f"what each lane does in turn: {_listed(lane, '{:.0%}')}"


_CORE = "waiting for a core"
_LANE = {
    "own": "Python",
    "database": "PostgreSQL",
    "core": _CORE,
    "sync": "the commits' sync",
    "locks": "PostgreSQL's locks",
}


def _listed(parts: dict[str, float], form: str) -> str:
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {form.format(each)}" for name, each in ordered if each > 0.01)


@contextmanager
def counting_trips() -> Iterator[Counter[str]]:
    """What this process asks of a server meanwhile, through SQLAlchemy and psycopg."""
    heard: Counter[str] = Counter()

    def note(name: str) -> Callable[..., None]:
        return lambda *_: heard.update([name])

    listeners = [
        (Engine, "before_cursor_execute", note("statement")),
        (Engine, "begin", note("transaction")),
        (Engine, "commit", note("end")),
        (Engine, "rollback", note("end")),
        (Pool, "checkout", note("ping")),
    ]
    for listener in listeners:
        event.listen(*listener)
    try:
        yield heard
    finally:
        for listener in listeners:
            event.remove(*listener)
