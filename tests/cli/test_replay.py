from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cli.shop import Shop
from retell_flask import Event, GiveUp, RetellBlueprint
from retell_flask.inbox.entry import Delivery
from retell_flask.inbox.maintenance import timeline

Fail = Callable[..., None]


def deliveries(shop: Shop) -> list[Delivery]:
    return [
        delivery
        for entry in shop.entries()
        for record in timeline(shop.inbox, entry.event_id)
        for delivery in record.deliveries
    ]


def deliver_dead(shop: Shop, fail: Fail, count: int = 1) -> list[str]:
    fail("call_ended", GiveUp("no such table"))
    found = [shop.deliver("call_ended", f"call_{n}").event_id for n in range(1, count + 1)]
    assert shop.statuses() == ["dead"] * count
    return found


def test_a_dead_delivery_is_pending_again_with_all_its_attempts(shop: Shop, fail: Fail) -> None:
    deliver_dead(shop, fail)
    output = shop.run("replay")
    assert "Replayed 1 event: 1 delivery pending." in output
    assert [(each.status.value, each.attempts) for each in deliveries(shop)] == [("pending", 0)]
    fail("call_ended", None)
    assert "Ran what was due of 1 event." in shop.run("worker", "--once")
    assert shop.statuses() == ["done"]


def test_a_dead_delivery_beside_a_pending_one_is_replayed_too(shop: Shop, fail: Fail) -> None:
    fail("call_ended", GiveUp("no"), "shop:dead")
    fail("call_ended", RuntimeError("later"), "shop:later")
    assert shop.deliver("call_ended").status.value == "pending"
    shop.run("replay")
    assert [(each.status.value, each.attempts) for each in deliveries(shop)] == [
        ("pending", 0),
        ("pending", 0),
    ]


def test_events_and_calls_are_replayed_by_their_ids(shop: Shop, fail: Fail) -> None:
    first, *_ = deliver_dead(shop, fail, 3)
    assert "Replayed 2 events" in shop.run("replay", first, "call_3", "--yes")
    assert shop.statuses() == ["pending", "dead", "pending"]


def test_an_unknown_id_changes_nothing(shop: Shop, fail: Fail) -> None:
    deliver_dead(shop, fail)
    output = shop.run("replay", "call_1", "call_9", code=1)
    assert "There is no event, call or chat call_9. Nothing was changed." in output
    assert shop.statuses() == ["dead"]


def test_more_than_one_event_is_asked_about(shop: Shop, fail: Fail) -> None:
    ids = deliver_dead(shop, fail, 2)
    output = shop.run("replay", code=1, input="n\n")
    assert all(each in output for each in ids)
    assert "Replay 2 events? [y/N]" in output
    assert shop.statuses() == ["dead", "dead"]
    assert "Replayed 2 events" in shop.run("replay", input="y\n")


def test_without_an_answer_nothing_is_changed(shop: Shop, fail: Fail) -> None:
    deliver_dead(shop, fail, 2)
    assert "Aborted!" in shop.run("replay", code=1)
    assert shop.statuses() == ["dead", "dead"]


def test_a_dry_run_lists_and_changes_nothing(shop: Shop, fail: Fail) -> None:
    ids = deliver_dead(shop, fail, 25)
    output = shop.run("replay", "--dry-run")
    assert ids[-1] in output
    assert output.endswith("and 5 older ones\n\nNothing was changed.\n")
    assert set(shop.statuses()) == {"dead"}


def test_what_has_nothing_to_replay_is_neither_listed_nor_asked_about(
    shop: Shop, fail: Fail
) -> None:
    (dead,) = deliver_dead(shop, fail)
    fail("call_analyzed", None)
    shop.deliver("call_analyzed", "call_1")
    output = shop.run("replay", "call_1", "--dry-run")
    assert dead in output
    assert output.count("evt_") == 1
    assert "Left alone: 1 event" in output
    assert "Replayed 1 event: 1 delivery pending." in shop.run("replay", "call_1")


def test_nothing_to_replay_is_said_and_no_error(shop: Shop, fail: Fail) -> None:
    fail("call_ended", None)
    assert shop.run("replay") == "There is nothing to replay: no such delivery is dead.\n"
    assert "no such events" in shop.run("replay", "--status", "dead")
    renaming = ("--receiver", "shop:old", "--as", "shop:bill")
    assert "Nothing waits for shop:old" in shop.run("replay", *renaming)


def test_what_is_done_runs_again_only_with_all(shop: Shop, fail: Fail) -> None:
    fail("call_ended", None)
    shop.deliver("call_ended")
    assert shop.run("replay", "call_1").startswith("Left alone: 1 event in which there is nothing")
    assert "1 delivery pending" in shop.run("replay", "call_1", "--all")


def test_all_without_ids_means_every_event(shop: Shop, fail: Fail) -> None:
    fail("call_ended", None)
    shop.deliver("call_ended", "call_1")
    shop.later(hours=2)
    shop.deliver("call_ended", "call_2")
    assert "Replayed 1 event" in shop.run("replay", "--all", "--until", since(shop))
    assert shop.statuses() == ["pending", "done"]


def since(shop: Shop) -> str:
    return shop.inbox.clock().isoformat()


def test_type_and_time_narrow_it_down(shop: Shop, fail: Fail) -> None:
    deliver_dead(shop, fail, 2)
    shop.later(hours=1)
    shop.deliver("call_ended", "call_3")
    assert "nothing to replay" in shop.run("replay", "--type", "call_started")
    assert "Replayed 1 event" in shop.run("replay", "--type", "call_ended", "--since", since(shop))
    assert shop.statuses() == ["dead", "dead", "pending"]


def test_one_receiver_is_replayed_alone(shop: Shop, fail: Fail) -> None:
    fail("call_ended", GiveUp("no"), "shop:a")
    fail("call_ended", GiveUp("no"), "shop:b")
    shop.deliver("call_ended")
    shop.run("replay", "--receiver", "shop:b")
    assert [each.status.value for each in deliveries(shop)] == ["dead", "pending"]


def test_a_receiver_without_dead_deliveries_is_told_of_older_events(
    shop: Shop, fail: Fail
) -> None:
    fail("call_ended", None, "shop:first")
    shop.deliver("call_ended")
    fail("call_ended", None, "shop:new")
    output = shop.run("replay", "--receiver", "shop:new")
    assert "shop:new has no dead deliveries" in output
    assert "add --status done" in output.replace("\n", " ")
    assert "1 delivery pending" in shop.run("replay", "--receiver", "shop:new", "--status", "done")
    assert [each.status.value for each in deliveries(shop)] == ["done", "pending"]


def test_a_receiver_that_is_not_connected_is_refused(shop: Shop, fail: Fail) -> None:
    deliver_dead(shop, fail)
    output = shop.run("replay", "--receiver", "shop:typo", code=1)
    assert "shop:typo is not connected here, so it would not run. Nothing was changed." in output
    assert "Connected: shop:bill." in output


@pytest.fixture
def renamed(shop: Shop, fail: Fail, next_release: Callable[[], Shop]) -> tuple[Shop, list[Event]]:
    """A dead and a pending delivery of shop:bill, which is shop:pay in the next release."""
    deliver_dead(shop, fail)
    fail("call_ended", RuntimeError("later"))
    shop.deliver("call_ended", "call_2")
    other, heard = next_release(), []

    @other.blueprint.on("call_ended", name="shop:pay")
    def pay(sender: Any, event: Event, **extra: Any) -> None:
        heard.append(event)

    return other, heard


def test_a_renamed_receiver_takes_over_what_waits(renamed: tuple[Shop, list[Event]]) -> None:
    shop, heard = renamed
    output = shop.run("replay", "--receiver", "shop:bill", "--as", "shop:pay", "--yes")
    assert "Replayed 2 events: 2 deliveries pending." in output
    shop.run("worker", "--once")
    assert [event.session_id for event in heard] == ["call_1", "call_2"]
    assert shop.statuses() == ["done", "done"]


def test_a_new_name_has_to_be_connected(renamed: tuple[Shop, list[Event]]) -> None:
    shop, _ = renamed
    output = shop.run("replay", "--receiver", "shop:bill", "--as", "shop:typo", code=1)
    assert "Connected: shop:pay." in output
    assert shop.statuses() == ["dead", "pending"]


def test_a_new_name_has_to_hear_the_same_signals(renamed: tuple[Shop, list[Event]]) -> None:
    shop, _ = renamed

    @shop.blueprint.on("call_started", name="shop:greet")
    def greet(sender: Any, **extra: Any) -> None: ...

    output = shop.run("replay", "--receiver", "shop:bill", "--as", "shop:greet", code=1)
    assert "shop:greet is not connected to call_ended, which shop:bill heard" in output
    assert shop.statuses() == ["dead", "pending"]


def test_a_new_name_needs_an_old_one(shop: Shop) -> None:
    assert "add --receiver OLD" in shop.run("replay", "--as", "shop:new", code=2)


def test_an_invalid_event_is_replayed_once_it_can_be_read(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retell_flask import events

    monkeypatch.setitem(events.SUBJECTS, "hologram", ("call",))
    shop.client.post({"event": "hologram"})
    assert "still no event" in shop.run("replay", "--status", "invalid").replace("\n", " ")
    monkeypatch.delitem(events.SUBJECTS, "hologram")
    assert "Replayed 1 event" in shop.run("replay", "--status", "invalid")
    assert shop.statuses() == ["pending"]


def test_forgotten_events_are_not_found_among_the_dead(shop: Shop, fail: Fail) -> None:
    deliver_dead(shop, fail)
    shop.run("forget", "call_1", "--yes")
    assert "There is nothing to replay" in shop.run("replay")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "nothing takes up what is pending by itself"),
        ({"RETELL_DISPATCH": "threads"}, "threads of a running application"),
        ({"RETELL_DISPATCH": "threads", "RETELL_WORKERS": 0}, "RETELL_WORKERS is 0"),
    ],
)
def test_it_says_who_runs_what_was_replayed(
    make_shop: Callable[..., Shop], fail: Fail, options: dict[str, Any], words: str
) -> None:
    shop = make_shop(**options)
    deliver_dead(shop, fail)
    output = " ".join(shop.run("replay").split())
    assert words in output
    assert output.endswith("flask retell worker --once")


def test_nobody_else_hears_a_replay(shop: Shop, fail: Fail, retell: RetellBlueprint) -> None:
    heard: list[str] = []

    @retell.on("call_ended", name="shop:store")
    def store(sender: Any, event: Event, **extra: Any) -> None:
        heard.append(event.id)

    deliver_dead(shop, fail)
    fail("call_ended", None)
    shop.run("replay")
    shop.run("worker", "--once")
    assert len(heard) == 1
