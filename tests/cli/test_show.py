from __future__ import annotations

from collections.abc import Callable
from typing import Any

from click.testing import Result

from cli.shop import Shop
from retell_flask import GiveUp, RetellBlueprint


def test_a_call_is_told_in_the_order_of_arrival(shop: Shop, fail: Callable[..., None]) -> None:
    fail("call_ended", None)
    ended = shop.deliver("call_ended", transcript="Agent: hello")
    shop.later(minutes=2)
    analyzed = shop.add("call_analyzed")
    lines = shop.run("show", "call_1").splitlines()
    assert lines[0] == "call_1: 2 events, in the order of arrival"
    assert lines[2] == "call_ended  done"
    assert lines[3].strip() == (
        f"{ended.event_id}  received {ended.received_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    assert lines[4].split()[:4] == ["SIGNAL", "RECEIVER", "STATUS", "ATTEMPTS"]
    assert lines[5].split()[:6] == ["call_ended", "shop:bill", "done", "1", "of", "8"]
    assert lines[5].endswith("0 ms")
    assert lines[7] == "call_analyzed  pending, due now"
    assert analyzed.event_id in lines[8]
    assert lines[9].strip() == "not begun: who hears it is settled when it is"


def test_an_event_is_shown_by_its_id_with_its_call(shop: Shop) -> None:
    shop.add("call_started")
    ended = shop.deliver("call_ended")
    output = shop.run("show", ended.event_id)
    assert "call_started" not in output
    assert "UTC, of call_1\n  nobody was connected to its signals\n" in output


def test_a_failed_attempt_shows_its_error_and_the_next_one(
    shop: Shop, fail: Callable[..., None]
) -> None:
    fail("call_ended", RuntimeError("no such\x1b[31m table"))
    shop.deliver("call_ended")
    output = shop.run("show", "call_1")
    assert "pending  1 of 8" in output
    assert "  in " in output
    assert "      RuntimeError: no such\\x1b[31m table\n" in output
    assert "\x1b" not in output


def test_a_running_receiver_is_shown_as_running(shop: Shop, retell: RetellBlueprint) -> None:
    seen: list[str] = []

    @retell.on("call_ended", name="shop:slow")
    def look(sender: Any, **extra: Any) -> None:
        seen.append(shop.run("show", "call_1"))

    shop.deliver("call_ended")
    assert "call_ended  running, leased until 20" in seen[0]
    assert "shop:slow  running  1 of 8" in seen[0]


def test_json_has_events_deliveries_and_hints(shop: Shop, fail: Callable[..., None]) -> None:
    fail("call_ended", GiveUp("no such customer"))
    entry = shop.deliver("call_ended", transcript="Agent: hello")
    shown = shop.run_json("show", "call_1")
    assert shown["name"] == "call_1"
    (event,) = shown["events"]
    assert event["id"] == entry.event_id
    assert event["status"] == "dead"
    now = shop.inbox.clock().isoformat()
    assert event["deliveries"] == [
        {
            "signal": "call_ended",
            "receiver": "shop:bill",
            "status": "dead",
            "attempts": 1,
            "started_at": now,
            "finished_at": now,
            "seconds": 0.0,
            "next_attempt_at": None,
            "error": "no such customer",
        }
    ]
    assert shown["hints"] == [
        {
            "trouble": "delivery dead",
            "found": "shop:bill failed for good at attempt 1: no such customer",
            "check": "Mend what failed, and let it run again:",
            "run": "flask retell replay call_1",
            "event_ids": [entry.event_id],
        }
    ]


def test_an_unknown_id_is_an_error(shop: Shop) -> None:
    output = shop.run("show", "call_\x1b[2J", code=1)
    assert output.startswith("Error: There is no event, call or chat call_\\x1b[2J in the inbox")


def run_body(shop: Shop, name: str) -> Result:
    return shop.app.test_cli_runner().invoke(args=["retell", "show", name, "--body"])


def test_the_body_is_printed_to_the_byte(shop: Shop) -> None:
    body = b' {"event":"call_ended","call":{"call_id":"c\xc3\xa9","x":"\\ud800"}}\r\n'
    shop.client.post(body)
    (entry,) = shop.entries()
    assert run_body(shop, entry.event_id).stdout_bytes == body
    assert run_body(shop, "cé").stdout_bytes == body


def test_a_body_is_that_of_one_event(shop: Shop) -> None:
    ids = [shop.add("call_started").event_id, shop.add("call_ended").event_id]
    output = shop.run("show", "call_1", "--body", code=1)
    assert "call_1 has 2 events. Choose one of them:" in output
    assert all(each in output for each in ids)


def test_a_body_that_was_freed_cannot_be_shown(shop: Shop) -> None:
    entry = shop.add("call_ended")
    shop.run("forget", "call_1", "--yes")
    output = shop.run("show", entry.event_id, "--body", code=1)
    assert "no longer kept: it is forgotten" in output


def test_nothing_but_the_body_is_personal(shop: Shop) -> None:
    entry = shop.add(
        "call_ended", transcript="Agent: spoken", from_number="+14155550142", metadata={"n": "Ann"}
    )
    for output in (shop.run("show", "call_1"), shop.run("show", "call_1", "--json")):
        assert entry.event_id in output
        for private in ("spoken", "+1415", "Ann"):
            assert private not in output
