"""A server that does not answer: ``test_outages.py`` has one that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from databases import open_kind
from retell_flask.errors import InboxError
from retell_flask.inbox.database import Database
from retell_flask.inbox.silence import patient_for


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


def test_the_watch_ends_when_nobody_needs_it_and_begins_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retell_flask.inbox.silence._IDLE_SECONDS", 0.0)
    for _ in range(2):
        with patient_for(0.3), pytest.raises(InboxError):
            ask(database, "pg_sleep(50)")
