"""How an inbox grows: rows and bytes of a call, by how many events are sent of it.

Calls of three minutes, of 3, 10 and 100 events: ``call_started``, snapshots of the transcript
(``transcript_updated``) that grow, ``call_ended`` and ``call_analyzed``. They are added to an
inbox one by one, and delivered to two receivers that only count:

- ``at once``: each before the next one comes, so that no snapshot ever takes another's place,
  and ``RETELL_TRANSCRIPTS`` does not matter;
- ``late, latest``: a call's events after the last of them has come;
- ``late, all``: the same with ``RETELL_TRANSCRIPTS=all``.

Bytes are what the second half of the calls added, on PostgreSQL (a database made for the run,
vacuumed ten times on the way) and on SQLite (a file below the current directory): ``sent`` as
Retell sends them, ``bodies`` as they are stored, and ``all`` with rows and indexes. At the end
everything is pruned; ``prune`` is the time for 1,000 entries, without the pauses in between.

    python benchmarks/growth.py [--calls 300] [--only sqlite]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import facts
import stock
from bodies import KEY
from calls import long_script
from counting import create_app
from retell_flask.events import parse_event
from retell_flask.inbox.pruning import prune_batch
from scale import about

PARTS = 10
FEWEST_CALLS = 30
MOST_EVENTS = 1_500  # of what is sent in a run, unless that were too few calls
DAYS = 30
CALLS_A_DAY = (1_000, 100_000, 1_000_000)
TABLES = ("event", "delivery", "message")
Figures = dict[str, float]

_SIZE = {
    "postgresql": " + ".join(f"pg_total_relation_size('retell_{name}')" for name in TABLES),
    "sqlite": "(SELECT page_count * page_size FROM pragma_page_count, pragma_page_size)",
}


@dataclass(frozen=True)
class Way:
    """How many events a call has, and when they are delivered."""

    events: int
    when: str = "at once"
    transcripts: str = "latest"

    @property
    def name(self) -> str:
        kept = "" if self.when == "at once" else f", {self.transcripts}"
        return f"{self.events} {self.when}{kept}"


WAYS = [Way(3)]
for events in (10, 100):
    WAYS += [Way(events), Way(events, "late"), Way(events, "late", "all")]


class Growing:
    """An inbox to which whole calls are added."""

    def __init__(self, way: Way, url: str) -> None:
        self._way = way
        options = {"API_KEY": KEY, "INBOX_URL": url, "TRANSCRIPTS": way.transcripts}
        app = create_app(**{f"RETELL_{name}": value for name, value in options.items()})
        state = app.extensions["retell"]["retell"]
        self._deliverer, self._inbox = state.deliverer, state.inbox
        self.database = self._inbox.database
        self.database.init()
        self.dialect = self.database.dialect

    def add(self, bodies: list[bytes]) -> None:
        for body in bodies:
            self._inbox.add(parse_event(body))
            if self._way.when == "at once":
                self._deliver()
        self._deliver()

    def _deliver(self) -> None:
        while self._deliverer.deliver_next():
            pass

    def vacuum(self) -> None:
        if self.dialect == "postgresql":
            with self.database.engine.connect() as connection:
                plain = connection.execution_options(isolation_level="AUTOCOMMIT")
                plain.execute(text("VACUUM"))

    def sizes(self) -> Figures:
        """Rows, and bytes."""
        rows = [f"(SELECT count(*) FROM retell_{table})" for table in TABLES]
        bodies = "(SELECT sum(length(body)) FROM retell_event)"
        statement = text(f"SELECT {', '.join([*rows, bodies, _SIZE[self.dialect]])}")
        found = self.database.read(lambda connection: connection.execute(statement).one())
        return dict(zip((*TABLES, "bodies", "all"), found, strict=True))

    def prune(self) -> float:
        """Delete everything; how many seconds that took for 1,000 entries."""
        entries = self.sizes()["event"]
        began = time.monotonic()
        while prune_batch(self._inbox, timedelta(0)):
            pass
        return (time.monotonic() - began) / entries * 1000


def measure(way: Way, url: str, calls: int) -> Figures:
    growing, script = Growing(way, url), long_script(way.events)
    sizes = []
    try:
        for _ in range(2):
            for number in range(calls // 2):
                growing.add(script.new_call())
                if number % max(1, calls // 10) == 0:
                    growing.vacuum()
            growing.vacuum()
            sizes.append(growing.sizes())
        figures = {key: (sizes[1][key] - sizes[0][key]) / (calls // 2) for key in sizes[0]}
        return {**figures, "sent": sum(map(len, script.bodies)), "prune": growing.prune()}
    finally:
        growing.database.dispose()


def show(way: Way, found: Figures) -> None:
    print(
        f"{way.name:>17}"
        + "".join(f"{found[table]:>8.0f}" for table in TABLES)
        + "".join(f"{found[what] / 1000:>8.1f}" for what in ("sent", "bodies", "all"))
        + "  "
        + "".join(f"{found['all'] * calls * DAYS / 1e9:>10,.1f}" for calls in CALLS_A_DAY)
        + f"{found['prune']:>9.2f}",
        flush=True,
    )


def run(urls: list[str], calls: int) -> None:
    first = Growing(WAYS[0], urls[0])
    print(f"\n{about(first.database, urls[0])}\n")
    first.database.dispose()
    a_day = "".join(f"{calls:>10,}" for calls in CALLS_A_DAY)
    print(
        f"{'':>17}{'rows a call':>24}{'kB a call':>24}  {f'GB in {DAYS} days, of calls a day':>30}"
    )
    print(
        f"{'':>17}{'event':>8}{'deliv.':>8}{'mess.':>8}{'sent':>8}{'bodies':>8}{'all':>8}  {a_day}"
        f"{'prune s':>9}"
    )
    for way, url in zip(WAYS, urls, strict=True):
        show(way, measure(way, url, max(FEWEST_CALLS, min(calls, MOST_EVENTS // way.events))))


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--calls", type=int, default=300, help="at most, of each kind")
    arguments.add_argument("--only", choices=("sqlite", "postgresql"))
    arguments.add_argument(
        "--server",
        default="postgresql://127.0.0.1:5432/test",
        help="where databases may be made",
    )
    options = arguments.parse_args()
    facts.exit_at_sigterm()
    print(facts.describe("sqlalchemy", "psycopg"))
    names = tuple(f"growth_{number}" for number in range(len(WAYS)))
    if options.only != "postgresql":
        with facts.scratch() as directory:
            run(stock.sqlite_urls(directory, names), options.calls)
    if options.only != "sqlite":
        try:
            with stock.postgresql_urls(options.server, names) as urls:
                run(urls, options.calls)
        except (OperationalError, ModuleNotFoundError) as error:
            print(f"\nNo PostgreSQL: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
