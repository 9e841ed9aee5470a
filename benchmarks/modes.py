"""What each mode receives and delivers, under gunicorn over loopback.

gunicorn runs two processes of four threads; ``load.py`` sends events of 4 kB over 16 connections,
each event of a call of its own, the next one as soon as the last is answered. Two receivers that
only count run for each. In turn, several rounds each, medians of the rounds:

- ``threads``: four in each process of gunicorn, with the inbox in a SQLite file below the current
  directory (in the journal mode of pysqlite3's SQLite, and of the standard library's), and on
  PostgreSQL;
- ``worker``: none in gunicorn, and a process ``flask retell worker`` beside it, on PostgreSQL;
- ``inline``: the request runs them, on PostgreSQL;
- ``celery``: two processes ``celery worker --concurrency=1``, on PostgreSQL, with a Redis of this
  program's own.

``received`` is what was answered in a second, with its percentiles; ``delivered`` is events in a
second from the first request to the last receiver's end. All share this machine with the load.

    python benchmarks/modes.py [--rounds 3] [--requests 2000] [--only celery]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

import facts
import stock
from bodies import KEY
from inboxfile import InboxFile
from retell_flask.inbox.store import Inbox
from serve import WARM_UP, Figures, Server, end, serving

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
from brokers import broker  # noqa: E402

PATIENCE_SECONDS = 120.0
SQLITE, STANDARD_SQLITE, POSTGRESQL = "SQLite", "SQLite, standard library's", "PostgreSQL"


@dataclass(frozen=True)
class Mode:
    """Who delivers, and ``beside``: the commands of the processes that do so beside gunicorn."""

    name: str
    database: str
    options: dict[str, str]
    beside: tuple[tuple[str, ...], ...] = ()

    @property
    def is_standard(self) -> bool:
        return self.database == STANDARD_SQLITE


def celery_worker(number: int) -> tuple[str, ...]:
    options = ("--pool=prefork", "--concurrency=1", "--loglevel=WARNING", "-n", f"{number}@modes")
    return ("counting.py", *options)


WORKER = ("-m", "flask", "--app", "counting", "retell", "worker")
THREADS = {"RETELL_DISPATCH": "threads", "RETELL_WORKERS": "4"}
MODES = [
    Mode("threads", SQLITE, THREADS),
    Mode("threads", STANDARD_SQLITE, THREADS),
    Mode("threads", POSTGRESQL, THREADS),
    Mode("worker", POSTGRESQL, {**THREADS, "RETELL_WORKERS": "0"}, (WORKER,)),
    Mode("inline", POSTGRESQL, {"RETELL_DISPATCH": "inline"}),
    Mode(
        "celery",
        POSTGRESQL,
        {"RETELL_DISPATCH": "celery"},
        (celery_worker(1), celery_worker(2)),
    ),
]


class Site:
    """gunicorn and all that delivers for it."""

    def __init__(self, mode: Mode, url: str, stack: ExitStack) -> None:
        self.mode = mode
        self._stored = 0
        self._database = stack.enter_context(opened(url))
        options = {**mode.options, "RETELL_INBOX_URL": url}
        self._server: Server = stack.enter_context(
            serving("counting", options, standard=mode.is_standard)
        )
        environ = {**os.environ, **options, "RETELL_API_KEY": KEY, "PYTHONWARNINGS": "ignore"}
        environ["RETELL_WORKERS"] = "4"
        for command in mode.beside:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=HERE, env=environ, stdout=subprocess.DEVNULL
            )
            stack.callback(end, process)

    def load(self, requests: int) -> Figures:
        figures = self._server.load(requests)
        began = time.monotonic() - requests / figures["rate"]
        while self._database.count("status <> 'done'"):
            time.sleep(0.02)
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise SystemExit(f"{self.mode.name} does not get through")
        figures["delivered"] = requests / (time.monotonic() - began)
        self._stored += int(figures["stored"])
        if self._database.count() != self._stored:
            raise SystemExit(f"{self.mode.name} has lost or doubled events")
        return figures


class OnPostgreSQL:
    """An inbox, looked at from beside as ``InboxFile`` does."""

    def __init__(self, inbox: Inbox) -> None:
        self._database = inbox.database

    def count(self, condition: str = "true") -> int:
        """How many entries meet a condition."""
        asked = text(f"SELECT count(*) FROM retell_event WHERE {condition}")
        return int(self._database.read(lambda c: c.execute(asked).scalar_one()))


@contextmanager
def opened(url: str) -> Iterator[InboxFile | OnPostgreSQL]:
    if url.startswith("sqlite"):
        yield InboxFile(Path(url.removeprefix("sqlite:///")))
        return
    inbox = stock.open_inbox(url)
    yield OnPostgreSQL(inbox)
    inbox.database.dispose()


def show(mode: Mode, rounds: list[Figures]) -> None:
    middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    rates = [each["delivered"] for each in rounds]
    span = f"({min(rates):,.0f}, {max(rates):,.0f})"
    print(
        f"{mode.name:>8}, {mode.database:<27} {middle['rate']:>8,.0f} {middle['p50']:>7.1f} "
        f"{middle['p99']:>7.1f} {middle['delivered']:>10,.0f} {span}"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rounds", type=int, default=3, help="of each mode")
    arguments.add_argument("--requests", type=int, default=2_000, help="in a round")
    arguments.add_argument("--only", default="", help="modes whose name has this in it")
    arguments.add_argument(
        "--server",
        default="postgresql://127.0.0.1:5432/test",
        help="where databases may be made",
    )
    options = arguments.parse_args()
    facts.exit_at_sigterm()
    print(facts.describe("gunicorn", "sqlalchemy", "psycopg", "celery", "redis"))
    modes = [mode for mode in MODES if options.only in mode.name]
    with ExitStack() as stack:
        directory = stack.enter_context(facts.scratch())
        names = tuple(f"modes_{number}" for number in range(len(modes)))
        files = stock.sqlite_urls(directory, names)
        databases = stack.enter_context(stock.postgresql_urls(options.server, names))
        os.environ["BROKER"] = stack.enter_context(broker("Redis", directory / "broker")).url
        found: list[tuple[Site, list[Figures]]] = []
        for mode, file, database in zip(modes, files, databases, strict=True):
            url = database if mode.database == POSTGRESQL else file
            found.append((Site(mode, url, stack), []))
        for site, _ in found:
            site.load(WARM_UP)
        for _ in range(options.rounds):
            for site, rounds in found:
                rounds.append(site.load(options.requests))
    print(f"{'':>37} received     p50     p99  delivered (from, to)   a second, ms")
    for site, rounds in found:
        show(site.mode, rounds)


if __name__ == "__main__":
    main()
