"""Requests per second, and how long they take, under gunicorn over loopback.

gunicorn runs two processes of four threads (gthread); a process of its own (``load.py``)
sends events of 4 kB over 16 connections that stay open, eight to each process, each event
of a call of its own, the next one as soon as the last is answered. In turn, several rounds
each, medians of the rounds:

- ``bare``: a view that reads the body and answers;
- ``stored``: the same, with an insert into a small table of its own, committed in the journal
  mode of ``durable``, and SQLite's own way of waiting for others;
- ``durable``: retell-flask with its inbox in a SQLite file, ``synchronous=FULL``, and no
  workers;
- ``workers``: the same with workers in the processes, which run the receivers meanwhile.

The inboxes are below the current directory for the time of the run. It is measured again
with the standard library's SQLite where pysqlite3 is installed, since the inbox uses
another journal mode there.

    python benchmarks/serve.py [--rounds 5] [--requests 4000] [--standard-sqlite]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import facts
from bodies import KEY
from inboxfile import InboxFile
from retell_flask.inbox.sqlite import is_safe_in_wal, sqlite_module

HERE = Path(__file__).parent
WARM_UP = 500
Figures = dict[str, float]


@dataclass(frozen=True)
class Server:
    """A gunicorn that runs."""

    port: int

    def load(self, requests: int) -> Figures:
        command = [sys.executable, str(HERE / "load.py"), "--port", str(self.port)]
        command += ["--requests", str(requests)]
        sent = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        figures: Figures = json.loads(sent.stdout)
        return figures


@contextlib.contextmanager
def serving(application: str, options: dict[str, str], *, standard: bool) -> Iterator[Server]:
    """gunicorn with an application of ``apps.py``; ``standard`` is the library's SQLite."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RETELL_")}
    environ |= {"RETELL_API_KEY": KEY, **options}
    if standard:
        environ[facts.STANDARD_SQLITE] = "1"
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        port = listening.getsockname()[1]
        options = ["-k", "gthread", "--workers", "2", "--threads", "4", "--log-level", "warning"]
        options += ["--bind", f"fd://{listening.fileno()}", "--chdir", str(HERE)]
        options += ["--config", str(HERE / "gunicorn.conf.py")]
        gunicorn = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, f"apps:serve_{application}()"],
            env=environ,
            pass_fds=[listening.fileno()],
        )
    try:
        yield Server(port)
    finally:
        end(gunicorn)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def compare(rounds: int, requests: int, *, standard: bool) -> None:
    with facts.scratch() as directory, contextlib.ExitStack() as stack:
        inbox = InboxFile(directory / "durable.sqlite3")
        live_inbox = InboxFile(directory / "workers.sqlite3")
        servers = {
            name: stack.enter_context(serving(application, options, standard=standard))
            for name, (application, options) in {
                "bare": ("bare", {}),
                "stored": ("stored", {"STORED_PATH": str(stored_by_hand(directory))}),
                "durable": ("durable", {"RETELL_INBOX_URL": inbox.url, "RETELL_WORKERS": "0"}),
                "workers": (
                    "durable",
                    {"RETELL_INBOX_URL": live_inbox.url, "RETELL_WORKERS": "4"},
                ),
            }.items()
        }
        stored = {name: server.load(WARM_UP)["stored"] for name, server in servers.items()}
        live_inbox.wait_until_delivered()
        print(
            f"{inbox.about()}; medians of {rounds} rounds of {requests:,} requests, in turn\n",
            flush=True,
        )
        found = play(servers, live_inbox, rounds, requests)
        show(found)
        expected = stored["durable"] + sum(each["stored"] for each in found["durable"])
        if inbox.count() != expected:
            raise SystemExit(f"The inbox has {inbox.count()} entries, not {expected:.0f}")


def stored_by_hand(directory: Path) -> Path:
    path = directory / "stored.sqlite3"
    module = sqlite_module()
    mode = "WAL" if is_safe_in_wal(module.sqlite_version_info) else "TRUNCATE"
    with contextlib.closing(module.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    return path


def play(
    servers: dict[str, Server], live_inbox: InboxFile, rounds: int, requests: int
) -> dict[str, list[Figures]]:
    found: dict[str, list[Figures]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, server in servers.items():
            figures = server.load(requests)
            found[name].append(figures)
            if name == "workers":
                figures["rest"] = live_inbox.count("status <> 'done'")
                figures["seconds"] = live_inbox.wait_until_delivered()
    return found


def show(found: dict[str, list[Figures]]) -> None:
    middle = {
        name: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        for name, rounds in found.items()
    }
    print(
        f"{'':>9} {'requests/s':>11} {'p50':>8} {'p99':>8} {'max':>8}   ms   (requests/s from, to)"
    )
    for name, figures in middle.items():
        rates = [each["rate"] for each in found[name]]
        print(
            f"{name:>9} {figures['rate']:>11,.0f} {figures['p50']:>8.1f} {figures['p99']:>8.1f} "
            f"{figures['max']:>8.1f}        ({min(rates):,.0f}, {max(rates):,.0f})"
        )
    bare, durable, workers = middle["bare"], middle["durable"], middle["workers"]
    rate = facts.verdict(durable["rate"] / bare["rate"], 0.5, at_least=True)
    late = facts.verdict(durable["p99"] / bare["p99"], 5)
    print(f"{'':>9} durable's requests/s of bare's = {rate}")
    print(f"{'':>9} durable's p99 of bare's = {late}")
    stored = middle["stored"]
    print(
        f"{'':>9} durable's requests/s of stored's = {durable['rate'] / stored['rate']:.2f}, p99 "
        f"{durable['p99'] / stored['p99']:.2f}"
    )
    print(
        f"{'':>9} workers' requests/s of bare's = {workers['rate'] / bare['rate']:.2f}, p99 "
        f"{workers['p99'] / bare['p99']:.2f}; then {workers['rest']:,.0f} were not delivered, "
        f"and {workers['seconds']:.1f} s later all"
    )


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rounds", type=int, default=5, help="of each application")
    arguments.add_argument("--requests", type=int, default=4_000, help="in a round")
    arguments.add_argument(
        "--standard-sqlite", action="store_true", help="as if pysqlite3 were not installed"
    )
    options = arguments.parse_args()
    facts.exit_at_sigterm()
    if options.standard_sqlite:
        facts.hide_pysqlite3()
        compare(options.rounds, options.requests, standard=True)
        return
    print(facts.describe("gunicorn", "flask", "werkzeug", "sqlalchemy"))
    compare(options.rounds, options.requests, standard=False)
    if sqlite_module().__name__.startswith("pysqlite3"):
        print("\nThe same with the standard library's SQLite\n", flush=True)
        few = ("--rounds", "3", "--requests", "1500")
        facts.run_again(__file__, "--standard-sqlite", *few)


if __name__ == "__main__":
    main()
