from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask

from retell_flask import Event, GiveUp, RetellBlueprint
from retell_flask.testing import InboxView, RetellTestClient
from support import Post, call_payload, make_app

ENDED = call_payload("call_ended")
RECEIVED = {"received": True}
DUPLICATE = {"received": True, "duplicate": True}
FAILED = {"error": "Receiver failed"}


def test_receivers_run_before_the_answer(
    retell: RetellBlueprint, post: Post, retell_inbox: InboxView
) -> None:
    ran: list[str] = []
    retell.on("call_ended")(lambda _, event, **extra: ran.append(event.type))
    assert post(ENDED).json == RECEIVED
    assert (ran, retell_inbox.statuses()) == (["call_ended"], {"call_ended": ["done"]})
    assert post(ENDED).json == DUPLICATE
    assert ran == ["call_ended"]


def test_the_next_attempt_of_retells_runs_only_what_is_not_done(
    retell: RetellBlueprint, post: Post, retell_inbox: InboxView
) -> None:
    ran: list[str] = []

    @retell.on("call_ended", name="failing")
    def failing(sender: Any, event: Event, **extra: Any) -> None:
        ran.append(f"failing {event.attempt}")
        if event.attempt == 1:
            raise ValueError

    retell.on("call_ended", name="fine")(lambda _, **extra: ran.append("fine"))
    first, second, third = post(ENDED), post(ENDED), post(ENDED)
    assert (first.status_code, first.json) == (500, FAILED)
    assert (second.status_code, second.json) == (200, DUPLICATE)
    assert third.json == DUPLICATE
    assert ran == ["failing 1", "fine", "failing 2"]
    assert retell_inbox.statuses() == {"call_ended": ["done"]}


def test_an_event_that_is_dead_is_answered_200(
    retell: RetellBlueprint, post: Post, retell_inbox: InboxView
) -> None:
    @retell.on("call_ended")
    def quitter(sender: Any, **extra: Any) -> None:
        raise GiveUp("for good")

    assert post(ENDED).json == RECEIVED
    assert post(ENDED).json == DUPLICATE
    assert retell_inbox.statuses() == {"call_ended": ["dead"]}


def test_it_waits_for_no_order(retell: RetellBlueprint, post: Post) -> None:
    ran: list[str] = []
    retell.on("event_received")(lambda _, event, **extra: ran.append(event.type))
    for type_ in ("call_analyzed", "call_ended", "call_started"):
        assert post(call_payload(type_)).status_code == 200
    assert ran == ["call_analyzed", "call_ended", "call_started"]


def test_another_of_the_call_that_runs_is_503_and_stored_all_the_same(
    retell: RetellBlueprint, post: Post, retell_inbox: InboxView
) -> None:
    began, released = threading.Event(), threading.Event()
    ran: list[str] = []

    @retell.on("call_started")
    def slow(sender: Any, **extra: Any) -> None:
        began.set()
        released.wait(10)

    retell.on("call_ended")(lambda _, **extra: ran.append("ended"))
    answers: list[int] = []
    request = threading.Thread(
        target=lambda: answers.append(post(call_payload("call_started")).status_code)
    )
    request.start()
    assert began.wait(10)
    twin, other = post(call_payload("call_started")), post(ENDED)
    released.set()
    request.join()
    for busy in (twin, other):
        assert (busy.status_code, busy.headers["Retry-After"]) == (503, "10")
        assert busy.json == {"error": "Delivery is under way"}
    assert (answers, ran) == ([200], [])
    assert retell_inbox.statuses() == {"call_started": ["done"], "call_ended": ["pending"]}
    assert post(ENDED).json == DUPLICATE
    assert ran == ["ended"]


def test_an_event_nobody_listens_to_is_received(post: Post, retell_inbox: InboxView) -> None:
    assert post(ENDED).json == RECEIVED
    assert retell_inbox.statuses() == {"call_ended": ["done"]}


class TestWithoutAnInbox:
    @pytest.fixture
    def app(self, retell: RetellBlueprint) -> Flask:
        return make_app(retell, RETELL_INBOX_URL="")

    def test_every_receiver_runs_on_every_delivery(
        self, retell: RetellBlueprint, post: Post
    ) -> None:
        ran: list[str] = []

        @retell.on("call_ended", name="failing")
        def failing(sender: Any, **extra: Any) -> None:
            ran.append("failing")
            raise ValueError

        retell.on("call_ended", name="fine")(lambda _, **extra: ran.append("fine"))
        for _ in range(2):
            response = post(ENDED)
            assert (response.status_code, response.json) == (500, FAILED)
        assert ran == ["failing", "fine"] * 2

    def test_outcomes_fire_for_each_event_that_carries_them(
        self, retell: RetellBlueprint, post: Post
    ) -> None:
        ran: list[str] = []
        retell.on("voicemail_detected")(lambda _, event, **extra: ran.append(event.type))
        post(call_payload("call_ended", disconnection_reason="voicemail_reached"))
        post(call_payload("call_analyzed", call_analysis={"in_voicemail": True}))
        assert ran == ["call_ended", "call_analyzed"]

    def test_giving_up_is_only_logged(
        self, retell: RetellBlueprint, post: Post, caplog: pytest.LogCaptureFixture
    ) -> None:
        @retell.on("call_ended")
        def quitter(sender: Any, **extra: Any) -> None:
            raise GiveUp("for good")

        assert post(ENDED).json == RECEIVED
        assert "for good" in caplog.text

    def test_health_is_good(self, app: Flask) -> None:
        response = app.test_client().get("/webhooks/retellai/health")
        assert (response.status_code, response.json) == (200, {"status": "ok"})

    def test_an_invalid_event_is_400(self, post: Post) -> None:
        assert post(b"[]").status_code == 400


def test_two_apps_of_a_test_share_nothing(retell: RetellBlueprint) -> None:
    first, second = make_app(retell), make_app(retell)
    assert RetellTestClient(first).post(ENDED).json == RECEIVED
    assert RetellTestClient(second).post(ENDED).json == RECEIVED
