"""What ``show`` says about known troubles."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.shop import Shop
from retell_flask import GiveUp, RetellBlueprint

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
TALK = {"transcript": "Agent: hello"}


def hints(shop: Shop, name: str = "call_1") -> dict[str, dict[str, Any]]:
    """By trouble, which is there once."""
    found = shop.run_json("show", name)["hints"]
    assert len({hint["trouble"] for hint in found}) == len(found)
    return {hint["trouble"]: hint for hint in found}


def test_a_call_without_trouble_has_no_hints(shop: Shop) -> None:
    for type_ in ("call_started", "call_ended", "call_analyzed"):
        shop.deliver(type_, **TALK)
    shop.later(hours=1)
    assert hints(shop) == {}


def test_hints_are_printed_with_the_events_that_they_are_about(shop: Shop) -> None:
    entry = shop.deliver("call_ended", transcript="")
    output = shop.run("show", "call_1")
    assert output.endswith(
        f"No transcript ({entry.event_id})\n"
        "  transcript is there, and empty: nobody spoke.\n"
        "  If somebody did, look at the call in Retell's dashboard.\n\n"
    )


def test_a_missing_transcript_names_the_setting_that_may_be_why(shop: Shop) -> None:
    shop.deliver("call_ended", data_storage_setting="basic_attributes_only")
    hint = hints(shop)["no transcript"]
    assert "missing; data_storage_setting is basic_attributes_only." in hint["found"]
    assert "event.call.transcript_with_tool_calls" in hint["check"]


def test_a_call_that_did_not_connect_failed_and_lacks_no_transcript(shop: Shop) -> None:
    shop.client.send("call_ended_not_connected")
    (entry,) = shop.entries()
    found = hints(shop, str(entry.session))
    assert list(found) == ["call failed"]
    hint = found["call failed"]
    assert hint["found"] == (
        "Nobody answered. (call_status not_connected, disconnection_reason dial_no_answer)"
    )
    assert "Place it again later" in hint["check"]
    assert "call_started never comes" in hint["check"]


def test_a_failure_that_would_repeat_is_to_be_mended(shop: Shop) -> None:
    shop.deliver(
        "call_ended", call_status="error", disconnection_reason="no_valid_payment", **TALK
    )
    assert hints(shop)["call failed"]["check"].startswith("Mend the cause first")


def test_a_chat_that_failed_has_no_reason(shop: Shop) -> None:
    shop.deliver("chat_ended", "chat_1", chat_status="error", **TALK)
    assert "chat_status error" in hints(shop, "chat_1")["chat failed"]["found"]


def test_a_cancelled_transfer_points_to_the_end_of_the_call(shop: Shop) -> None:
    cancelled = shop.deliver("transfer_cancelled")
    shop.deliver("call_ended", disconnection_reason="user_hangup", **TALK)
    hint = hints(shop)["transfer failed"]
    assert hint["event_ids"] == [cancelled.event_id]
    assert "event.transfer.destination" in hint["check"]
    assert hint["check"].endswith("disconnection_reason in call_ended, which is user_hangup.")


def test_a_transfer_that_nothing_ended_is_noticed(shop: Shop) -> None:
    shop.deliver("transfer_started")
    assert hints(shop) == {}
    ended = shop.deliver("call_ended", disconnection_reason="user_hangup", **TALK)
    hint = hints(shop)["transfer failed"]
    assert hint["event_ids"] == [ended.event_id]
    assert "ended by user_hangup" in hint["found"]
    assert "webhook_events" in hint["check"]


@pytest.mark.parametrize("proof", ["transfer_bridged", "transfer_ended"])
def test_a_transfer_that_was_bridged_is_no_trouble(shop: Shop, proof: str) -> None:
    shop.deliver("transfer_started")
    shop.deliver(proof)
    shop.deliver("call_ended", disconnection_reason="agent_hangup", **TALK)
    assert hints(shop) == {}


def test_a_call_that_ended_by_transfer_is_no_trouble(shop: Shop) -> None:
    shop.deliver("transfer_started")
    shop.deliver("call_ended", disconnection_reason="call_transfer", **TALK)
    assert hints(shop) == {}


def test_the_call_of_a_transferring_agent_says_that_it_was_cancelled(shop: Shop) -> None:
    shop.deliver("call_ended", disconnection_reason="transfer_cancelled", **TALK)
    assert "mediated was cancelled" in hints(shop)["transfer failed"]["found"]


@pytest.mark.parametrize("kind", ["call", "chat"])
def test_an_analysis_is_missed_after_some_minutes(shop: Shop, kind: str) -> None:
    ended = shop.deliver(f"{kind}_ended", "id_1", **TALK)
    shop.later(minutes=5)
    assert hints(shop, "id_1") == {}
    shop.later(seconds=1)
    for name in ("id_1", ended.event_id):
        hint = hints(shop, name)["missing analysis"]
        assert hint["found"] == f"{kind}_ended came 5m 1s ago, and no {kind}_analyzed."
    shop.deliver(f"{kind}_analyzed", "id_1")
    assert hints(shop, ended.event_id) == {}


def test_equal_hints_of_several_events_are_one(shop: Shop, fail: Callable[..., None]) -> None:
    fail("transcript_updated", GiveUp("no"))
    entries = [shop.deliver("transcript_updated", n=number) for number in range(3)]
    assert hints(shop)["delivery dead"]["event_ids"] == [entry.event_id for entry in entries]


def test_a_receiver_that_is_gone_is_not_connected_here(
    shop: Shop, fail: Callable[..., None], next_release: Callable[[], Shop]
) -> None:
    fail("call_ended", GiveUp("no"), "shop:old name")
    shop.deliver("call_ended", **TALK)
    hint = hints(next_release())["receiver not connected here"]
    assert hint["found"].startswith("shop:old name has to hear it, and is not connected to call_e")
    assert hint["run"] == "flask retell replay --receiver 'shop:old name' --as NEW"


def test_an_event_waits_for_an_earlier_one_of_its_call(shop: Shop) -> None:
    started = shop.add("call_started")
    ended = shop.add("call_ended", **TALK)
    hint = hints(shop)["waiting for its turn"]
    assert hint["event_ids"] == [ended.event_id]
    assert hint["found"] == f"call_started ({started.event_id}) comes first, and is pending."
    assert "RETELL_ORDER_WAIT" in hint["check"]


def test_an_analysis_waits_for_the_end_that_is_not_here(shop: Shop) -> None:
    shop.add("call_analyzed")
    hint = hints(shop)["waiting for its turn"]
    assert hint["found"] == "call_ended comes first, and is not here yet."
    shop.later(seconds=30)
    assert hints(shop) == {}


def test_an_event_waits_while_another_of_its_call_runs(
    shop: Shop, retell: RetellBlueprint
) -> None:
    seen: list[Any] = []

    @retell.on("call_started", name="shop:slow")
    def look(sender: Any, **extra: Any) -> None:
        shop.add("call_ended", **TALK)
        seen.append(hints(shop))

    started = shop.deliver("call_started")
    found = seen[0]["waiting for its turn"]["found"]
    assert found.startswith(f"call_started ({started.event_id}) of the same call runs")


def test_what_nobody_takes_up_is_not_delivered(shop: Shop) -> None:
    shop.add("call_started")
    shop.later(seconds=60)
    hint = hints(shop)["not delivered"]
    assert hint["found"] == "It has been due for 1m, and nothing takes it up."
    assert hint["run"] == "flask retell worker --once"


def test_a_lease_that_ran_out_is_not_delivered(shop: Shop, retell: RetellBlueprint) -> None:
    seen: list[Any] = []

    @retell.on("call_started", name="shop:stuck")
    def look(sender: Any, **extra: Any) -> None:
        shop.later(seconds=90)
        seen.append(hints(shop))

    shop.deliver("call_started")
    assert seen[0]["not delivered"]["found"].startswith("Its lease ran out 30s ago")


def test_an_invalid_event_says_what_is_wrong_with_it(shop: Shop) -> None:
    shop.client.post({"event": "call_ended"})
    (entry,) = shop.entries()
    hint = hints(shop, entry.event_id)["invalid"]
    assert "call_ended needs a 'call' object with a 'call_id'." in hint["found"]
    assert hint["run"] == f"flask retell show {entry.event_id} --body"


def test_superseded_snapshots_are_explained_once(shop: Shop) -> None:
    for number in range(3):
        shop.add("transcript_updated", n=number)
    hint = hints(shop)["superseded"]
    assert hint["found"].startswith("2 snapshots of the transcript")


@pytest.mark.parametrize("trouble", ["no transcript", "transfer failed", "missing analysis"])
def test_the_readme_knows_the_trouble_by_the_same_name(trouble: str) -> None:
    assert re.search(rf"^\| {trouble} \|", README, re.MULTILINE)
