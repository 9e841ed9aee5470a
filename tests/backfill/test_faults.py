"""What Retell and the inbox do to a backfill."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from backfilling import (
    ALL,
    HOUR,
    Aftermath,
    Meanwhile,
    both,
    break_calls,
    fill,
    mend,
    own,
    report,
    webhook,
)
from retell_flask import (
    ApiError,
    Event,
    InboxError,
    KeyRefused,
    PaymentRequired,
    RateLimited,
)
from retell_flask.testing import Capture
from retellapi import HTML_PAGE, WRONG_SHAPE, Fault, HalfAnswer, Reply, Reset, make_call


@pytest.mark.parametrize(
    ("headers", "waited"),
    [({}, 30), ({"Retry-After": "7"}, 7), ({"Retry-After": "120"}, 120)],
)
@pytest.mark.parametrize("answers_before", [0, 1, 2])
def test_rate_limits_are_waited_out(
    shop: Aftermath,
    slept: list[float],
    headers: dict[str, str],
    waited: float,
    answers_before: int,
) -> None:
    shop.happened(1, ago=2 * HOUR)
    shop.happened(2)
    tries = 1 if waited > 30 else 4
    shop.api.faults += [Meanwhile()] * answers_before + [Reply(429, headers=headers)] * tries
    assert shop.backfill().events == 4
    assert slept[-1] == waited
    assert shop.made() == both(1, 2)


def test_a_rate_limit_without_end_is_an_error(shop: Aftermath, slept: list[float]) -> None:
    shop.happened(1, ago=2 * HOUR)
    shop.happened(2)
    break_calls(shop.api, 2, status=429)
    with pytest.raises(RateLimited):
        shop.backfill()
    assert 60 < sum(slept) < 3600
    assert shop.made() == both(1)


def test_a_call_that_retell_deleted_meanwhile_is_gone(shop: Aftermath) -> None:
    for number in (1, 2, 3):
        shop.happened(number)
    shop.api.faults.append(Meanwhile(act=lambda: shop.api.calls.pop("call_000002")))
    found = shop.backfill()
    assert found == report(looked_at=3, calls=2, events=4, gone=1)
    assert shop.made() == both(1, 3)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, None),
        (503, "<!doctype html>"),
        (400, None),
        (200, make_call(7)),
        (200, []),
        (200, "null"),
        (200, ""),
        (200, '{"call_id": "call_000002"'),
        (200, "<!doctype html>"),
        (200, '{"call_id": "call_000002", "metadata": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    ],
)
def test_a_call_that_cannot_be_fetched_is_in_nobodys_way(
    shop: Aftermath,
    slept: list[float],
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: Any,
) -> None:
    for number in (1, 2, 3):
        shop.happened(number, ago=2 * HOUR - timedelta(minutes=number))
    break_calls(shop.api, 2, status=status, body=body)
    found = shop.backfill()
    assert found == report(looked_at=3, calls=2, events=4, failed=1)
    assert shop.made() == both(1, 3)
    assert "'call_000002' could not be made up for" in caplog.text
    mend(shop.api)
    assert shop.backfill() == report(looked_at=3, calls=1, events=2)


def test_five_failures_in_a_row_are_enough(shop: Aftermath, slept: list[float]) -> None:
    for number in range(9):
        shop.happened(number, ago=2 * HOUR - timedelta(minutes=number))
    break_calls(shop.api, 1, 3, 4, 5, 6, 7)
    with pytest.raises(ApiError, match=r"5 calls in a row failed.*Broken"):
        shop.backfill()
    assert shop.made() == both(0, 2)
    assert "call_000008" not in shop.fetched()
    mend(shop.api)
    assert shop.backfill() == report(looked_at=9, calls=7, events=14)


@pytest.mark.parametrize("is_gone", [False, True])
def test_an_answer_in_between_ends_a_row_of_failures(
    shop: Aftermath, slept: list[float], is_gone: bool
) -> None:
    for number in range(6):
        shop.happened(number, ago=2 * HOUR - timedelta(minutes=number))
    break_calls(shop.api, 0, 1, 3, 4, 5)
    if is_gone:
        shop.api.faults.append(Meanwhile(act=lambda: shop.api.calls.pop("call_000002")))
    assert shop.backfill().failed == 5


@pytest.mark.parametrize(
    ("status", "error"), [(401, KeyRefused), (403, KeyRefused), (402, PaymentRequired)]
)
def test_what_no_call_would_change_stops_at_once(
    shop: Aftermath, status: int, error: type[ApiError]
) -> None:
    for number in (1, 2, 3):
        shop.happened(number, ago=2 * HOUR - timedelta(minutes=number))
    shop.api.faults += [Meanwhile(), Meanwhile(), Reply(status)]
    with pytest.raises(error):
        shop.backfill()
    assert shop.fetched() == ["call_000001", "call_000002"]
    assert shop.made() == both(1)
    assert shop.backfill().events == 4


@pytest.mark.parametrize("fault", [HTML_PAGE, WRONG_SHAPE, Reply(500), Reset(), HalfAnswer()])
@pytest.mark.parametrize("answers_before", range(4))
def test_a_later_run_completes_what_any_fault_left(
    shop: Aftermath, slept: list[float], fault: Fault, answers_before: int, captured: Capture
) -> None:
    for number in (1, 2, 3):
        shop.happened(number)
    shop.api.faults += [Meanwhile()] * answers_before + [fault] * 4
    with suppress(ApiError):
        shop.backfill()
    made = len(shop.made())
    mend(shop.api)
    assert shop.backfill().events == 6 - made
    assert sorted(shop.made()) == sorted(both(1, 2, 3))
    assert len(own(captured)) == 6


def test_a_list_that_breaks_off_leaves_what_was_made(shop: Aftermath, slept: list[float]) -> None:
    calls = [shop.happened(number) for number in range(1100)]
    fill(shop.inbox, (webhook(type_, call) for call in calls[1:-1] for type_ in ALL))
    shop.api.faults += [Meanwhile(), Meanwhile(), Reply(401)]
    with pytest.raises(KeyRefused):
        shop.backfill()
    assert shop.made() == both(0)
    assert shop.backfill() == report(looked_at=1100, calls=1, events=2)
    assert shop.made() == both(0, 1099)


def test_an_inbox_that_goes_away_leaves_what_was_made(
    shop: Aftermath, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.happened(1)
    shop.happened(2)
    add, events = shop.inbox.add_synthetic, iter(range(9))

    def add_some(event: Event, *names: Any) -> Any:
        if next(events) == 2:
            raise InboxError("It is away.")
        return add(event, *names)

    monkeypatch.setattr(shop.inbox, "add_synthetic", add_some)
    with pytest.raises(InboxError):
        shop.backfill()
    assert shop.made() == both(1)
    assert shop.backfill().events == 2
