"""What 100,000 done entries cost, and what pruning costs those who are received meanwhile.

On SQLite (a file below the current directory) and PostgreSQL (databases made for the run),
two inboxes: one with the done entries, their deliveries and 3 to 4 kB of each stored body,
and one without. In turn within one run, medians:

- ``receipt``: ``Inbox.add`` of a fresh event, committed;
- ``claim``: ``claim_due`` of a fresh entry of two receivers, and ``advance`` to its end;
- ``idle``: ``claim_due`` where nothing is due;
- ``events``: ``maintenance.search`` for 50 entries, as ``flask retell events`` does it.

Then claims with a backlog of pending entries, beside those without one, in the inbox that
has no done entries; and receipts, one after the other, alone, while ``pruning.prune``
deletes half of the entries in another thread, and while it deletes the others in another
process.

    python benchmarks/scale.py [--entries 100000] [--plans] [--only sqlite]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import facts
import plans
import stock
from bodies import call_ended, of_fresh_calls
from retell_flask import Event
from retell_flask.events import parse_event
from retell_flask.inbox import maintenance, pruning
from retell_flask.inbox.database import Database
from retell_flask.inbox.entry import DeliveryStatus, EntryStatus, Result, Target
from retell_flask.inbox.maintenance import Query
from retell_flask.inbox.sqlite import sqlite_module
from retell_flask.inbox.store import Inbox

NAMES = ("none", "full")
BOUND = 1.3
LIMIT = 50
BACKLOG = 5_000
READY = "ready\n"
BODY = call_ended(4_000)
TARGETS = [Target("event_received", "host:handler"), Target("call_ended", "host:handler")]
Times = dict[str, list[float]]


def fresh_events(count: int) -> list[Event]:
    return [parse_event(body) for body in of_fresh_calls(BODY, count)]


def find_targets(event: Event) -> list[Target]:
    return TARGETS


def milliseconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def claim_one(inbox: Inbox) -> None:
    claim = inbox.claim_due(find_targets)
    if claim is None:
        raise SystemExit("Nothing was due")
    while claim.current is not None:
        inbox.advance(claim, Result(DeliveryStatus.DONE))


def searches() -> dict[str, Query]:
    """Ways of asking ``flask retell events``; what they look for is the oldest there is."""
    long_ago = datetime.now(timezone.utc) - stock.SPAN
    return {
        "events": Query(),
        "events, done": Query(status=EntryStatus.DONE),
        "events, dead": Query(status=EntryStatus.DEAD),
        "events, pending": Query(status=EntryStatus.PENDING),
        "events, superseded": Query(status=EntryStatus.SUPERSEDED),
        "events, of a call": Query(names=[stock.A_CALL]),
        "events, of a type": Query(type=stock.A_TYPE),
        "events, until then": Query(until=long_ago),
        "events, just now": Query(since=datetime.now(timezone.utc) - timedelta(seconds=5)),
    }


def measure_once(inbox: Inbox, count: int) -> Iterator[tuple[str, float]]:
    events = fresh_events(count)
    for event in events:
        yield "receipt", milliseconds(lambda: inbox.add(event))  # noqa: B023
    for _ in events:
        yield "claim", milliseconds(lambda: claim_one(inbox))
    for _ in events:
        yield "idle", milliseconds(lambda: inbox.claim_due(find_targets))
    for name, query in searches().items():
        for _ in range(3):
            yield (
                name,
                milliseconds(lambda: maintenance.search(inbox, query, limit=LIMIT)),  # noqa: B023
            )


def compare(inboxes: dict[str, Inbox], rounds: int) -> None:
    found: dict[str, Times] = {name: {} for name in NAMES}
    for number in range(rounds + 1):
        for name, inbox in inboxes.items():
            for what, cost in measure_once(inbox, 10):
                if number:  # the first is for warming up
                    found[name].setdefault(what, []).append(cost)
    print(f"{'':>22} {'none':>9} {'full':>9}   ms, medians")
    for what in found["none"]:
        none, full = (statistics.median(found[name][what]) for name in NAMES)
        print(f"{what:>22} {none:>9.2f} {full:>9.2f}   {facts.verdict(full / none, BOUND)}")


def compare_backlog(inbox: Inbox) -> None:
    alone = median_claim(inbox)
    stock.add_backlog(inbox, BACKLOG)
    behind = median_claim(inbox)
    name = f"claim, {BACKLOG:,} pending"
    print(f"{name:>22} {alone:>9.2f} {behind:>9.2f}   {behind / alone:.2f} of one without them")


def median_claim(inbox: Inbox) -> float:
    for event in fresh_events(60):
        inbox.add(event)
    return statistics.median(milliseconds(lambda: claim_one(inbox)) for _ in range(60))


def show_plans(inbox: Inbox) -> None:
    inbox.add(fresh_events(1)[0])
    plans.show(inbox, "claim", lambda: claim_one(inbox))
    plans.show(inbox, "receipt", lambda: inbox.add(fresh_events(1)[0]))
    claim_one(inbox)
    for name, query in searches().items():
        plans.show(inbox, name, lambda: maintenance.search(inbox, query, limit=LIMIT))  # noqa: B023
    plans.show(inbox, "prune", lambda: pruning.prune_batch(inbox, stock.SPAN))
    plans.show(inbox, "stats", lambda: maintenance.stats(inbox))
    plans.show(inbox, "receivers", lambda: maintenance.waiting(inbox))
    print()


# Pruning


def receive_until(inbox: Inbox, is_over: Callable[[], bool]) -> list[float]:
    times: list[float] = []
    while not is_over():
        event = fresh_events(1)[0]
        times.append(milliseconds(lambda: inbox.add(event)))  # noqa: B023
    return times


def receive_for(inbox: Inbox, seconds: float) -> list[float]:
    over_at = time.monotonic() + seconds
    return receive_until(inbox, lambda: time.monotonic() > over_at)


def prune(inbox: Inbox, days: float) -> None:
    began = time.monotonic()
    count = sum(pruning.prune(inbox, timedelta(days=days)))
    seconds = time.monotonic() - began
    print(f"{'':>22} deleted {count:,} in {seconds:.1f} s", flush=True)


def prune_in_a_thread(inbox: Inbox, days: float) -> list[float]:
    thread = threading.Thread(target=prune, args=(inbox, days), daemon=True)
    thread.start()
    return receive_until(inbox, lambda: not thread.is_alive())


def prune_in_a_process(inbox: Inbox, url: str, days: float) -> list[float]:
    command = [sys.executable, __file__, "--prune", url, "--days", str(days)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != READY:
                raise SystemExit("The process that prunes did not start")
            times = receive_until(inbox, lambda: process.poll() is not None)
            print(process.stdout.read(), end="")
        finally:
            process.kill()
    return times


def prune_as_told(url: str, days: float) -> None:
    inbox = stock.open_inbox(url)
    print(READY, end="", flush=True)
    prune(inbox, days)


def compare_pruning(inbox: Inbox, url: str) -> None:
    half = stock.SPAN / timedelta(days=1) / 2
    print(f"\n{'receipts':>22} {'p50':>9} {'p99':>9} {'max':>9} {'a second':>9}   ms")
    show_receipts("alone", receive_for(inbox, 3))
    show_receipts("pruned by a thread", prune_in_a_thread(inbox, half))
    show_receipts("alone", receive_for(inbox, 3))
    show_receipts("pruned by a process", prune_in_a_process(inbox, url, 0.01))


def show_receipts(name: str, times: list[float]) -> None:
    rate = len(times) / sum(times) * 1000
    times.sort()
    p50, p99 = (times[int(len(times) * rank)] for rank in (0.5, 0.99))
    print(f"{name:>22} {p50:>9.2f} {p99:>9.2f} {times[-1]:>9.2f} {rate:>9,.0f}", flush=True)


# Databases


def about(database: Database, url: str) -> str:
    if database.dialect == "sqlite":
        path = Path(url.removeprefix("sqlite:///"))
        return facts.describe_sqlite(sqlite_module(), path)
    version = database.read(lambda connection: connection.execute(text("SHOW server_version")))
    return f"PostgreSQL {version.scalar()}"


def measure(urls: list[str], options: argparse.Namespace) -> None:
    inboxes = {name: stock.open_inbox(url) for name, url in zip(NAMES, urls, strict=True)}
    began = time.monotonic()
    stock.fill(inboxes["none"], 0)
    stock.fill(inboxes["full"], options.entries)
    print(
        f"\n{about(inboxes['full'].database, urls[1])}; {options.entries:,} done entries, "
        f"written in {time.monotonic() - began:.0f} s\n",
        flush=True,
    )
    try:
        if options.plans:
            show_plans(inboxes["full"])
        compare(inboxes, options.rounds)
        compare_backlog(inboxes["none"])
        compare_pruning(inboxes["full"], urls[1])
    finally:
        for inbox in inboxes.values():
            inbox.database.dispose()


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--entries", type=int, default=100_000, help="that are done")
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument(
        "--plans", action="store_true", help="print the plans of all statements"
    )
    arguments.add_argument("--only", choices=("sqlite", "postgresql"))
    arguments.add_argument(
        "--server",
        default="postgresql://127.0.0.1:5432/test",
        help="where databases may be made",
    )
    arguments.add_argument("--prune", metavar="URL", help=argparse.SUPPRESS)
    arguments.add_argument("--days", type=float, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.prune:
        prune_as_told(options.prune, options.days)
        return
    facts.exit_at_sigterm()
    print(facts.describe("sqlalchemy", "psycopg"))
    if options.only != "postgresql":
        with facts.scratch() as directory:
            measure(stock.sqlite_urls(directory, NAMES), options)
    if options.only != "sqlite":
        try:
            with stock.postgresql_urls(options.server, NAMES) as urls:
                measure(urls, options)
        except (OperationalError, ModuleNotFoundError) as error:
            print(f"\nNo PostgreSQL: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
