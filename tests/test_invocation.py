from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask, current_app, g, has_request_context

from retell_flask import (
    Event,
    GiveUp,
    RetellBlueprint,
    Retry,
    call_ended,
    delivery_dead,
    delivery_failed,
    event_received,
)
from retell_flask.delivery import deliver_directly
from retell_flask.events import parse_event
from retell_flask.invocation import Invoker
from retell_flask.testing import capture, encode
from support import Post, call_payload

ENDED = call_payload("call_ended")


@pytest.fixture
def event() -> Event:
    return parse_event(encode(ENDED))


@pytest.fixture
def invoker(app: Flask, retell: RetellBlueprint) -> Invoker:
    return Invoker(app, retell)


def test_receivers_get_the_blueprint_and_the_event(
    retell: RetellBlueprint, invoker: Invoker, event: Event
) -> None:
    calls: list[Any] = []
    retell.on("call_ended")(lambda *arguments, **keywords: calls.append((arguments, keywords)))
    (outcome,) = deliver_directly(invoker, event)
    assert calls == [((retell,), {"event": event})]
    assert (outcome.signal, outcome.error, outcome.failed) == ("call_ended", None, False)


def test_signals_go_in_order_and_receivers_in_order_of_connection(
    retell: RetellBlueprint, invoker: Invoker, event: Event
) -> None:
    ran: list[str] = []
    for signal, name in [("call_ended", "b"), ("event_received", "a"), ("call_ended", "c")]:
        retell.on(signal, name=name)(lambda _, name=name, **extra: ran.append(name))
    outcomes = deliver_directly(invoker, event)
    assert ran == [outcome.receiver for outcome in outcomes] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(3), asyncio.CancelledError(), Retry(after=5)]
)
def test_a_failing_receiver_takes_no_neighbour_along(
    error: BaseException, retell: RetellBlueprint, invoker: Invoker, event: Event
) -> None:
    ran: list[str] = []

    @retell.on("call_ended", name="failing")
    def failing(sender: Any, **extra: Any) -> None:
        raise error

    retell.on("call_ended", name="next")(lambda _, **extra: ran.append("next"))
    outcomes = deliver_directly(invoker, event)
    assert ran == ["next"]
    assert [outcome.failed for outcome in outcomes] == [True, False]
    assert outcomes[0].error is error


def test_an_interrupt_is_no_failure_of_the_receiver(
    retell: RetellBlueprint, invoker: Invoker, event: Event
) -> None:
    @retell.on("call_ended")
    def interrupted(sender: Any, **extra: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deliver_directly(invoker, event)


def test_giving_up_is_logged_and_no_failure(
    retell: RetellBlueprint,
    invoker: Invoker,
    event: Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @retell.on("call_ended", name="quitter")
    def quitter(sender: Any, **extra: Any) -> None:
        raise GiveUp("no such customer")

    (outcome,) = deliver_directly(invoker, event)
    assert not outcome.failed
    assert "quitter gave up on call_ended of call_1: no such customer" in caplog.text
    assert caplog.records[0].exc_info is None


def test_each_receiver_has_an_app_context_of_its_own_and_no_request_context(
    retell: RetellBlueprint, app: Flask, post: Post
) -> None:
    seen: list[Any] = []
    leak = contextvars.ContextVar("leak", default="nothing")
    app.before_request(lambda: setattr(g, "user", "from the request"))
    app.before_request(lambda: leak.set("from the request") and None)

    def look(sender: Any, **extra: Any) -> None:
        seen.append((current_app.name, has_request_context(), g.get("user"), leak.get()))
        g.user = "from a receiver"
        leak.set("from a receiver")

    for name in ("first", "second"):
        retell.on("call_ended", name=name)(look if name == "first" else functools.partial(look))
    assert post(ENDED).status_code == 200
    assert seen == [("host", False, None, "nothing")] * 2


def test_teardown_runs_after_each_receiver_with_its_error(
    app: Flask, retell: RetellBlueprint, invoker: Invoker, event: Event
) -> None:
    torn: list[Any] = []
    app.teardown_appcontext(torn.append)

    @retell.on("call_ended", name="failing")
    def failing(sender: Any, **extra: Any) -> None:
        raise ValueError

    retell.on("call_ended", name="fine")(lambda _, **extra: None)
    deliver_directly(invoker, event)
    assert [type(error) for error in torn] == [ValueError, type(None)]


def test_coroutine_functions_are_awaited(
    retell: RetellBlueprint, invoker: Invoker, event: Event
) -> None:
    ran: list[str] = []

    async def function(sender: Any, *, name: str = "function", **extra: Any) -> None:
        await asyncio.sleep(0)
        ran.append(name)

    class Callable:
        async def method(self, sender: Any, **extra: Any) -> None:
            await function(sender, name="method")

        async def __call__(self, sender: Any, **extra: Any) -> None:
            await function(sender, name="object")

    partial = functools.partial(function, name="partial")
    for number, receiver in enumerate([function, partial, Callable(), Callable().method]):
        retell.on("call_ended", name=str(number))(receiver)
    assert [outcome.error for outcome in deliver_directly(invoker, event)] == [None] * 4
    assert ran == ["function", "partial", "object", "method"]


def test_muted_signals_are_not_delivered(
    retell: RetellBlueprint, invoker: Invoker, event: Event
) -> None:
    ran: list[str] = []
    retell.on("call_ended")(lambda _, **extra: ran.append("call_ended"))
    retell.on("event_received")(lambda _, **extra: ran.append("event_received"))
    with call_ended.muted():
        deliver_directly(invoker, event)
    assert ran == ["event_received"]


def test_a_failure_is_reported_and_giving_up_is_not(
    retell: RetellBlueprint, invoker: Invoker, event: Event
) -> None:
    error = ValueError("x")

    @retell.on("call_ended", name="failing")
    def failing(sender: Any, **extra: Any) -> None:
        raise error

    @retell.on("event_received", name="quitter")
    def quitter(sender: Any, **extra: Any) -> None:
        raise GiveUp

    with capture(delivery_failed, delivery_dead) as reports:
        deliver_directly(invoker, event)
    about = {"event": event, "receiver": "failing", "error": error, "attempt": 1, "retry_at": None}
    assert reports == [("delivery_failed", retell, event, about)]


def test_what_a_reports_receiver_raises_is_logged_and_swallowed(
    retell: RetellBlueprint,
    invoker: Invoker,
    event: Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @retell.on("call_ended")
    def failing(sender: Any, **extra: Any) -> None:
        raise ValueError

    @retell.on("delivery_failed", name="watcher")
    def watcher(sender: Any, **extra: Any) -> None:
        raise RuntimeError("broken watcher")

    assert len(deliver_directly(invoker, event)) == 1
    assert "watcher failed" in caplog.text


def test_one_line_per_outcome_with_structured_fields(
    retell: RetellBlueprint,
    invoker: Invoker,
    event: Event,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)

    @retell.on("call_ended", name="store")
    def store(sender: Any, **extra: Any) -> None: ...

    @retell.on("call_ended", name="bill")
    def bill(sender: Any, **extra: Any) -> None:
        raise Retry

    deliver_directly(invoker, event)
    done, failed = caplog.records
    assert done.getMessage() == "store handled call_ended of call_1"
    assert (done.levelname, failed.levelname) == ("INFO", "WARNING")
    assert failed.getMessage() == "bill wants call_ended of call_1 again"
    assert failed.exc_info is None
    assert (
        vars(done).items()
        >= {
            "retell_event_id": event.id,
            "retell_event_type": "call_ended",
            "retell_session_id": "call_1",
            "retell_receiver": "store",
            "retell_signal": "call_ended",
            "retell_attempt": 1,
        }.items()
    )
    assert vars(done)["retell_duration_ms"] >= 0


def test_row_13_a_senders_text_is_one_short_escaped_line(
    retell: RetellBlueprint, invoker: Invoker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    retell.on(event_received)(lambda _, **extra: None)
    deliver_directly(
        invoker,
        parse_event(encode(call_payload("x\r\n" * 500_000, call_id="\x1b[31mcall\r\nINFO fake"))),
    )
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert "\x1b" not in record.getMessage()
    assert len(record.getMessage()) < 1000


def test_an_event_that_nobody_listens_to_leaves_a_line(
    invoker: Invoker, event: Event, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert deliver_directly(invoker, event) == []
    assert "Nobody listens to call_ended of call_1" in caplog.text


def test_a_line_names_the_signal_where_it_is_not_the_type(
    retell: RetellBlueprint, invoker: Invoker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    retell.on("voicemail_detected", name="text")(lambda _, **extra: None)
    voicemail = call_payload("call_ended", disconnection_reason="voicemail_reached")
    deliver_directly(invoker, parse_event(encode(voicemail)))
    assert "text handled voicemail_detected (call_ended) of call_1" in caplog.text


def test_retry_takes_seconds_or_a_timedelta() -> None:
    assert Retry().after is None
    assert Retry(after=1.5).after == Retry(timedelta(seconds=1.5)).after
    with pytest.raises(TypeError, match="takes after="):
        Retry("later")  # type: ignore[arg-type]
