from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask import Flask

from retell_flask import (
    ConfigurationError,
    GiveUp,
    InboundAnswer,
    RetellBlueprint,
    Retry,
)
from retell_flask.testing import MadeToFail, RetellTestClient, sample, scenario_names, sign
from retell_flask.testing.payloads import function_request
from retell_flask.testing.rehearsal import read_scenario
from support import make_app


class Handlers:
    """What is connected, and what it was called with."""

    def __init__(self, retell: RetellBlueprint) -> None:
        self.billed: list[Any] = []
        self.noted: list[Any] = []
        self.errors: list[BaseException] = []

        @retell.on("call_ended", name="bill")
        def bill(sender: Any, event: Any, **extra: Any) -> None:
            self.billed.append(event)
            if self.errors:
                raise self.errors.pop(0)

        @retell.on("event_received", name="note")
        def note(sender: Any, event: Any, **extra: Any) -> None:
            self.noted.append(event)

        self.bill = bill


@pytest.fixture
def handlers(retell: RetellBlueprint) -> Handlers:
    return Handlers(retell)


@pytest.fixture(params=["inline", "threads", "none"])
def any_app(request: pytest.FixtureRequest, retell: RetellBlueprint) -> Flask:
    if request.param == "none":
        return make_app(retell, RETELL_INBOX_URL="none")
    return make_app(retell, RETELL_DISPATCH=request.param)


@pytest.fixture
def client(app: Flask, handlers: Handlers) -> Iterator[RetellTestClient]:
    with RetellTestClient(app) as client:
        yield client


def test_the_receivers_ran_when_send_returns(any_app: Flask, handlers: Handlers) -> None:
    client = RetellTestClient(any_app)
    sent = client.send("call_ended", duration_ms=90_000)
    assert sent.response.json == {"received": True}
    assert [(run.signal, run.receiver, run.error) for run in sent.runs] == [
        ("event_received", "note", None),
        ("call_ended", "bill", None),
    ]
    assert handlers.billed[0].call.duration == timedelta(seconds=90)
    assert handlers.billed[0].id == sent.event.id  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [ValueError("why"), Retry(), GiveUp("why"), SystemExit(3)])
def test_what_a_receiver_raised_is_raised(
    any_app: Flask, handlers: Handlers, error: BaseException
) -> None:
    handlers.errors = [error, error]
    client = RetellTestClient(any_app)
    with pytest.raises(type(error)) as raised:
        client.send("call_ended")
    assert raised.value is error
    sent = client.send("call_ended", call_id="another", check=False)
    assert [run.error for run in sent.runs] == [None, error]


def test_events_run_without_order_or_backoff(client: RetellTestClient, handlers: Handlers) -> None:
    handlers.errors = [ValueError("once")]
    client.send("call_analyzed")
    client.send("call_ended", check=False)
    client.send("call_ended")
    client.send("call_started")
    assert [event.type for event in handlers.noted] == [
        *("call_analyzed", "call_ended", "call_started"),
    ]
    assert len(handlers.billed) == 2
    assert {status for (status,) in client.inbox.statuses().values()} == {"done"}


def test_twins_and_repeats_are_one_event(client: RetellTestClient, handlers: Handlers) -> None:
    assert not client.send("call_ended", twins=3).is_duplicate
    assert client.send("call_ended").is_duplicate
    assert client.inbox.statuses() == {"call_ended": ["done"]}
    assert len(handlers.billed) == 1


def test_each_client_tells_of_calls_of_its_own(app: Flask, handlers: Handlers) -> None:
    for _ in range(2):
        client = RetellTestClient(app)
        for name in ("call_started", "call_ended", "chat_ended", "alert_triggered"):
            assert not client.send(name).is_duplicate
        assert set(client.inbox.statuses()) == {
            *("call_started", "call_ended", "chat_ended", "alert_triggered"),
        }
    assert len({event.session_id for event in handlers.billed}) == 2


def test_an_answer_that_is_no_success_is_raised(client: RetellTestClient) -> None:
    with pytest.raises(AssertionError, match=r"The answer was 400 BAD REQUEST: .*needs a 'call'"):
        client.send({"event": "call_ended"})
    assert client.send({"event": "call_ended"}, check=False).event is None
    assert client.send({"event": "brand_new", "call": {"call_id": "c"}}).response.json


def test_post_signs_as_it_is_told_to(client: RetellTestClient, app: Flask) -> None:
    body = sample("call_ended")
    stale = client.post(body, timestamp_ms=1_700_000_000_000)
    answers = [
        *(stale, client.post(body, key="another"), client.post(body, header="")),
        client.post(b"{}", header=sign(b"{}", "x")),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert client.post(body).status_code == 200
    assert client.post(body, "/health", method="GET").json == {"status": "ok"}


def test_plain_signatures_are_made_with_the_secret(retell: RetellBlueprint) -> None:
    client = RetellTestClient(make_app(retell, RETELL_WEBHOOK_SECRET="s"))
    assert client.post(sample("call_ended"), scheme="plain").status_code == 200


def test_retries_are_seen_to_the_end_without_waiting(
    client: RetellTestClient, handlers: Handlers
) -> None:
    began = client.clock.now
    with client.failing("bill", times=3):
        client.send("call_ended", check=False)
        runs = client.drain()
    assert [type(run.error) for run in runs] == [MadeToFail, MadeToFail, type(None)]
    (delivery,) = [
        each for each in client.inbox.deliveries(handlers.billed[0]) if each.attempts > 1
    ]
    assert (delivery.receiver, delivery.status.value, delivery.attempts) == ("bill", "done", 4)
    assert timedelta(seconds=15) <= client.clock.now - began <= timedelta(hours=1)


def test_a_receiver_that_dies_is_raised_once(client: RetellTestClient, handlers: Handlers) -> None:
    with client.failing(handlers.bill, error=ZeroDivisionError("why")):
        client.send("call_ended", check=False)
        with pytest.raises(ZeroDivisionError, match="why"):
            client.drain()
        assert client.drain() == []
    assert client.inbox.statuses() == {"call_ended": ["dead"]}
    assert handlers.billed == []


def test_drain_goes_as_far_as_it_is_told(client: RetellTestClient, handlers: Handlers) -> None:
    now = client.clock.freeze(datetime(2026, 12, 24, 18, tzinfo=timezone.utc))
    handlers.errors = [Retry(after=1200)]
    client.send("call_ended", check=False)
    assert client.drain("0s") == []
    handlers.errors = [Retry(after=3600)]
    assert len(client.drain(until=now + timedelta(minutes=30))) == 1
    assert client.clock.now == now + timedelta(minutes=30)
    assert client.drain("49m") == []
    assert [run.error for run in client.drain("2m")] == [None]


def test_drain_keeps_a_call_in_order(client: RetellTestClient, handlers: Handlers) -> None:
    client.clock.freeze()
    with client.failing("note", times=1):
        client.send("call_started", check=False)
    with client.failing("bill", "note", times=2):
        client.send("call_ended", check=False)
    client.drain()
    assert [event.type for event in handlers.noted] == ["call_started", "call_ended"]


def test_a_frozen_clock_times_receipts(client: RetellTestClient) -> None:
    at = client.clock.freeze(datetime(2026, 1, 31, tzinfo=timezone.utc))
    client.send("call_started")
    client.clock.move("24h")
    client.send("call_ended")
    times = [entry.received_at for entry in client.inbox.entries()]
    assert times == [at, at + timedelta(days=1)]
    with pytest.raises(ValueError, match="aware datetime"):
        client.clock.freeze(datetime(2026, 1, 31))  # noqa: DTZ001
    client.close()
    assert client.clock.now > times[1]


@pytest.mark.parametrize("name", scenario_names())
def test_a_whole_call_leaves_the_inbox_as_its_scenario_says(
    client: RetellTestClient, name: str
) -> None:
    sent = client.send_call(name, check=name != "function")
    assert client.inbox.statuses() == read_scenario(name).inbox
    assert len({one.event.call.call_id for one in sent if one.event and one.event.call}) == 1


def test_a_whole_call_goes_on_as_the_inbound_handler_said(
    client: RetellTestClient, retell: RetellBlueprint, handlers: Handlers
) -> None:
    answers = [
        InboundAnswer(override_agent_id="agent_vip", dynamic_variables={"name": "Ada"}),
        InboundAnswer(reject=True),
    ]
    retell.inbound(lambda inbound: answers.pop(0))
    client.send_call("inbound", from_number="+14155550199")
    call = handlers.billed[0].call
    assert (call.agent_id, call.from_number) == ("agent_vip", "+14155550199")
    assert call.retell_llm_dynamic_variables == {"name": "Ada"}
    assert len(client.send_call("inbound")) == 1


def test_inbound_handlers_and_functions_answer(
    client: RetellTestClient, retell: RetellBlueprint
) -> None:
    @retell.inbound("call")
    def take(inbound: Any) -> InboundAnswer:
        return InboundAnswer(metadata={"from": inbound.from_number})

    @retell.inbound("message")
    def read(message: Any) -> Any:
        raise LookupError

    @retell.function
    def book(day: str) -> Any:
        return {"booked": day} if day != "never" else 1 / 0

    assert client.ask_inbound(from_number="+14155550199") == {"metadata": {"from": "+14155550199"}}
    with pytest.raises(AssertionError, match=r"did not answer \(failed\)"):
        client.ask_inbound("message")
    assert client.ask_inbound("message", check=False) == {}
    assert client.call_function("book", {"day": "monday"}) == {"booked": "monday"}
    assert "arguments do not fit" in client.call_function("book", {"when": 1})
    with pytest.raises(AssertionError, match="500 INTERNAL SERVER ERROR"):
        client.call_function("book", {"day": "never"})


def test_a_client_needs_testing_a_blueprint_and_for_some_things_an_inbox(
    retell: RetellBlueprint,
) -> None:
    with pytest.raises(RuntimeError, match=r"app\.testing = True"):
        RetellTestClient(make_app(retell, TESTING=False, RETELL_INBOX_URL="none"))
    with pytest.raises(ConfigurationError, match="No RetellBlueprint is registered"):
        RetellTestClient(make_app())
    another = RetellBlueprint("sales", url_prefix="/sales")
    both = make_app(retell, another, RETELL_INBOX_URL="none")
    with pytest.raises(ConfigurationError, match="of retell, sales"):
        RetellTestClient(both)
    assert RetellTestClient(both, another).send("call_ended").response.json
    with pytest.raises(ConfigurationError, match="no inbox"):
        RetellTestClient(both, "sales").drain()


def test_no_threads_are_started(retell: RetellBlueprint, handlers: Handlers) -> None:
    before = set(threading.enumerate())
    RetellTestClient(make_app(retell, RETELL_DISPATCH="threads")).send("call_ended")
    begun = {thread.name for thread in set(threading.enumerate()) - before}
    assert not any(name.startswith("retell-worker") for name in begun)


def test_results_of_functions_are_kept_by_the_frozen_clock(
    client: RetellTestClient, retell: RetellBlueprint
) -> None:
    runs: list[str] = []

    @retell.function
    def book(day: str) -> int:
        runs.append(day)
        return len(runs)

    request = function_request("book", {"day": "monday"})
    for span, result in (("0s", 1), ("23h", 1), ("2h", 2)):
        client.clock.move(span)
        assert client.post(request, "/functions/book").json == result
