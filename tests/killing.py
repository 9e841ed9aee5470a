"""The kill test: a server whose processes are killed while somebody posts events to it.

Receivers leave a journal. What ran where when a process was killed is in it, so that the
account can tell a run that nobody could avoid repeating from one that should not have been.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import func, select

from account import Account, Kill
from databases import rows
from journal import Journal
from retell_flask import RetellBlueprint
from retell_flask.inbox import schema, sqlite
from retell_flask.inbox.store import Inbox
from sender import Sender, make_calls
from servers import Server, eventually, free_port, is_alive, running
from support import KEY, make_app, make_post

STANDSTILL_SECONDS = 45


@dataclass(frozen=True)
class Plan:
    """``seconds`` is within which the calls begin; kills go on until both are reached."""

    seed: int
    events: int = 2000
    kills: int = 20
    seconds: float = 11
    threads: int = 4
    lease: float = 2
    order_wait: float = 3
    pause: float = 0.01
    failures: float = 0.05
    transcripts: str = "latest"
    environ: dict[str, str] = field(default_factory=dict)


def open_inbox(url: str) -> Inbox:
    """The inbox that a server uses, to look into."""
    app = make_app(RetellBlueprint(), RETELL_INBOX_URL=url)
    inbox: Inbox = app.extensions["retell"]["retell"].inbox
    return inbox


@contextmanager
def linked_sqlite(directory: Path) -> Iterator[dict[str, str]]:
    """The SQLite that Python is linked with, here and in servers of this environment.

    It may be too old for WAL, and a newer one is installed for tests.
    """
    shadow = directory / "shadow" / "pysqlite3"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise ImportError")
    with mock.patch.object(sqlite, "sqlite_module", return_value=sqlite3):
        yield {"PYTHONPATH": before_python_path(shadow.parent)}


def before_python_path(directory: Path) -> str:
    """Modules in a directory come first."""
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(directory), *filter(None, others)])


def store_only(url: str, *payloads: Any) -> None:
    """As a process that was stopped before it could deliver."""
    app = make_app(RetellBlueprint(), TESTING=False, RETELL_INBOX_URL=url, RETELL_WORKERS=0)
    for payload in payloads:
        assert make_post(app)(payload).json == {"received": True}
    app.extensions["retell"]["retell"].inbox.database.dispose()


def unfinished(inbox: Inbox) -> int:
    """How many entries are pending or running."""
    status = schema.entries.c.status
    statement = select(func.count()).where(status.in_(["pending", "running"]))
    return inbox.database.read(lambda connection: connection.execute(statement).scalar_one())


def wait_until_finished(inbox: Inbox) -> None:
    """As long as it goes on."""
    left, deadline = unfinished(inbox), time.monotonic() + STANDSTILL_SECONDS
    while left:
        time.sleep(0.2)
        now_left = unfinished(inbox)
        if now_left < left:
            left, deadline = now_left, time.monotonic() + STANDSTILL_SECONDS
        assert time.monotonic() < deadline, f"{left} entries stay unfinished"


def run(plan: Plan, url: str, directory: Path) -> Account:
    """Post, kill, wait until nothing is left to do, and take account."""
    draw = random.Random(plan.seed)
    journal = Journal(directory / "journal")
    postings = make_calls(draw, plan.events, plan.seconds)
    began = time.monotonic()
    with serving(plan, url, journal) as fleet:
        sender = Sender(fleet.port, postings, random.Random(plan.seed + 1))
        kinds = _kinds(plan, draw)
        while kinds or not sender.is_finished:
            time.sleep(draw.uniform(0.1, 1.5 * plan.seconds / plan.kills))
            fleet.kill(kinds.pop() if kinds else "worker", draw)
        sender.wait()
        inbox = open_inbox(url)
        wait_until_finished(inbox)
    account = Account(
        postings,
        journal.lines(),
        rows(inbox.database),
        rows(inbox.database, "retell_delivery"),
        fleet.kills,
        plan.order_wait,
        sender.figures,
    )
    account.figures["seconds without a server"] = round(fleet.seconds_down)
    account.figures["seconds"] = round(time.monotonic() - began)
    if inbox.database.dialect == "sqlite":
        account.faults += check_file(inbox)
    inbox.database.dispose()
    return account


def _kinds(plan: Plan, draw: random.Random) -> list[str]:
    """Mostly workers, now and then the whole server, or gunicorn's arbiter alone."""
    rare = max(1, plan.kills // 20)
    kinds = ["all"] * rare + ["arbiter"] * rare
    kinds += ["worker"] * (plan.kills - len(kinds))
    draw.shuffle(kinds)
    return kinds


def check_file(inbox: Inbox) -> list[str]:
    """What SQLite finds wrong with its file."""
    found = inbox.database.read(
        lambda connection: connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    )
    return [f"integrity_check: {each}" for each in found if each != "ok"]


class Fleet:
    """A server that is started again whenever it was killed."""

    def __init__(self, stack: ExitStack, plan: Plan, url: str, journal: Journal) -> None:
        self.port = free_port()
        self.kills: list[Kill] = []
        self.seconds_down = 0.0
        self._stack = stack
        self._options = {
            "RETELL_API_KEY": KEY,
            "RETELL_INBOX_URL": url,
            "RETELL_LEASE": f"{plan.lease}s",
            "RETELL_MAX_ATTEMPTS": "100",
            "RETELL_ORDER_WAIT": f"{plan.order_wait}s",
            "RETELL_TRANSCRIPTS": plan.transcripts,
            "JOURNAL": str(journal.path),
            "JOURNAL_PAUSE": str(plan.pause),
            "JOURNAL_FAILURES": str(plan.failures),
            "JOURNAL_SEED": str(plan.seed),
            "JOURNAL_LOG": "WARNING",
            **plan.environ,
        }
        self._arguments = ("-c", "gunicorn_hook.py", "--workers", "2")
        self._arguments += ("--threads", str(plan.threads))
        self._server = self._start()

    def _start(self) -> Server:
        server = running(
            "gunicorn-gthread",
            *self._arguments,
            app="journalapp:create_app",
            port=self.port,
            **self._options,
        )
        return self._stack.enter_context(server)

    def kill(self, kind: str, draw: random.Random) -> None:
        workers = eventually(self._server.children, what="a worker")
        if kind == "worker":
            self._end(draw.choice(sorted(workers)), kind)
            return
        arbiter = self._server.process
        if kind == "all":
            os.kill(arbiter.pid, signal.SIGSTOP)  # it starts no others meanwhile
            for worker in self._server.children():
                self._end(worker, kind)
        self._end(arbiter.pid, kind)
        began = time.monotonic()
        arbiter.wait(10)
        # Workers without an arbiter notice, finish what they run and go.
        eventually(lambda: not any(map(is_alive, workers)), 15, what="the workers left")
        self._server = self._start()
        self.seconds_down += time.monotonic() - began

    def _end(self, pid: int, kind: str) -> None:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not is_alive(pid), what="it is gone")
        self.kills.append(Kill(pid, time.monotonic_ns(), kind))


@contextmanager
def serving(plan: Plan, url: str, journal: Journal) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(stack, plan, url, journal)
