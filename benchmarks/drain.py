"""How fast a backlog is drained, by Celery's workers and by ``flask retell worker``, and what
limits it.

The backlog is of whole calls, ``call_started``, ``call_ended`` and ``call_analyzed`` of the
samples, as it is found after an outage; two receivers that only count run for each event. Each
way of draining has a database of its own, and processes that have drained something before. In
turn, several rounds each, medians of the rounds:

- ``celery 2 x 1``: two processes ``celery worker --concurrency=1``, on PostgreSQL, with a broker
  of this program's own. A sweep in this process sends a message for the first event of each
  call, and the workers send those for the others;
- ``worker 2 x 4``: two processes ``flask retell worker --workers 4``, on PostgreSQL, and on
  SQLite in a file below the current directory.

A drain lasts from the first receiver's start to the last one's end, as the inbox has them.
Looked at meanwhile: the processor time of the workers, of PostgreSQL's processes that serve
them, and of the broker; how busy the machine was, whoever used it; and what PostgreSQL's
processes waited for, ten times a second. Needs Linux, and PostgreSQL on this machine.

    python benchmarks/drain.py [--events 600] [--broker RabbitMQ] [--no-sync] [--only celery]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError

import facts
import stock
from bodies import KEY
from calls import LIFECYCLE, add_backlog, short_script
from counting import RECEIVERS, create_app
from serve import end
from watch import WATCHED, Figures, Watch, counting_trips, family, limit_of

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
from brokers import broker  # noqa: E402

AGE = timedelta(minutes=5)  # of the backlog: the sweep takes all of it, nothing waits any more
LOOK_SECONDS = 0.1
SWEEP_SECONDS = 10.0
PATIENCE_SECONDS = 120.0
FIRST_EVENTS = 150
POSTGRESQL, SQLITE = "PostgreSQL", "SQLite"
PROGRAMS = {"Redis": "redis-server", "RabbitMQ": "rabbitmq-server"}

_LAST = text("SELECT coalesce(max(id), 0) FROM retell_event")
_LEFT = text("SELECT count(*) FROM retell_event WHERE status IN ('pending', 'running')")
_BEGUN = text("SELECT count(*) FROM retell_delivery WHERE entry_id > :before")
_SPAN = text(
    "SELECT count(*), max(finished_at) - min(started_at) FROM retell_delivery"
    " WHERE entry_id > :before AND status = 'done'"
)
_OUT_OF_ORDER = text(
    "SELECT count(*) FROM retell_event a JOIN retell_event b ON a.session = b.session"
    " AND a.blueprint = b.blueprint AND a.stage < b.stage JOIN retell_delivery c"
    " ON c.entry_id = a.id JOIN retell_delivery d ON d.entry_id = b.id"
    " WHERE a.id > :before AND c.finished_at > d.started_at"
)
_WAL = text("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")


@dataclass(frozen=True)
class Way:
    """Of draining: by ``processes`` that each run ``lanes`` receivers side by side."""

    tool: str
    processes: int
    lanes: int
    database: str

    @property
    def name(self) -> str:
        return f"{self.tool} {self.processes} x {self.lanes}"

    @property
    def rest(self) -> str:
        """What takes the time that nothing else took."""
        if self.tool == "celery":
            return "messages and switching"
        return "switching" if self.database == POSTGRESQL else "the file's lock and its sync"

    @property
    def queue(self) -> str:
        return f"drain-{self.processes}-{self.lanes}"

    def command(self, number: int) -> list[str]:
        if self.tool == "worker":
            options = ["--app", "counting", "retell", "worker", "--workers", str(self.lanes)]
            return ["-m", "flask", *options]
        options = ["--pool=prefork", f"--concurrency={self.lanes}", "--loglevel=WARNING"]
        return ["counting.py", *options, "-n", f"{number}@{self.queue}", "-Q", self.queue]


WAYS = [
    *(Way("celery", *size, POSTGRESQL) for size in ((1, 1), (2, 1), (2, 2))),
    *(
        Way("worker", *size, database)
        for database in (POSTGRESQL, SQLITE)
        for size in ((1, 1), (1, 2), (1, 4), (2, 1))
    ),
]


def new_backlog(events: int) -> list[bytes]:
    script = short_script()
    return [body for _ in range(events // len(LIFECYCLE)) for body in script.new_call()]


class Crew:
    """The processes of one way, and their inbox."""

    def __init__(self, way: Way, url: str, *, sync: bool) -> None:
        self.way = way
        options = {"RETELL_API_KEY": KEY, "RETELL_INBOX_URL": url}
        if way.tool == "celery":
            options |= {"RETELL_DISPATCH": "celery", "RETELL_CELERY_QUEUE": way.queue}
        if not sync:
            options["RETELL_SQLITE_SYNCHRONOUS"] = "NORMAL"
        self._state = create_app(**options).extensions["retell"]["retell"]
        self.inbox = self._state.inbox
        if way.database == POSTGRESQL:
            self.inbox.database.init()
            settings = f"-c synchronous_commit={'on' if sync else 'off'}"
            named = {"application_name": WATCHED, "options": settings}
            options["RETELL_INBOX_URL"] = stock.shown(make_url(url).update_query_dict(named))
        self._processes = [
            subprocess.Popen(
                [sys.executable, *way.command(number)],
                cwd=HERE,
                env={**os.environ, **options, "PYTHONWARNINGS": "ignore"},
                stdout=subprocess.DEVNULL,
            )
            for number in range(way.processes)
        ]

    def drain(self, events: int, brokers: set[int]) -> Figures:
        """Write a backlog, and look on."""
        bodies, before = new_backlog(events), self._ask(_LAST)[0]
        pids = [process.pid for process in self._processes]
        watch = Watch(pids, brokers, self.inbox.database)
        add_backlog(self.inbox, bodies, datetime.now(timezone.utc) - AGE)
        deadline = time.monotonic() + PATIENCE_SECONDS
        next_sweep, has_begun = 0.0, False
        while not has_begun or self._ask(_LEFT)[0]:
            now = time.monotonic()
            if now > deadline or any(process.poll() is not None for process in self._processes):
                raise SystemExit(f"{self.way.name} does not get through")
            if self.way.tool == "celery" and now >= next_sweep:
                self._state.dispatcher.sweep()
                next_sweep = now + SWEEP_SECONDS
            if has_begun:
                watch.look()
                time.sleep(LOOK_SECONDS)
            elif self._ask(_BEGUN, before=before)[0]:
                has_begun = True
                watch.begin()
        count, microseconds = self._ask(_SPAN, before=before)
        out_of_order = self._ask(_OUT_OF_ORDER, before=before)[0]
        if count != RECEIVERS * len(bodies) or out_of_order:
            raise SystemExit(f"{self.way.name}: {count} done, {out_of_order} out of order")
        lanes = self.way.processes * self.way.lanes
        return watch.figures(len(bodies), microseconds / 1e6, lanes)

    def _ask(self, statement: Any, **values: object) -> Any:
        return self.inbox.database.read(lambda c: c.execute(statement, values).one())

    def stop(self) -> None:
        for process in self._processes:
            end(process)
        self.inbox.database.dispose()


def show_trips(url: str) -> None:
    """What an event asks of PostgreSQL, in this process and one after the other."""
    state = create_app(RETELL_API_KEY=KEY, RETELL_INBOX_URL=url).extensions["retell"]["retell"]
    inbox, deliverer = state.inbox, state.deliverer
    inbox.database.init()

    def deliver(tool: str, entry_ids: list[int]) -> None:
        for entry_id in entry_ids:
            following: int | None = entry_id
            for _ in LIFECYCLE:
                if tool == "worker":
                    deliverer.deliver_next()
                elif following is not None:
                    following = deliverer.deliver_due(following)

    def wal() -> int:
        return int(inbox.database.read(lambda connection: connection.execute(_WAL).scalar_one()))

    for tool in ("", "celery", "worker"):  # the first to be warm
        bodies = new_backlog(120)
        add_backlog(inbox, bodies, datetime.now(timezone.utc) - AGE)
        entry_ids, before = inbox.mark_unsent(len(bodies)), wal()
        with counting_trips() as heard:
            deliver(tool, entry_ids)
        if tool:
            each = {name: count / len(bodies) for name, count in heard.items()}
            print(
                f"{tool}: {each['statement']:.0f} statements in {each['transaction']:.0f} "
                f"transactions of an event, {sum(each.values()):.0f} round trips, "
                f"{(wal() - before) / len(bodies) / 1000:.1f} kB of WAL"
            )
    inbox.database.dispose()


def show(way: Way, rounds: list[Figures]) -> None:
    middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    rates = [each["events/s"] for each in rounds]
    columns = ("workers ms", "database ms", "broker ms", "cores", "other cores")
    print(
        f"{way.name:>12} {middle['events/s']:>9,.0f}"
        + "".join(f"{middle[name]:>10.2f}" for name in columns)
        + f"   ({min(rates):,.0f}, {max(rates):,.0f})"
    )
    print(f"{'':>12} limit: {limit_of(middle, way.rest)}")


def run(ways: list[Way], options: argparse.Namespace) -> None:
    names = tuple(f"drain_{number}" for number in range(len(ways)))
    with ExitStack() as stack:
        directory = stack.enter_context(facts.scratch())
        files = stock.sqlite_urls(directory, names)
        databases = stack.enter_context(stock.postgresql_urls(options.server, (*names, "trips")))
        show_trips(databases.pop())
        if any(way.tool == "celery" for way in ways):
            own = stack.enter_context(broker(options.broker, directory / "broker"))
            os.environ["BROKER"] = own.url
        brokers = family(os.getpid()) - {os.getpid()}
        crews = []
        for way, file, database in zip(ways, files, databases, strict=True):
            url = file if way.database == SQLITE else database
            crews.append(Crew(way, url, sync=not options.no_sync))
            stack.callback(crews[-1].stop)
        for _ in range(2):  # until then all of them are there
            for crew in crews:
                crew.drain(FIRST_EVENTS, brokers)
        found: dict[Way, list[Figures]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for crew in crews:
                found[crew.way].append(crew.drain(options.events, brokers))
    for database in dict.fromkeys(way.database for way in ways):
        print(f"\n{database}; medians of {options.rounds} rounds of {options.events:,} events\n")
        print(f"{'':>12} {'events/s':>9} {'ms of an event:':>27} {'cores in use:':>21}")
        print(f"{'':>22}{'workers':>10}{'database':>10}{'broker':>10}{'all':>10}{'by others':>10}")
        for way in ways:
            if way.database == database:
                show(way, found[way])


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--events", type=int, default=600, help="in a backlog")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--broker", choices=PROGRAMS, default="Redis")
    arguments.add_argument("--no-sync", action="store_true", help="commits wait for no disk")
    arguments.add_argument("--only", default="", help="ways that have this in their names")
    arguments.add_argument(
        "--server",
        default="postgresql://127.0.0.1:5432/test",
        help="where databases may be made",
    )
    options = arguments.parse_args()
    facts.exit_at_sigterm()
    if not sys.platform.startswith("linux"):
        raise SystemExit("Reads /proc, which only Linux has")
    print(facts.describe("celery", "redis", "sqlalchemy", "psycopg"))
    ways = [way for way in WAYS if options.only in way.name]
    if shutil.which(PROGRAMS[options.broker]) is None:
        print(f"\nNo {options.broker}: {PROGRAMS[options.broker]} is not installed")
        ways = [way for way in ways if way.tool != "celery"]
    try:
        run(ways, options)
    except (OperationalError, ModuleNotFoundError) as error:
        print(f"\nNo PostgreSQL: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
