from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from retell.lib.webhook_auth import symmetric

from retell_flask import (
    ConfigurationError,
    GiveUp,
    InboundAnswer,
    RetellBlueprint,
    Retry,
)
from retell_flask.testing import HEADER, MadeToFail, RetellTestClient, sample, scenario_names, sign
from retell_flask.testing.payloads import function_request
from retell_flask.testing.rehearsal import read_scenario
from support import KEY, make_app


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


def test_another_version_of_an_event_is_a_revision(
    client: RetellTestClient, handlers: Handlers
) -> None:
    client.send("call_ended")
    assert client.send("call_ended", duration_ms=1).event.revision == 1  # type: ignore[union-attr]
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


def test_plain_signatures_are_made_with_the_secret(retell: RetellBlueprint, app: Flask) -> None:
    with pytest.raises(ConfigurationError, match="RETELL_WEBHOOK_SECRET is not set"):
        RetellTestClient(app).post(b"{}", scheme="plain")
    retell = RetellBlueprint()
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


def test_a_receiver_that_is_not_connected_cannot_be_made_to_fail(
    client: RetellTestClient,
) -> None:
    with pytest.raises(ValueError, match=r"'bil' is connected to no signal. Is 'bill' meant\?"):
        client.failing("bil")
    with pytest.raises(ValueError, match="support:make_app"):
        client.failing(make_app)


def test_captures_neither_fail_nor_count(client: RetellTestClient, handlers: Handlers) -> None:
    with client.capture() as captured, client.failing(times=2):
        sent = client.send("call_ended", check=False)
    assert [(run.receiver, bool(run.error)) for run in sent.runs] == [
        *(("note", True), ("bill", True)),
    ]
    assert captured.signals.count("call_ended") == 1


def test_what_one_test_leaves_is_none_of_the_next(app: Flask, handlers: Handlers) -> None:
    with RetellTestClient(app) as client, client.failing():
        client.send("call_ended", check=False)
    with RetellTestClient(app) as another:
        assert another.drain() == []
        assert another.inbox.entries() == []


def test_apps_leave_nothing_behind(retell: RetellBlueprint, handlers: Handlers) -> None:
    gone = []
    before = set(threading.enumerate())
    for _ in range(3):
        app = make_app(retell)
        with RetellTestClient(app) as client:
            client.send("call_ended")
        gone.append(weakref.ref(app))
        del app, client
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


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


def test_clients_within_each_other_leave_the_others_clock_alone(
    client: RetellTestClient, app: Flask
) -> None:
    inner = RetellTestClient(app)
    later = client.clock.move("100d")
    inner.close()
    assert inner.clock.now == client.clock.now == later
    with RetellTestClient(app) as another:
        another.clock.move("1d")
    assert client.clock.now == later
    client.send("call_ended")
    assert client.inbox.entries()[-1].received_at == later


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
    asked = []
    retell.inbound(lambda inbound: (asked.append(inbound), answers.pop(0))[1])
    client.send_call("inbound", from_number="+14155550199", **{"call.call_id": "call_7"})
    call = handlers.billed[0].call
    assert (call.agent_id, call.from_number) == ("agent_vip", "+14155550199")
    assert call.call_id == asked[0].call_id == "call_7"
    assert asked[0].from_number == "+14155550199"
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
    with pytest.raises(LookupError):
        client.ask_inbound("message")
    with pytest.raises(LookupError):
        client.send("chat_inbound")
    assert client.ask_inbound("message", check=False) == {}
    assert client.call_function("book", {"day": "monday"}) == {"booked": "monday"}
    assert "arguments do not fit" in client.call_function("book", {"when": 1})
    with pytest.raises(ZeroDivisionError):
        client.call_function("book", {"day": "never"})
    with pytest.raises(AssertionError, match="404 NOT FOUND"):
        client.call_function("cancel")
    with pytest.raises(ZeroDivisionError):
        client.send("custom_function", name="book", **{"args.day": "never"})


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
    with pytest.raises(ConfigurationError, match="no inbox here: RETELL_INBOX_URL"):
        RetellTestClient(both, "sales").drain()


def test_an_inbox_that_was_opened_before_testing_is_refused(
    retell: RetellBlueprint, tmp_path: Path
) -> None:
    app = Flask("host", instance_path=str(tmp_path))
    app.config["RETELL_API_KEY"] = "k"
    app.register_blueprint(retell)
    assert app.test_client().get("/webhooks/retellai/health").status_code == 200
    app.testing = True
    with pytest.raises(RuntimeError, match="before the first request"):
        RetellTestClient(app)
    app.extensions["retell"]["retell"].dispatcher.stop()


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


def test_the_sdk_accepts_what_the_client_signs(client: RetellTestClient, app: Flask) -> None:
    accepted = []

    def verify() -> None:
        body, header = request.get_data(as_text=True), request.headers[HEADER]
        accepted.append(symmetric["verify"](body, KEY, header))

    app.before_request(verify)
    client.send_call("completed")
    client.send("call_ended_non_latin", call_id="another")
    assert accepted == [True] * 5
