"""Inboxes to measure in: on SQLite and PostgreSQL, empty or with much that is done.

What is looked for lies at the far end: the oldest entries, a few of each sort, are in the
empty inbox as well, so that a search finds as much in both.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, func, select, text
from sqlalchemy.engine import URL, make_url

import apps
from bodies import call_ended
from retell_flask.inbox.bodies import pack
from retell_flask.inbox.entry import once_key, stage_of
from retell_flask.inbox.schema import deliveries, entries
from retell_flask.inbox.store import Inbox

A_CALL = "call_of_long_ago"
A_TYPE = "alert_triggered"
OF_EACH = 60
SPAN = timedelta(days=29)
_LIFECYCLE = ("call_started", "call_ended", "call_analyzed")
_SIGNALS = {
    "call_started": ("event_received",),
    "call_ended": ("event_received", "agent_transfer"),
    "call_analyzed": ("event_received",),
}
_TOGETHER = 2_500
_LAST = select(func.max(entries.c.id))
Row = dict[str, Any]


def open_inbox(url: str) -> Inbox:
    """The inbox of an application, with its tables made."""
    app = apps.library(f"inbox-{secrets.token_hex(4)}", INBOX_URL=url, WORKERS="0")
    inbox: Inbox = app.extensions["retell"]["retell"].inbox
    if inbox.database.dialect == "postgresql":
        inbox.database.init()
    inbox.check()
    return inbox


class Filler:
    """Writes entries that are finished, with their deliveries."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._now = datetime.now(timezone.utc)
        self._compressed, self._body = pack(call_ended(40_000))  # 3 to 4 kB of it are stored
        self._id = inbox.database.read(lambda c: c.execute(_LAST).scalar()) or 0
        self._entries: list[Row] = []
        self._deliveries: list[Row] = []

    def add_oddities(self) -> None:
        """The oldest ones: some are dead, some of a rare type, three of a call."""
        at = self._now - SPAN - timedelta(hours=1)
        for type_ in _LIFECYCLE:
            self._add(type_, A_CALL, at)
        for _ in range(OF_EACH):
            self._add("call_ended", _call(), at, status="dead")
            self._add(A_TYPE, None, at)
        self._flush()

    def add_done(self, count: int) -> None:
        """Whole calls, up to now."""
        call = ""
        for number in range(count):
            type_ = _LIFECYCLE[number % len(_LIFECYCLE)]
            call = _call() if number % len(_LIFECYCLE) == 0 else call
            self._add(type_, call, self._now - SPAN * (count - number) / count)
            if len(self._entries) == _TOGETHER:
                self._flush()
        self._flush()

    def add_pending(self, count: int) -> None:
        """A backlog, due by now, each entry of a call of its own."""
        for number in range(count):
            self._add("call_ended", _call(), self._now, status="pending", receiver=None)
            if number % _TOGETHER == _TOGETHER - 1:
                self._flush()
        self._flush()

    def _add(
        self,
        type_: str,
        session: str | None,
        at: datetime,
        *,
        status: str = "done",
        receiver: str | None = "host:handler",
    ) -> None:
        self._id += 1
        self._entries.append(
            {
                "id": self._id,
                "event_id": f"evt_{secrets.token_hex(16)}",
                "blueprint": self._inbox.blueprint,
                "type": type_,
                "session": session,
                "stage": stage_of(type_).value,
                "revises": None,
                "revision": 0,
                "synthetic": False,
                "received_at": at,
                "status": status,
                "next_attempt_at": at,
                "compressed": self._compressed,
                "body": self._body,
            }
        )
        signals = _SIGNALS.get(type_, ("event_received",)) if receiver else ()
        for position, signal in enumerate(signals):
            self._deliveries.append(self._delivery(position, signal, str(receiver), status, at))

    def _delivery(
        self, position: int, signal: str, receiver: str, status: str, at: datetime
    ) -> Row:
        once = None
        if signal == "agent_transfer":
            once = once_key(self._inbox.blueprint, str(self._id), signal, receiver)
        return {
            "entry_id": self._id,
            "position": position,
            "signal": signal,
            "receiver": receiver,
            "status": status,
            "attempts": 1,
            "next_attempt_at": at,
            "started_at": at,
            "finished_at": at,
            "error": None,
            "once": once,
        }

    def _flush(self) -> None:
        rows, of_them = self._entries, self._deliveries
        self._entries, self._deliveries = [], []

        def operation(connection: Connection) -> None:
            connection.execute(entries.insert(), rows)
            if of_them:
                connection.execute(deliveries.insert(), of_them)

        if rows:
            self._inbox.database.write(operation)


def fill(inbox: Inbox, done: int) -> None:
    """Fill a new inbox, and leave it as it is found after a while."""
    filler = Filler(inbox)
    filler.add_oddities()
    filler.add_done(done)
    if inbox.database.dialect == "postgresql":
        _settle(inbox)


def add_backlog(inbox: Inbox, count: int) -> None:
    """Pending entries before all others, as they are found after an outage."""
    Filler(inbox).add_pending(count)
    if inbox.database.dialect == "postgresql":
        _move_sequence(inbox)


def _settle(inbox: Inbox) -> None:
    """What PostgreSQL does by itself in its own time."""
    _move_sequence(inbox)
    with inbox.database.engine.connect() as connection:
        plain = connection.execution_options(isolation_level="AUTOCOMMIT")
        plain.execute(text("VACUUM ANALYZE retell_event, retell_delivery"))
        plain.execute(text("CHECKPOINT"))


def _move_sequence(inbox: Inbox) -> None:
    sequence = text(
        "SELECT setval(pg_get_serial_sequence('retell_event', 'id'), max(id)) FROM retell_event"
    )
    inbox.database.write(lambda connection: connection.execute(sequence).all())


def _call() -> str:
    return f"call_{secrets.token_hex(13)}"


def sqlite_urls(directory: Path, names: tuple[str, ...]) -> list[str]:
    return [f"sqlite:///{directory / name}.sqlite3" for name in names]


@contextlib.contextmanager
def postgresql_urls(server: str, names: tuple[str, ...]) -> Iterator[list[str]]:
    """Databases of our own on a server, dropped at the end."""
    url = make_url(server).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    made = [f"retell_bench_{os.getpid()}_{name}" for name in names]
    try:
        with engine.connect() as connection:
            for name in made:
                connection.execute(text(f'CREATE DATABASE "{name}"'))
        yield [shown(url.set(database=name)) for name in made]
    finally:
        with engine.connect() as connection:
            for name in made:
                connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        engine.dispose()


def shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)
