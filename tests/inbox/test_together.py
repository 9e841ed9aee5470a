from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from databases import rows
from retell_flask.errors import InboxError
from retell_flask.events import parse_event
from retell_flask.inbox import receipts
from retell_flask.inbox.database import Database
from retell_flask.inbox.line import Ticket
from retell_flask.inbox.receipts import NewEntry, Values
from retell_flask.inbox.sqlite import FileDatabase
from retell_flask.inbox.together import insert_together


def values(call_id: str, blueprint: str = "retell") -> Values:
    body = json.dumps({"event": "call_ended", "call": {"call_id": call_id}}).encode()
    return receipts.of_event(blueprint, parse_event(body))


def insert(database: Database, *together: Values) -> list[int | None]:
    return database.write(
        lambda c: insert_together(c.connection.driver_connection, list(together))
    )


@pytest.fixture
def database(tmp_path: Path) -> FileDatabase:
    return FileDatabase(tmp_path / "inbox.sqlite3")


def test_each_gets_the_id_of_its_row(database: FileDatabase) -> None:
    assert insert(database, values("a"), values("b")) == [1, 2]
    assert insert(database, values("c")) == [3]
    assert [row["session"] for row in rows(database)] == ["a", "b", "c"]


def test_what_is_there_has_no_new_id(database: FileDatabase) -> None:
    insert(database, values("a"))
    together = values("b"), values("a"), values("c"), values("b"), values("a", "other")
    assert insert(database, *together) == [2, None, 3, None, 4]
    assert insert(database, *together) == [None] * 5
    assert len(rows(database)) == 4


def test_a_row_is_the_same_as_one_of_its_own_statement(database: FileDatabase) -> None:
    one = values("a")
    insert(database, one)
    database.write(NewEntry({**one, "blueprint": "other"}))
    first, second = rows(database)
    assert {**first, "id": 2, "blueprint": "other"} == second


def test_one_that_cannot_be_written_takes_no_other_along(database: FileDatabase) -> None:
    database.init()
    good, bad = NewEntry(values("a")), NewEntry({**values("b"), "type": None})
    other: Ticket[int | None] = Ticket(good)
    database._line.join(other)
    with pytest.raises(InboxError, match="NOT NULL"):
        database.write(bad)
    assert other.result() == 1


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6), max_size=6))
def test_ids_are_those_of_the_table(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[str]]
) -> None:
    database = FileDatabase(tmp_path_factory.mktemp("together") / "inbox.sqlite3", "OFF")
    known: dict[str, int] = {}
    for batch in batches:
        for call_id, entry_id in zip(batch, insert(database, *map(values, batch)), strict=True):
            assert (entry_id is None) is (call_id in known)
            known.setdefault(call_id, entry_id or 0)
    assert {row["session"]: row["id"] for row in rows(database)} == known
    database.dispose()
