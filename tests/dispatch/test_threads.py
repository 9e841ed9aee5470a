from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from databases import rows
from retell_flask import Event, RetellBlueprint
from retell_flask.dispatch.threads import Threads
from retell_flask.errors import InboxError
from retell_flask.inbox.store import Inbox
from retell_flask.state import State
from support import PATH, Post, call_payload, make_app, make_post


@pytest.fixture
def app(retell: RetellBlueprint, tmp_path: Path) -> Iterator[Flask]:
    app = threaded_app(retell, tmp_path)
    yield app
    dispatcher(app).stop()
    assert not alive(app)


@pytest.fixture
def post(app: Flask) -> Post:
    return make_post(app)


def threaded_app(retell: RetellBlueprint, directory: Path, **options: Any) -> Flask:
    url = f"sqlite:///{directory}/inbox.sqlite3"
    defaults = {"RETELL_INBOX_URL": url, "RETELL_DISPATCH": "threads", "RETELL_WORKERS": 2}
    return make_app(retell, **{**defaults, **options})


def state(app: Flask) -> State:
    found: State = app.extensions["retell"]["retell"]
    return found


def dispatcher(app: Flask) -> Threads:
    found = state(app).dispatcher
    assert isinstance(found, Threads)
    return found


def inbox(app: Flask) -> Inbox:
    found = state(app).inbox
    assert found is not None
    return found


def alive(app: Flask) -> list[threading.Thread]:
    crew = dispatcher(app)._crew
    threads = crew._threads if crew else []
    return [thread for thread in threads if thread is not None and thread.is_alive()]


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def statuses(app: Flask) -> list[str]:
    return [row["status"] for row in rows(inbox(app).database)]


def deliveries(app: Flask) -> list[dict[str, Any]]:
    return rows(inbox(app).database, "retell_delivery")


def test_an_event_is_answered_and_then_delivered(
    app: Flask, retell: RetellBlueprint, post: Post
) -> None:
    released = threading.Event()
    heard: list[str] = []

    @retell.on("call_ended")
    def slow(sender: Any, event: Event, **extra: Any) -> None:
        released.wait(10)
        heard.append(event.type)

    assert post(call_payload("call_ended")).json == {"received": True}
    assert heard == []
    released.set()
    wait_until(lambda: statuses(app) == ["done"])
    assert heard == ["call_ended"]
    assert post(call_payload("call_ended")).json == {"received": True, "duplicate": True}


def test_nothing_starts_before_the_first_request(app: Flask) -> None:
    assert state(app)._dispatcher is None
    app.test_cli_runner().invoke(args=["routes"])
    assert state(app)._dispatcher is None


def test_any_request_of_the_application_starts_it(
    app: Flask, retell: RetellBlueprint, tmp_path: Path
) -> None:
    left_by_another = threaded_app(retell, tmp_path, RETELL_WORKERS=0)
    make_post(left_by_another)(call_payload("call_ended"))
    heard: list[str] = []
    retell.on("call_ended")(lambda _, event, **extra: heard.append(event.type))
    assert app.test_client().get("/no/such/page").status_code == 404
    wait_until(lambda: heard == ["call_ended"])
    assert len(alive(app)) == 2


def test_a_before_request_that_answers_keeps_nothing_from_starting(app: Flask) -> None:
    app.before_request(lambda: "please log in")
    app.test_client().get(PATH + "/health")
    assert len(alive(app)) == 2


def test_without_workers_nothing_runs_here(retell: RetellBlueprint, tmp_path: Path) -> None:
    app = threaded_app(retell, tmp_path, RETELL_WORKERS=0)
    make_post(app)(call_payload("call_ended"))
    assert alive(app) == []
    assert statuses(app) == ["pending"]


def test_events_of_several_calls_run_side_by_side(
    app: Flask, retell: RetellBlueprint, post: Post
) -> None:
    both = threading.Barrier(2, timeout=10)
    retell.on("call_ended")(lambda _, **extra: both.wait() and None)
    for number in range(2):
        post(call_payload("call_ended", call_id=f"call_{number}"))
    wait_until(lambda: statuses(app) == ["done"] * 2)


def test_a_retry_comes_by_itself(app: Flask, retell: RetellBlueprint, post: Post) -> None:
    attempts: list[int] = []

    @retell.on("call_ended")
    def again(sender: Any, event: Event, **extra: Any) -> None:
        attempts.append(event.attempt)
        if len(attempts) < 3:
            from retell_flask import Retry

            raise Retry(after=0)

    post(call_payload("call_ended"))
    wait_until(lambda: statuses(app) == ["done"])
    assert attempts == [1, 2, 3]


def test_stopping_lets_a_receiver_finish_and_gives_the_rest_back(
    app: Flask, retell: RetellBlueprint, post: Post
) -> None:
    began, released = threading.Event(), threading.Event()

    @retell.on("call_ended", name="first")
    def first(sender: Any, **extra: Any) -> None:
        began.set()
        released.wait(10)

    retell.on("call_ended", name="second")(lambda _, **extra: pytest.fail("was stopped"))
    post(call_payload("call_ended"))
    assert began.wait(10)
    threading.Timer(0.1, released.set).start()
    assert dispatcher(app).stop(seconds=10)
    assert statuses(app) == ["pending"]
    found = rows(inbox(app).database, "retell_delivery")
    assert [row["status"] for row in found] == ["done", "pending"]


def test_stopping_does_not_wait_for_ever(app: Flask, retell: RetellBlueprint, post: Post) -> None:
    began, released = threading.Event(), threading.Event()

    @retell.on("call_ended")
    def stubborn(sender: Any, **extra: Any) -> None:
        began.set()
        released.wait(10)

    post(call_payload("call_ended"))
    assert began.wait(10)
    assert not dispatcher(app).stop(seconds=0.1)
    released.set()


def test_an_outage_is_waited_out(
    app: Flask,
    retell: RetellBlueprint,
    post: Post,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("retell_flask.dispatch.threads._OUTAGE_PAUSE_SECONDS", 0.01)
    claim, outages = inbox(app).claim_due, [InboxError("gone"), ValueError("a bug")]

    def flaky(find_targets: Any) -> Any:
        if outages:
            raise outages.pop()
        return claim(find_targets)

    monkeypatch.setattr(inbox(app), "claim_due", flaky)
    retell.on("call_ended")(lambda _, **extra: None)
    post(call_payload("call_ended"))
    wait_until(lambda: statuses(app) == ["done"])
    assert "Deliveries stand still: gone" in caplog.text
    assert "A delivery was broken off" in caplog.text
    assert len(alive(app)) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_receiver_that_forks_leaves_no_second_worker(
    app: Flask, retell: RetellBlueprint, post: Post
) -> None:
    children: list[int] = []

    @retell.on("call_ended")
    def forks(sender: Any, **extra: Any) -> None:
        child = os.fork()
        if child:
            children.append(child)

    post(call_payload("call_ended"))
    wait_until(lambda: statuses(app) == ["done"])
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


class TimeOut(BaseException):
    """As those of gevent and eventlet are."""


def test_no_exception_of_a_handler_ends_a_thread(
    app: Flask, retell: RetellBlueprint, post: Post
) -> None:
    @retell.on("call_ended")
    def times_out(sender: Any, event: Event, **extra: Any) -> None:
        if event.attempt == 1:
            raise TimeOut

    for number in range(4):
        post(call_payload("call_ended", call_id=f"call_{number}"))
    wait_until(lambda: statuses(app) == ["pending"] * 4)
    wait_until(
        lambda: (
            [row["attempts"] for row in rows(inbox(app).database, "retell_delivery")] == [1] * 4
        )
    )
    assert len(alive(app)) == 2


def test_threads_that_cannot_start_are_no_matter_of_the_request(
    app: Flask,
    retell: RetellBlueprint,
    post: Post,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    retell.on("call_ended")(lambda _, **extra: None)
    with monkeypatch.context() as patch:

        def refuse(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        assert post(call_payload("call_ended")).json == {"received": True}
    assert "cannot be started" in caplog.text
    assert alive(app) == []
    assert app.test_client().get(PATH + "/health").status_code == 200
    wait_until(lambda: statuses(app) == ["done"])
    assert len(alive(app)) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_connections_and_threads_of_its_own(
    app: Flask, retell: RetellBlueprint, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    retell.on("call_ended")(lambda _, **extra: None)
    post(call_payload("call_ended", call_id="parent"))
    wait_until(lambda: statuses(app) == ["done"])
    child = os.fork()
    if not child:  # no assertion may leave this branch
        try:
            post(call_payload("call_ended", call_id="child"))
            wait_until(lambda: statuses(app) == ["done"] * 2)
            os._exit(0 if len(alive(app)) == 2 else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    post(call_payload("call_ended", call_id="parent again"))
    wait_until(lambda: statuses(app) == ["done"] * 3)
