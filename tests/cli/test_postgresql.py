"""The commands on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from cli.shop import Shop
from databases import empty, postgresql
from retell_flask import GiveUp


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture
def shop(make_shop: Callable[..., Shop], url: str) -> Shop:
    empty(url)
    shop = make_shop(RETELL_INBOX_URL=url)
    shop.clock.freeze()
    return shop


def test_a_day_of_an_operator(shop: Shop, fail: Callable[..., None]) -> None:
    fail("call_ended", GiveUp("no such table"))
    shop.deliver("call_ended", transcript="")
    entry = shop.add("call_analyzed")
    assert entry.event_id in shop.run("events", "--status", "pending", "--since", "1h")
    assert "No transcript" in shop.run("show", "call_1")
    stats = shop.run_json("stats")
    assert stats["deliveries"] == {"pending": 0, "done": 0, "dead": 1}
    assert stats["body_bytes"] > 50
    assert shop.run("receivers").split()[-2:] == ["shop:bill", "1"]
    fail("call_ended", None)
    assert "1 delivery pending" in shop.run("replay")
    assert "Ran what was due of 2 events." in shop.run("worker", "--once")
    assert shop.statuses() == ["done", "done"]
    shop.later(days=31)
    assert "Deleted 2 events" in shop.run("prune")


def test_a_forgotten_call_leaves_work_for_vacuum(shop: Shop) -> None:
    shop.add("call_ended")
    assert "run VACUUM FULL" in " ".join(shop.run("forget", "call_1", "--yes").split())
    assert shop.statuses() == ["forgotten"]


def test_tables_are_made_once(make_shop: Callable[..., Shop], url: str) -> None:
    with psycopg.connect(url, autocommit=True) as server:
        server.execute("DROP TABLE retell_delivery, retell_event, retell_schema")
    shop = make_shop(RETELL_INBOX_URL=url)
    assert "no tables yet. Make them by: flask retell init-db" in shop.run("events", code=1)
    assert "the tables were made, in postgresql+psycopg://" in shop.run("init-db")
    assert "there already" in shop.run("init-db")
    assert shop.run("events") == "No such events.\n"


def test_texts_that_the_database_refuses_find_nothing(shop: Shop) -> None:
    for text in ("\0", "\ud800", "x" * 300):
        assert shop.run("events", "--type", text, "--call", text) == "No such events.\n"
        shop.run("show", text, code=1)
