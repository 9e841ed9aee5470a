"""Receivers on a Celery cluster: real brokers, real workers, and an inbox on PostgreSQL."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from flask import Flask

import celeryapp
from databases import empty
from retell_flask import ConfigurationError, RetellBlueprint, parse_event
from retell_flask.dispatch.broker import PATIENCE_SECONDS
from retell_flask.dispatch.celery import DELIVER, CeleryDispatcher, deliver
from retell_flask.inbox.entry import EntryStatus
from retell_flask.inbox.maintenance import Query, search
from retell_flask.state import State
from retell_flask.testing import RetellTestClient, encode
from servers import eventually
from services import require_service
from support import KEY, Post, call_payload, make_app, make_post

HERE = Path(__file__).parent.parent
BROKERS = {
    "Redis": "redis://127.0.0.1:6379/9",
    "RabbitMQ": "amqp://guest:guest@127.0.0.1:5672//",
}


@dataclass
class Cluster:
    """The web application, and what its workers need to be of it."""

    app: Flask
    environment: dict[str, str]
    journal: Path

    @property
    def state(self) -> State:
        return self.app.extensions["retell"]["retell"]

    @property
    def dispatcher(self) -> CeleryDispatcher:
        dispatcher = self.state.dispatcher
        assert isinstance(dispatcher, CeleryDispatcher)
        return dispatcher

    @property
    def post(self) -> Post:
        return make_post(self.app)

    def statuses(self) -> list[str]:
        assert self.state.inbox is not None
        return [entry.status.value for entry in search(self.state.inbox, Query())]

    def wait(self, count: int, *, sweeping: bool = False, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while self.statuses() != [EntryStatus.DONE.value] * count:
            assert time.monotonic() < deadline, self.statuses()
            if sweeping:
                self.dispatcher.sweep()
            time.sleep(0.1)


@pytest.fixture(params=BROKERS)
def cluster(
    request: pytest.FixtureRequest,
    postgresql_url: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Cluster]:
    require_service(request.param)
    url, queue = postgresql_url(), f"retell_{uuid.uuid4().hex[:12]}"
    empty(url)
    options = {
        "RETELL_API_KEY": KEY,
        "RETELL_INBOX_URL": url,
        "RETELL_CELERY_QUEUE": queue,
        "RETELL_LEASE": "2s",
        "BROKER": BROKERS[request.param],
        "JOURNAL": str(tmp_path / "journal"),
    }
    for name, value in options.items():
        monkeypatch.setenv(name, value)
    app = celeryapp.create_app()
    cluster = Cluster(app, {**os.environ, "PYTHONPATH": str(HERE)}, tmp_path / "journal")
    yield cluster
    with app.extensions["celery"].connection_for_write() as connection:
        connection.default_channel.queue_delete(queue)
    assert cluster.state.inbox is not None
    cluster.state.inbox.database.dispose()


@pytest.fixture
def start_worker(cluster: Cluster) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    workers: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-A", "celery_worker:celery_app", "worker"]
        own = ["--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        queues = ["-Q", cluster.environment["RETELL_CELERY_QUEUE"], "--loglevel=INFO"]
        log = cluster.journal.parent / f"worker-{len(workers)}.log"
        with log.open("wb") as file:
            workers.append(
                subprocess.Popen(
                    [*command, *own, *queues, *options],
                    cwd=HERE,
                    env=cluster.environment,
                    stdout=file,
                    stderr=file,
                )
            )
        eventually(lambda: " ready." in log.read_text("utf-8"), 90, what="the worker is ready")
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()  # it has nothing to lose
        worker.wait(20)


StartWorker = Callable[..., "subprocess.Popen[bytes]"]


def test_calls_are_delivered_by_a_worker_in_order(
    cluster: Cluster, start_worker: StartWorker
) -> None:
    start_worker()
    types = ["call_started", "call_ended", "call_analyzed"]
    for number in range(10):
        for type_ in types:
            answer = cluster.post(call_payload(type_, call_id=f"call_{number}"))
            assert (answer.status_code, answer.json) == (200, {"received": True})
    cluster.wait(30)
    lines = [line.split() for line in cluster.journal.read_text().splitlines()]
    assert len(lines) == 40


def test_the_workers_that_take_our_messages_are_found(
    cluster: Cluster, start_worker: StartWorker
) -> None:
    start_worker("-Q", "another", "-n", "other@%h")
    assert cluster.dispatcher.find_workers() == []
    start_worker("-n", "ours@%h")
    deadline = time.monotonic() + 30
    while not (found := cluster.dispatcher.find_workers()):
        assert time.monotonic() < deadline
    assert [name.partition("@")[0] for name in found] == ["ours"]


def test_what_has_no_message_is_sent_by_the_sweep_once(
    cluster: Cluster, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.dispatcher, "send", lambda entry_id: None)  # as if it were lost
    for number in range(20):
        cluster.post(call_payload("call_started", call_id=f"call_{number}"))
    assert cluster.dispatcher.sweep() == 0  # it may be on its way
    time.sleep(2.1)
    assert [cluster.dispatcher.sweep() for _ in range(3)] == [20, 0, 0]
    start_worker()
    cluster.wait(20, sweeping=True)  # messages live as long as a lease
    assert cluster.dispatcher.sweep() == 0


def test_a_message_that_comes_twice_changes_nothing(
    cluster: Cluster, start_worker: StartWorker
) -> None:
    cluster.post(call_payload("call_started"))
    (entry,) = search(cluster.state.inbox, Query())  # type: ignore[arg-type]
    start_worker()
    for _ in range(5):
        cluster.dispatcher.send(entry.id)
    cluster.wait(1)
    time.sleep(0.5)
    assert len(cluster.journal.read_text().splitlines()) == 1


def test_a_retry_is_due_when_the_inbox_says_so(
    cluster: Cluster, start_worker: StartWorker
) -> None:
    start_worker()
    cluster.post(call_payload("call_ended", agent_id="fails_once"))
    cluster.wait(1, sweeping=True)
    assert len(cluster.journal.read_text().splitlines()) == 2


def test_a_broker_that_is_silent_holds_no_receipt_up(
    postgresql_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql_url()
    empty(url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("BROKER", f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        app = celeryapp.create_app(RETELL_API_KEY=KEY, RETELL_INBOX_URL=url)
        post = make_post(app)
        took = []
        for number in range(5):
            began = time.monotonic()
            answer = post(call_payload("call_started", call_id=f"call_{number}"))
            took.append(time.monotonic() - began)
            assert answer.status_code == 200
        assert sum(took) < PATIENCE_SECONDS  # and not five times that
    state = app.extensions["retell"]["retell"]
    state.dispatcher.begin_anew()  # or its thread goes on trying, and complains in other tests
    state.inbox.database.dispose()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"RETELL_INBOX_URL": "sqlite://"}, "keeps events in the memory of this one"),
        ({"RETELL_INBOX_URL": "none"}, "which needs an inbox"),
    ],
)
def test_what_celery_cannot_do_is_refused_at_registration(
    options: dict[str, str], text: str, retell: RetellBlueprint
) -> None:
    with pytest.raises(ConfigurationError, match=text):
        make_app(retell, RETELL_DISPATCH="celery", **options)


def test_an_app_without_celery_keeps_what_it_cannot_have_delivered(
    retell: RetellBlueprint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/inbox.sqlite3"
    app = make_app(retell, RETELL_DISPATCH="celery", RETELL_INBOX_URL=url)
    assert make_post(app)(call_payload("call_ended")).status_code == 200
    deadline = time.monotonic() + 5
    while "is no Celery app" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "is no Celery app" in caplog.text
    with pytest.raises(ConfigurationError, match=r"app.extensions\['celery'\] is no Celery app"):
        app.extensions["retell"]["retell"].dispatcher.check()
    app.extensions["retell"]["retell"].inbox.database.dispose()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"accept_content": ["pickle"]}, "Celery's accept_content leaves 'json' out"),
        ({"accept_content": ["application/json"]}, ""),
        ({"accept_content": ["nosuch"]}, "accept_content or task_serializer"),
        ({"task_always_eager": True}, "the web server would run the tasks itself"),
        ({"broker_url": "nosuch://"}, "broker_url cannot be used here"),
        ({"result_backend": "nosuch://"}, "result_backend cannot be used here"),
        ({"task_routes": (lambda name, args, *_: args[0],)}, "task_routes cannot route"),
        ({"task_create_missing_queues": False}, "RETELL_CELERY_QUEUE names a queue that Celery's"),
        ({"task_routes": {DELIVER: {"exchange": "x", "routing_key": "y"}}}, ""),
    ],
)
def test_settings_of_celery_that_would_lose_messages_are_found(
    options: dict[str, Any], text: str, retell: RetellBlueprint, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/inbox.sqlite3"
    own = {"RETELL_DISPATCH": "celery", "RETELL_CELERY_QUEUE": "retell"}
    app = make_app(retell, RETELL_INBOX_URL=url, **own)
    app.extensions["celery"] = Celery("shop", broker="memory://")
    app.extensions["celery"].conf.update(options)
    dispatcher = app.extensions["retell"]["retell"].dispatcher
    if text:
        with pytest.raises(ConfigurationError, match=text):
            dispatcher.check()
    else:
        assert dispatcher.check() is app.extensions["celery"]
    app.extensions["retell"]["retell"].inbox.database.dispose()


@pytest.fixture
def dispatcher(retell: RetellBlueprint, tmp_path: Path) -> Iterator[CeleryDispatcher]:
    """With a broker in memory."""
    options = {"RETELL_INBOX_URL": f"sqlite:///{tmp_path}/inbox.sqlite3", "RETELL_LEASE": "1s"}
    app = make_app(retell, RETELL_DISPATCH="celery", **options)
    app.extensions["celery"] = Celery("shop", broker="memory://", set_as_current=False)
    with app.app_context():
        yield app.extensions["retell"]["retell"].dispatcher
    app.extensions["retell"]["retell"].inbox.database.dispose()


def add_unsent(dispatcher: CeleryDispatcher, count: int) -> list[int]:
    """Entries of which nobody was told in a lease's time."""
    inbox = dispatcher._inbox
    long_ago = inbox.clock() - timedelta(minutes=1)
    bodies = [encode(call_payload("call_started", call_id=f"call_{n}")) for n in range(count)]
    return [inbox.add(parse_event(body, received_at=long_ago)).entry_id for body in bodies]


def test_what_a_sweep_cannot_send_the_next_one_sends(
    dispatcher: CeleryDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_ids = add_unsent(dispatcher, 3)
    sent: list[int] = []

    @contextmanager
    def producing() -> Iterator[Callable[[int], None]]:
        def send(entry_id: int) -> None:
            if len(sent) == 1:
                sent.append(0)
                raise OSError("the broker is full")
            sent.append(entry_id)

        yield send

    monkeypatch.setattr(dispatcher, "_producing", producing)
    with pytest.raises(OSError, match="full"):
        dispatcher.sweep()
    assert dispatcher.sweep() == 2
    assert sorted(sent) == [0, *entry_ids]


def test_a_busy_worker_sweeps_where_nobody_else_does(
    dispatcher: CeleryDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retell_flask.dispatch.celery._random.uniform", lambda low, high: high)
    entry_ids = add_unsent(dispatcher, 2)
    dispatcher.deliver(entry_ids[0])
    assert dispatcher.sweep() == 1
    monkeypatch.setattr("retell_flask.dispatch.celery._SWEEP_SECONDS", 0)
    (another,) = add_unsent(dispatcher, 3)[2:]
    dispatcher.deliver(another)
    assert dispatcher.sweep() == 0


def test_a_process_that_ends_after_an_event_takes_its_chance_to_sweep(
    dispatcher: CeleryDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[int] = []
    monkeypatch.setattr(dispatcher, "sweep", lambda: swept.append(1))
    (entry_id,) = add_unsent(dispatcher, 1)
    for _ in range(400):  # processes that live for a second, where ten are a sweep's
        dispatcher.begin_anew()
        dispatcher._asked_at -= 1
        dispatcher.deliver(entry_id)
    assert 10 < len(swept) < 90  # 40, and six standard deviations at the most


def test_a_message_of_another_inbox_is_spoken_of(
    dispatcher: CeleryDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    (entry_id,) = add_unsent(dispatcher, 1)
    dispatcher.deliver(entry_id)
    dispatcher.deliver(entry_id)
    assert "RETELL_CELERY_QUEUE" not in caplog.text
    dispatcher.deliver(entry_id + 1)
    assert "give each a RETELL_CELERY_QUEUE of its own" in caplog.text


@pytest.mark.parametrize("entry_id", ["abc", 10**20, 0, None])
def test_a_message_without_a_number_is_no_outage(
    entry_id: Any, dispatcher: CeleryDispatcher
) -> None:
    with pytest.raises(ValueError, match="no number of an event"):
        deliver.run("retell", entry_id)


def test_a_set_up_is_checked_once_and_complaints_are_bounded(
    dispatcher: CeleryDispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    celery = dispatcher.check()
    dispatcher.start()
    celery.conf.task_always_eager = True
    dispatcher.start()
    assert caplog.records == []
    dispatcher.begin_anew()
    for _ in range(200):
        dispatcher.start()
    assert {record.levelname for record in caplog.records} == {"ERROR"}
    assert len(caplog.records) == 10


def test_at_the_end_of_a_process_its_messages_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_service("Redis")
    queue = f"retell_{uuid.uuid4().hex[:12]}"
    monkeypatch.setenv("BROKER", BROKERS["Redis"])
    options = {
        "RETELL_API_KEY": KEY,
        "RETELL_INBOX_URL": f"sqlite:///{tmp_path}/inbox.sqlite3",
        "RETELL_CELERY_QUEUE": queue,
    }
    code = (
        f"import celeryapp; app = celeryapp.create_app(**{options!r})\n"
        "for number in range(300): app.extensions['retell']['retell'].dispatcher.send(number)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=HERE, check=True, timeout=60)
    client = Celery(broker=BROKERS["Redis"], set_as_current=False)
    with client, client.connection_for_write() as connection:
        assert connection.default_channel.queue_purge(queue) == 300


def test_in_a_test_the_request_delivers(retell: RetellBlueprint) -> None:
    client = RetellTestClient(make_app(retell, RETELL_DISPATCH="celery"))
    with client.capture("call_ended") as captured:
        client.send("call_ended")
    assert len(captured) == 1
