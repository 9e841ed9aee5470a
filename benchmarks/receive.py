"""Microseconds per request inside the process: the WSGI callable, no sockets.

The same signed ``call_ended`` events, each of a call of its own, are received one by one by
each of these in turn, within one run:

- ``bare``: a view that reads the body and answers;
- ``stored``: the same, with one commit by bare ``sqlite3`` of a row that is equal to the one
  that ``durable`` stores: its pragmas, table and indexes, in the same directory;
- ``library``: retell-flask without an inbox, which runs the receiver in the request;
- ``durable``: retell-flask with its inbox in a SQLite file, ``synchronous=FULL``, and no
  workers in the process;
- ``sdk``: the view that a user of ``retell-sdk`` writes, which stores nothing;
- ``floor``: the least that any receiver has to do.

Beside them: ``workers``, which is ``durable`` with workers that run the receivers meanwhile,
and ``commit``, the bare commit of such rows one after the other. A processor that has waited
for a disk runs the next code at half its speed or less: a commit in a request therefore
costs more than ``commit`` says, and bare code behind one more than in a row of its own.
Both comparisons are printed; the bounds are for what is measured in turn.

All that SQLite writes is below the current directory, for the time of the run. The first
part is measured again with the standard library's SQLite where pysqlite3 is installed, since
the inbox uses another journal mode there.

    python benchmarks/receive.py [--rounds 40] [--sizes 4000 110000 700000] [--standard-sqlite]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flask import Flask

import apps
import facts
from bodies import KEY, PATH, call_ended, of_fresh_calls
from inboxfile import BareTable, InboxFile, pragmas
from retell_flask.inbox.database import Database
from retell_flask.inbox.sqlite import sqlite_module
from retell_flask.testing import sign

IN_TURN = ("bare", "stored", "library", "durable", "sdk", "floor")
COLUMNS = ("bare", "library", "durable", "workers", "stored", "commit", "sdk", "floor")
Request = dict[str, Any]


def request(body: bytes) -> Request:
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": PATH,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_X_RETELL_SIGNATURE": sign(body, KEY),
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.input": body,
    }


def request_microseconds(app: Flask, requests: list[Request]) -> float:
    statuses: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        statuses.append(status)

    call: Callable[..., Any] = app
    began = time.perf_counter()
    for each in requests:
        response = call({**each, "wsgi.input": io.BytesIO(each["wsgi.input"])}, start_response)
        b"".join(response)
        response.close()
    elapsed = time.perf_counter() - began
    if set(statuses) != {"200 OK"}:
        raise SystemExit(f"{app.name} answered {set(statuses)}")
    return elapsed / len(requests) * 1e6


class Contest:
    """All that is compared, and one round of it."""

    def __init__(self, directory: Path) -> None:
        self._inbox = InboxFile(directory / "durable.sqlite3")
        self._live_inbox = InboxFile(directory / "workers.sqlite3")
        options = {"DISPATCH": "threads"}
        self._apps = {
            "bare": apps.bare(),
            "library": apps.library("library", INBOX_URL="none"),
            "durable": apps.library("durable", INBOX_URL=self._inbox.url, WORKERS="0", **options),
            "workers": apps.library("workers", INBOX_URL=self._live_inbox.url, **options),
            "sdk": apps.sdk(),
            "floor": apps.floor(),
        }
        first = [request(body) for body in of_fresh_calls(call_ended(4_000), 20)]
        for app in self._apps.values():
            request_microseconds(app, first)
        self._inbox.new_rows()
        self._live_inbox.wait_until_delivered()
        self._table = BareTable(
            directory / "commit.sqlite3", self._inbox, pragmas(self._database("durable"))
        )
        self._rows: deque[tuple[Any, ...]] = deque()
        self._apps["stored"] = apps.storing(lambda: self._table.commit(self._rows.popleft()))
        self.about = self._inbox.about()

    def round(self, body: bytes, count: int) -> dict[str, float]:
        request_microseconds(self._apps["durable"], _requests(body, count))
        rows = self._inbox.new_rows()
        self._rows.extend(map(self._table.fresh, rows))
        found: dict[str, float] = dict.fromkeys(IN_TURN, 0.0)
        for each in _requests(body, count):
            for name in IN_TURN:
                found[name] += request_microseconds(self._apps[name], [each]) / count
        found["workers"] = request_microseconds(self._apps["workers"], _requests(body, count))
        self._live_inbox.wait_until_delivered()
        found["commit"] = self._table.commit_microseconds(rows)
        return found

    def _database(self, name: str) -> Database:
        database: Database = self._apps[name].extensions["retell"]["retell"].inbox.database
        return database

    def close(self) -> None:
        self._live_inbox.wait_until_delivered()
        for name in ("durable", "workers"):
            # The files go away now, and so must the threads that look into them.
            self._apps[name].extensions["retell"]["retell"].dispatcher.stop()
            self._database(name).dispose()
        self._table.close()


def _requests(body: bytes, count: int) -> list[Request]:
    return [request(each) for each in of_fresh_calls(body, count)]


@contextlib.contextmanager
def contest() -> Iterator[Contest]:
    with facts.scratch() as directory:
        opened = Contest(directory)
        try:
            yield opened
        finally:
            opened.close()


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def compare(sizes: list[int], rounds: int) -> None:
    with contest() as running:
        print(f"{running.about}; medians of {rounds} rounds, in turn\n")
        print(f"{'bytes':>9}", *(f"{name:>8}" for name in COLUMNS), "  µs a request")
        for size in sizes:
            body = call_ended(size)
            count = max(4, min(50, 2_000_000 // len(body)))
            middle = medians([running.round(body, count) for _ in range(rounds)])
            print(f"{len(body):>9,}", *(f"{middle[name]:>8,.0f}" for name in COLUMNS))
            for line in bounds(middle, is_small=size < 50_000):
                print(" " * 9, line)


def bounds(middle: dict[str, float], *, is_small: bool) -> Iterator[str]:
    library, durable, commit = middle["library"], middle["durable"], middle["commit"]
    against, bound = ("bare", 4) if is_small else ("sdk", 0.3)
    ratio = (durable - (middle["stored"] - middle["bare"])) / middle[against]
    in_a_row = (durable - commit) / middle[against]
    yield (
        f"(durable - (stored - bare)) / {against} = {facts.verdict(ratio, bound)}; "
        f"(durable - commit) / {against} = {in_a_row:.2f}"
    )
    yield (
        f"library: {library / middle['bare']:.2f} of bare, {library / middle['sdk']:.3f} of sdk, "
        f"{library / middle['floor']:.2f} of floor"
    )


def show_growth(rounds: int) -> None:
    """What the library costs without its inbox, against the body's size."""
    print("\nThe library without an inbox against the body's size\n")
    print(f"{'bytes':>9} {'library':>9}   µs a request, and µs for each kB more than the first")
    app = apps.library("library", INBOX_URL="none")
    smallest, cheapest = 0, 0.0
    for size in (175_000, 350_000, 700_000, 1_400_000, 2_800_000):
        body = call_ended(size)
        requests = [request(body)] * max(5, 2_000_000 // len(body))
        cost = statistics.median(request_microseconds(app, requests) for _ in range(rounds))
        more = (cost - cheapest) / (len(body) - smallest) * 1000
        print(f"{len(body):>9,} {cost:>9,.1f}   {f'{more:.2f}' if smallest else ''}")
        if not smallest:
            smallest, cheapest = len(body), cost


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rounds", type=int, default=40, help="of each app and size")
    arguments.add_argument("--sizes", type=int, nargs="+", default=[4_000, 110_000, 700_000])
    arguments.add_argument(
        "--standard-sqlite", action="store_true", help="as if pysqlite3 were not installed"
    )
    options = arguments.parse_args()
    facts.exit_at_sigterm()
    if options.standard_sqlite:
        facts.hide_pysqlite3()
        compare(options.sizes, options.rounds)
        return
    print(facts.describe("flask", "werkzeug", "msgspec", "sqlalchemy"))
    compare(options.sizes, options.rounds)
    show_growth(max(1, options.rounds // 4))
    if sqlite_module().__name__.startswith("pysqlite3"):
        print("\nThe same with the standard library's SQLite\n", flush=True)
        sizes = [str(size) for size in options.sizes]
        rounds = str(options.rounds // 2 or 1)
        facts.run_again(__file__, "--standard-sqlite", "--rounds", rounds, "--sizes", *sizes)


if __name__ == "__main__":
    main()
