from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from cli.shop import Shop
from retell_flask import GiveUp


def listed(shop: Shop, *arguments: str) -> list[str]:
    output = shop.run("events", *arguments, "--json")
    return [json.loads(line)["id"] for line in output.splitlines() if line.startswith("{")]


def test_the_newest_come_first_in_a_table(shop: Shop) -> None:
    started, ended = shop.add("call_started"), shop.deliver("call_ended", "call_2")
    header, first, second = shop.run("events").splitlines()
    assert header.split()[1:6] == ["(UTC)", "EVENT", "TYPE", "STATUS", "NEXT"]
    assert first.split()[2:] == [ended.event_id, "call_ended", "done", "call_2"]
    assert second.split()[2:] == [started.event_id, "call_started", "pending", "now", "call_1"]
    assert first.startswith(f"{ended.received_at:%Y-%m-%d %H:%M:%S}")


def test_json_has_one_object_on_each_line(shop: Shop) -> None:
    entry = shop.add("call_started")
    shop.add("call_ended")
    first, second = shop.run("events", "--json").splitlines()
    assert json.loads(first)["type"] == "call_ended"
    assert json.loads(second) == {
        "id": entry.event_id,
        "type": "call_started",
        "session_id": "call_1",
        "status": "pending",
        "received_at": entry.received_at.isoformat(),
        "next_attempt_at": entry.received_at.isoformat(),
        "revision": 0,
        "synthetic": False,
    }


def test_filters_narrow_what_is_listed(shop: Shop, fail: Callable[..., None]) -> None:
    fail("call_ended", GiveUp("no"))
    old = shop.add("call_started").event_id
    shop.later(hours=2)
    dead = shop.deliver("call_ended").event_id
    chat = shop.add("chat_started", "chat_1").event_id
    now = shop.inbox.clock()
    assert listed(shop) == [chat, dead, old]
    assert listed(shop, "--status", "dead") == [dead]
    assert listed(shop, "--type", "chat_started") == [chat]
    assert listed(shop, "--type", "of the future") == []
    assert listed(shop, "--call", "call_1") == [dead, old]
    assert listed(shop, "--call", "chat_1") == [chat]
    assert listed(shop, "--since", now.isoformat()) == [chat, dead]
    assert listed(shop, "--until", now.isoformat()) == [old]
    assert listed(shop, "--limit", "1") == [chat]


def test_a_table_that_was_cut_says_so(shop: Shop) -> None:
    for number in range(3):
        shop.add("call_started", f"call_{number}")
    assert shop.run("events", "--limit", "2").endswith("the newest 2; there are more: --limit.\n")
    assert "more" not in shop.run("events", "--limit", "3")


def test_nothing_found_is_said_to_people_and_nothing_to_programs(shop: Shop) -> None:
    assert shop.run("events") == "No such events.\n"
    assert shop.run("events", "--json") == ""


def test_what_senders_wrote_is_escaped(shop: Shop) -> None:
    shop.add("\x1b[31mholo\r\ngram", "call_\x1b[2J")
    output = shop.run("events")
    assert r"\x1b[31mholo\r\ngram" in output
    assert r"call_\x1b[2J" in output
    assert "\x1b" not in output + shop.run("events", "--json")


def test_no_body_is_printed(shop: Shop) -> None:
    shop.add("call_ended", transcript="Agent: spoken words")
    assert "spoken" not in shop.run("events") + shop.run("events", "--json")


def test_revisions_and_invalid_events_can_be_told(shop: Shop) -> None:
    shop.client.send("call_ended")
    shop.client.send("call_ended", duration_ms=5)
    shop.client.post(b"[1]")
    output = shop.run("events")
    assert "call_ended (revision 1)  done" in output
    assert "(no type)                invalid" in output


@pytest.mark.parametrize("arguments", [["--status", "odd"], ["--limit", "0"], ["--since", "?"]])
def test_a_wrong_option_is_a_wrong_usage(shop: Shop, arguments: list[str]) -> None:
    assert "Invalid value" in shop.run("events", *arguments, code=2)


def test_a_narrow_terminal_shows_ids_in_full(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = shop.add("transcript_updated", "call_" + "x" * 40)
    monkeypatch.setattr("retell_flask.cli.events.terminal_width", lambda: 100)
    output = shop.run("events")
    assert entry.event_id in output
    assert "call_xxxxx.." in output
    assert max(map(len, output.splitlines())) <= 100
