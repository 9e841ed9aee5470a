"""``stats`` and ``receivers``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cli.shop import Shop
from retell_flask import GiveUp, call_ended


def test_an_empty_inbox_is_called_empty(shop: Shop) -> None:
    assert shop.run("stats") == "The inbox is empty.\n"


def test_events_are_counted_by_type_and_status(shop: Shop, fail: Callable[..., None]) -> None:
    fail("call_ended", GiveUp("no"))
    shop.deliver("call_ended", "call_1")
    shop.deliver("call_ended", "call_2")
    oldest = shop.add("call_started")
    shop.add("\x1b[31mholo")
    shop.later(minutes=3)
    lines = shop.run("stats").splitlines()
    assert lines[0].split() == ["EVENTS", "pending", "dead"]
    assert [line.split() for line in lines[1:5]] == [
        ["\\x1b[31mholo", "1"],
        ["call_ended", "2"],
        ["call_started", "1"],
        ["all", "2", "2"],
    ]
    assert lines[6] == "Deliveries      0 pending, 0 done, 2 dead"
    assert lines[7] == f"Oldest pending  {oldest.received_at:%Y-%m-%d %H:%M:%S} UTC, 3m ago"
    assert lines[9].startswith("Bodies          ")


def test_stats_are_there_for_monitoring(shop: Shop, fail: Callable[..., None]) -> None:
    fail("call_ended", GiveUp("no"))
    shop.deliver("call_ended")
    oldest = shop.add("call_started")
    shop.later(seconds=90)
    stats = shop.run_json("stats")
    assert stats.pop("body_bytes") > 50
    assert stats == {
        "entries": [
            {"status": "dead", "type": "call_ended", "count": 1},
            {"status": "pending", "type": "call_started", "count": 1},
        ],
        "deliveries": {"pending": 0, "done": 0, "dead": 1},
        "oldest_pending": oldest.received_at.isoformat(),
        "oldest_pending_seconds": 90.0,
        "newest": oldest.received_at.isoformat(),
    }


def test_forgotten_deliveries_count_no_longer(shop: Shop, fail: Callable[..., None]) -> None:
    fail("call_ended", GiveUp("no"))
    shop.deliver("call_ended")
    shop.run("forget", "call_1", "--yes")
    assert shop.run_json("stats")["deliveries"]["dead"] == 0
    assert shop.run_json("receivers")["connected"][0]["dead"] == 0


def test_receivers_are_listed_by_signal_in_order(shop: Shop, fail: Callable[..., None]) -> None:
    fail("call_ended", RuntimeError("later"), "shop:b")
    fail("call_ended", GiveUp("no"), "shop:a")
    fail("call_started", None, "shop:c")
    shop.deliver("call_ended")
    assert [line.split() for line in shop.run("receivers").splitlines()] == [
        ["SIGNAL", "RECEIVER", "WAITING", "DEAD"],
        ["call_started", "shop:c"],
        ["call_ended", "shop:b", "1"],
        ["call_ended", "shop:a", "1"],
    ]


def test_no_receiver_at_all_is_worth_a_word(shop: Shop) -> None:
    assert "No receiver is connected here." in shop.run("receivers")


@pytest.mark.parametrize("options", [{}, {"RETELL_INBOX_URL": "none"}])
def test_receivers_are_shown_before_there_is_an_inbox(
    make_shop: Callable[..., Shop], fail: Callable[..., None], options: dict[str, str]
) -> None:
    fail("call_ended", None)
    assert "call_ended  shop:bill" in make_shop(**options).run("receivers")


def test_what_waits_for_a_receiver_that_is_gone_is_shown_with_what_to_do(
    shop: Shop, fail: Callable[..., None], next_release: Callable[[], Shop]
) -> None:
    fail("call_ended", RuntimeError("later"), "shop:waits")
    fail("call_ended", GiveUp("no"), "shop:died")
    shop.deliver("call_ended")
    shown = next_release().run_json("receivers")
    assert shown == {
        "connected": [],
        "not_connected": [
            {"signal": "call_ended", "receiver": "shop:died", "waiting": 0, "dead": 1},
            {"signal": "call_ended", "receiver": "shop:waits", "waiting": 1, "dead": 0},
        ],
    }
    output = next_release().run("receivers")
    assert "Not connected here, though deliveries are kept for them:" in output
    assert "  flask retell replay --receiver shop:died --as NEW\n" in output


def test_a_muted_signal_is_marked(shop: Shop, fail: Callable[..., None]) -> None:
    fail("call_ended", None)
    with call_ended.muted():
        assert "call_ended (muted)  shop:bill" in shop.run("receivers")
        connected: list[dict[str, Any]] = shop.run_json("receivers")["connected"]
    assert [each["muted"] for each in connected] == [True]
