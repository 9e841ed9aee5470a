"""A server that does not answer: ``test_outages.py`` has one that stands still."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from sqlalchemy import text

from databases import make_inbox, open_kind
from retell_flask.errors import InboxError
from retell_flask.inbox.database import Database, connect_to_server
from retell_flask.inbox.silence import patient_for
from retell_flask.values import inbox_url


@pytest.fixture
def database(
    tmp_path: Path, postgresql_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    monkeypatch.setattr("retell_flask.inbox.silence._LOOK_SECONDS", 0.05)
    database = open_kind("postgresql", tmp_path, postgresql_url)
    yield database
    database.dispose()


def ask(database: Database, what: str) -> object:
    return database.read(lambda connection: connection.execute(text(f"SELECT {what}")).scalar())


@pytest.mark.parametrize("is_open", [False, True])
def test_who_is_in_a_hurry_waits_no_longer(database: Database, is_open: bool) -> None:
    if is_open:
        ask(database, "1")
    with patient_for(0.3), pytest.raises(InboxError, match="does not answer"):
        ask(database, "pg_sleep(50)")
    assert ask(database, "1") == 1


def test_others_wait_also_on_a_connection_that_was_watched(database: Database) -> None:
    with patient_for(0.3):
        assert ask(database, "1") == 1
    assert ask(database, "pg_sleep(1)") == ""


def test_a_connection_that_was_closed_meanwhile_is_replaced(
    database: Database, postgresql_url: Callable[[], str]
) -> None:
    with patient_for(5):
        number = ask(database, "pg_backend_pid()")
        with psycopg.connect(postgresql_url()) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [number])
        assert ask(database, "pg_backend_pid()") != number


class Proxy:
    """In front of a server. Once it is mute, it passes on a greeting, and then nothing."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listening]
        self.port = self._listening.getsockname()[1]
        self.is_mute = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._to)
                self._open += [client, server]
                for ends in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, sender: socket.socket, receiver: socket.socket) -> None:
        is_greeted = False
        with contextlib.suppress(OSError):
            while data := sender.recv(100_000):
                if not (self.is_mute and is_greeted):
                    receiver.sendall(data)
                is_greeted = is_greeted or b"Z\0\0\0\5" in data  # ready for a query

    def close(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@pytest.mark.parametrize("is_open", [False, True])
def test_a_greeting_is_no_answer(postgresql_url: Callable[[], str], is_open: bool) -> None:
    direct = urlsplit(postgresql_url())
    proxy = Proxy(direct.port or 5432)
    address = direct._replace(netloc=f"{direct.username}@127.0.0.1:{proxy.port}").geturl()
    inbox = make_inbox(connect_to_server(inbox_url(address)))  # type: ignore[arg-type]
    try:
        if is_open:
            inbox.check()
        proxy.is_mute = True
        with ThreadPoolExecutor(1) as thread, patient_for(1):
            asked = thread.submit(copy_context().run, inbox.check)
            with pytest.raises(InboxError):
                asked.result(timeout=60)
    finally:
        proxy.close()
        inbox.database.dispose()


def test_within_another_patience_the_shorter_one_counts(database: Database) -> None:
    with patient_for(0.3), patient_for(50), pytest.raises(InboxError):
        ask(database, "pg_sleep(50)")


def test_the_watch_ends_when_nobody_needs_it_and_begins_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retell_flask.inbox.silence._IDLE_SECONDS", 0.0)
    for _ in range(2):
        with patient_for(0.3), pytest.raises(InboxError):
            ask(database, "pg_sleep(50)")
