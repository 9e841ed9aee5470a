"""The kill test again and again, with other numbers each time: make soak."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from account import Account
from databases import postgresql
from killing import Plan, linked_sqlite, run

DATABASES = ("sqlite", "sqlite-linked", "postgresql")


@contextmanager
def prepared(database: str, directory: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The URL of a new inbox, and what its servers need in their environment."""
    if database == "postgresql":
        with postgresql() as url:
            yield url, {}
        return
    url = f"sqlite:///{directory}/retell.sqlite3"
    if database == "sqlite":
        yield url, {}
        return
    with linked_sqlite(directory) as environ:
        yield url, environ


def one_round(arguments: argparse.Namespace, database: str, seed: int) -> Account:
    draw = random.Random(seed)
    with (
        tempfile.TemporaryDirectory(prefix="retell-soak-") as name,
        prepared(database, Path(name)) as (url, environ),
    ):
        plan = Plan(
            seed,
            arguments.events,
            arguments.kills,
            arguments.seconds,
            threads=draw.choice([1, 4, 8]),
            lease=arguments.lease,
            order_wait=draw.choice([0, 5, 30]),
            pause=draw.choice([0, 0.005, 0.05]),
            failures=draw.choice([0, 0.05, 0.3]),
            transcripts=draw.choice(["latest", "all"]),
            environ=environ,
        )
        print(f"== {database}, {plan}", flush=True)
        account = run(plan, url, Path(name))
    print(account, flush=True)
    return account


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="begin no round after these")
    parser.add_argument("--database", choices=DATABASES, help="this one only, not each in turn")
    parser.add_argument("--seed", type=int, help="of the first round; the next has the next")
    parser.add_argument("--events", type=int, default=6000, help="in a round")
    parser.add_argument("--kills", type=int, default=60, help="in a round, at least")
    parser.add_argument("--seconds", type=float, default=40, help="in which the calls begin")
    parser.add_argument("--lease", type=float, default=2, help="in seconds")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    arguments = parse(argv)
    seed = arguments.seed or random.SystemRandom().randrange(10**6)
    databases = [arguments.database] if arguments.database else DATABASES
    deadline = time.monotonic() + 60 * arguments.minutes
    faults, rounds = 0, 0
    while rounds == 0 or time.monotonic() < deadline:
        account = one_round(arguments, databases[rounds % len(databases)], seed + rounds)
        faults += len(account.faults)
        rounds += 1
    print(f"{rounds} rounds, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
