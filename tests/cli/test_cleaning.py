"""``prune`` and ``forget``."""

from __future__ import annotations

from collections.abc import Callable

from cli.shop import Shop
from retell_flask import GiveUp


def test_what_is_done_and_old_is_deleted(shop: Shop, fail: Callable[..., None]) -> None:
    fail("chat_ended", GiveUp("no"))
    for number in range(3):
        shop.deliver("call_ended", f"call_{number}")
    shop.deliver("chat_ended", "chat_1")
    shop.add("call_started")
    shop.later(hours=1, seconds=1)
    new = shop.deliver("call_ended", "call_new")
    assert "Deleted 3 events older than 1h." in shop.run("prune", "--older-than", "1h")
    assert shop.statuses() == ["dead", "pending", "done"]
    assert shop.entries()[-1].id == new.id


def test_the_retention_is_the_default_age(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(RETELL_RETENTION="2d")
    shop.deliver("call_ended")
    shop.later(hours=47)
    assert shop.run("prune") == "0 events older than 2d: nothing was deleted.\n"
    shop.later(hours=2)
    assert "Deleted 1 event older than 2d." in shop.run("prune")


def test_a_dry_run_only_counts(shop: Shop) -> None:
    shop.deliver("call_ended")
    shop.later(hours=2)
    output = shop.run("prune", "--older-than", "1h", "--dry-run")
    assert output == "1 event older than 1h: nothing was deleted.\n"
    assert shop.statuses() == ["done"]


def test_an_age_needs_its_unit(shop: Shop) -> None:
    assert "'30' is no duration" in shop.run("prune", "--older-than", "30", code=2)


def test_a_call_is_forgotten_on_request(shop: Shop) -> None:
    shop.add("call_ended")
    shop.add("call_analyzed")
    shop.add("call_ended", "call_2")
    output = shop.run("forget", "call_1", input="y\n")
    assert "Empty 2 events of call_1 for good? [y/N]" in output
    assert "Emptied 2 events of call_1." in output
    assert "would be stored again" in output
    assert "was overwritten" in output
    assert shop.statuses() == ["forgotten", "forgotten", "pending"]


def test_whoever_says_no_forgets_nothing(shop: Shop) -> None:
    shop.add("call_ended")
    assert "Aborted!" in shop.run("forget", "call_1", code=1, input="n\n")
    assert shop.statuses() == ["pending"]


def test_a_call_that_is_not_here_cannot_be_forgotten(shop: Shop) -> None:
    output = shop.run("forget", "call_\x1b9", "--yes", code=1)
    assert "There is no event of a call or chat call_\\x1b9." in output


def test_an_event_is_not_forgotten_without_its_call(shop: Shop) -> None:
    entry = shop.add("call_ended", "call 1")
    output = shop.run("forget", entry.event_id, "--yes", code=1)
    assert output.endswith("forget takes whole calls:\n  flask retell forget 'call 1'\n")
    assert shop.statuses() == ["pending"]
