"""Celery's workers and broker are killed, messages lost and doubled, and no event suffers."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import select

import celeryapp
from account import Account, Kill
from brokers import BROKERS, Broker, broker, kill_group
from databases import postgresql, rows
from journal import Journal
from killing import open_inbox, wait_until_finished
from retell_flask.dispatch.broker import PATIENCE_SECONDS
from retell_flask.dispatch.celery import DELIVER
from retell_flask.inbox.schema import entries
from sender import Sender, make_calls
from servers import HERE, Answer, eventually, is_alive, running
from support import KEY, call_payload

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc, and a clock that processes share"
)

EVENTS = 2000
SECONDS = 25.0  # within which the calls begin
ORDER_WAIT = 20.0  # longer than anything is down, so that order holds throughout
DOWN_SECONDS = 60.0
QUEUE = "celery"


def steps_of(draw: random.Random) -> list[str]:
    """Names of ``Cluster``'s methods, to be taken one after the other."""
    kills = ["kill_child"] * 12 + ["kill_worker"] * 5
    rare = ["restart_broker", "lose_messages", "lose_messages", *["double_messages"] * 5]
    steps = kills[:]
    draw.shuffle(steps)
    for step in rare:  # while events still come
        steps.insert(draw.randrange(len(kills) // 2), step)
    return steps


class Cluster:
    """gunicorn, two workers with two pool children each, a sweep, and a broker of their own."""

    def __init__(
        self, stack: ExitStack, own: Broker, url: str, directory: Path, **transport: float
    ) -> None:
        self.broker = own
        self.inbox = open_inbox(url)
        stack.callback(self.inbox.database.dispose)
        self.journal = Journal(directory / "journal")
        self.kills: list[Kill] = []
        self.figures: Counter[str] = Counter()
        self._stack = stack
        self._logs: dict[subprocess.Popen[bytes], Path] = {}
        self._directory = directory
        self._client = Celery(broker=own.url, set_as_current=False)
        celery = {"broker_url": own.url, "broker_transport_options": transport}
        self._environ = {
            "RETELL_API_KEY": KEY,
            "RETELL_DISPATCH": "celery",
            "RETELL_INBOX_URL": url,
            "RETELL_LEASE": "2s",
            "RETELL_MAX_ATTEMPTS": "100",
            "RETELL_ORDER_WAIT": f"{ORDER_WAIT}s",
            "CELERY_SETTINGS": json.dumps({**celery, "worker_hijack_root_logger": False}),
            "JOURNAL": str(self.journal.path),
            "JOURNAL_PAUSE": "0.03",
            "JOURNAL_FAILURES": "0.05",
        }
        self.web = stack.enter_context(
            running(
                *("gunicorn-gthread", "-c", "gunicorn_hook.py", "--workers", "2"),
                app="celery_journal:create_app",
                **self._environ,
            )
        )
        sweep = ("--app", "celery_journal:flask_app", "retell", "sweep", "--every", "1s")
        self.sweep = self._start("flask", *sweep)
        self.workers = [self._start_worker() for _ in range(2)]

    def _start_worker(self) -> subprocess.Popen[bytes]:
        name = f"worker{len(self._logs)}@%h"
        options = ("--pool=prefork", "--concurrency=2", "--loglevel=INFO", "-n", name)
        return self._start("celery", "-A", "celery_journal:celery_app", "worker", *options)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        path = self._directory / f"{command[0]}-{len(self._logs)}.log"
        with path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=HERE,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self._environ},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._stack.callback(kill_group, process)
        self._logs[process] = path
        return process

    def logs(self) -> str:
        """What the workers write."""
        return "".join(self._logs[worker].read_text() for worker in self.workers)

    def supervise(self) -> None:
        """Start a worker again that ended: kombu's connection to Redis fails some for good."""
        for number, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.figures["workers that ended"] += 1
                self._kill_and_replace(number)

    # What can happen to it

    def kill_child(self, draw: random.Random) -> None:
        pid = draw.choice(eventually(self.pool, 90, what="a worker has a pool"))
        os.kill(pid, signal.SIGKILL)
        self._note_kills("child", pid)

    def kill_worker(self, draw: random.Random) -> None:
        self._kill_and_replace(draw.randrange(len(self.workers)))

    def lose_messages(self, draw: random.Random) -> None:
        """Those that wait while there is no worker."""
        for worker in self.workers:
            self._kill(worker)
        time.sleep(0.7)
        with self._client.connection_for_write() as connection:
            lost = connection.default_channel.queue_purge(QUEUE)
        self.figures["messages lost"] += lost or 0
        self.workers = [self._start_worker() for _ in self.workers]

    def double_messages(self, draw: random.Random) -> None:
        """Of the newest entries, whatever has become of them."""
        statement = select(entries.c.id).order_by(entries.c.id.desc()).limit(60)
        found = self.inbox.database.read(lambda c: list(c.execute(statement).scalars()))
        with self._client.connection_for_write() as connection:
            for entry_id in found * 2:
                self._client.send_task(
                    DELIVER, ("retell", entry_id), connection=connection, ignore_result=True
                )
        self.figures["messages doubled"] += 2 * len(found)

    def restart_broker(self, draw: random.Random) -> None:
        self.broker.kill()
        time.sleep(2)
        self.broker.start()

    def _kill_and_replace(self, number: int) -> None:
        self._kill(self.workers[number])
        self.workers[number] = self._start_worker()

    def _kill(self, worker: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGSTOP)  # it starts no others meanwhile
        pids = _group(worker.pid)
        kill_group(worker)
        self._note_kills("worker", *pids)

    def pool(self) -> list[int]:
        """The children of workers that are ready: a worker whose child is killed before ends."""
        return [
            pid
            for worker in self.workers
            if " ready." in self._logs[worker].read_text()
            for pid in _group(worker.pid)
            if pid != worker.pid
        ]

    def _note_kills(self, kind: str, *pids: int) -> None:
        eventually(lambda: not any(map(is_alive, pids)), what="they are gone")
        self.kills += [Kill(pid, time.monotonic_ns(), kind) for pid in pids]


def _group(leader: int) -> list[int]:
    """The processes that live of a group."""
    found = []
    for each in Path("/proc").iterdir():
        try:
            pid = int(each.name)
            if os.getpgid(pid) == leader and is_alive(pid):
                found.append(pid)
        except (ValueError, ProcessLookupError):
            continue
    return sorted(found)


@contextmanager
def cluster_of(name: str, directory: Path, **transport: float) -> Iterator[Cluster]:
    with ExitStack() as stack:
        own = stack.enter_context(broker(name, directory / "broker"))
        url = stack.enter_context(postgresql())
        yield Cluster(stack, own, url, directory, **transport)


@pytest.mark.parametrize("name", BROKERS)
def test_killed_workers_and_brokers_lose_nothing_and_repeat_only_what_they_were_at(
    name: str, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    draw, began = random.Random(seed), time.monotonic()
    postings = make_calls(draw, EVENTS, SECONDS)
    steps = steps_of(draw)
    pause = SECONDS / len(steps)
    with cluster_of(name, tmp_path) as cluster:
        eventually(cluster.pool, 90, what="a worker has a pool")
        sender = Sender(cluster.web.port, postings, random.Random(seed + 1))
        for step in steps:
            time.sleep(draw.uniform(0.1, pause))
            cluster.supervise()
            getattr(cluster, step)(draw)
        sender.wait()
        cluster.supervise()
        wait_until_finished(cluster.inbox)
        account = Account(
            postings,
            cluster.journal.lines(),
            rows(cluster.inbox.database),
            rows(cluster.inbox.database, "retell_delivery"),
            cluster.kills,
            ORDER_WAIT,
            sender.figures + cluster.figures,
        )
        account.figures["broker restarts"] = cluster.broker.restarts
        assert cluster.sweep.poll() is None
    account.figures["seconds"] = round(time.monotonic() - began)
    print(account)
    assert account.faults == []
    assert {answer for each in postings for answer in each.answers} <= {"200", "200 duplicate"}
    assert account.figures["events"] >= EVENTS
    assert len(account.kills) >= 20
    assert account.figures["in flight at a kill"] > 0
    assert account.figures["messages lost"] > 0
    assert account.figures["messages doubled"] > 0
    assert account.figures["broker restarts"] == 1


@pytest.mark.parametrize("name", BROKERS)
def test_a_broker_that_is_down_holds_no_receipt_up_and_all_is_delivered_after(
    name: str, tmp_path: Path
) -> None:
    answers: list[Answer] = []
    is_over = threading.Event()

    with cluster_of(name, tmp_path) as cluster:

        def post() -> None:
            while not is_over.wait(0.05):
                call_id = f"call_{len(answers) // 3}"
                type_ = ("call_started", "call_ended", "call_analyzed")[len(answers) % 3]
                answers.append(cluster.web.post(call_payload(type_, call_id=call_id)))

        eventually(cluster.pool, 90, what="a worker has a pool")
        thread = threading.Thread(target=post)
        thread.start()
        try:
            time.sleep(1)
            cluster.broker.kill()
            time.sleep(DOWN_SECONDS)
            cluster.broker.start()
            time.sleep(1)
        finally:
            is_over.set()
            thread.join()
        cluster.supervise()
        wait_until_finished(cluster.inbox)
        found = rows(cluster.inbox.database)
        deliveries = rows(cluster.inbox.database, "retell_delivery")
        ends = Counter(line.delivery for line in cluster.journal.lines("end"))
        assert cluster.sweep.poll() is None
    print(len(answers), "events, slowest", max(answer.seconds for answer in answers))
    print(cluster.figures)
    assert {answer.status for answer in answers} == {200}
    assert max(answer.seconds for answer in answers) < PATIENCE_SECONDS  # the broker's
    assert len(answers) > 50
    assert [entry["status"] for entry in found] == ["done"] * len(answers)
    assert len(ends) == len(deliveries) >= 2 * len(answers)
    assert set(ends.values()) == {1}


def test_a_receiver_that_outlasts_the_visibility_timeout_runs_once(tmp_path: Path) -> None:
    every_second = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    with cluster_of("Redis", tmp_path, visibility_timeout=1, **every_second) as cluster:
        # Four run and eight wait in the workers, which have not acknowledged these.
        for number in range(12):
            payload = call_payload("call_started", call_id=f"call_{number}")
            assert cluster.web.post({**payload, "seconds": 4}).status == 200
        eventually(lambda: len(cluster.journal.lines("begin")) >= 4, 30)
        cluster.double_messages(random.Random())
        wait_until_finished(cluster.inbox)
        time.sleep(1)
        lines = cluster.journal.lines("begin", "end", receiver="store")
        received = Counter(re.findall(r"\[([0-9a-f-]{36})\] received", cluster.logs()))
    by_event: dict[str, list[str]] = {}
    for line in lines:
        by_event.setdefault(line.event, []).append(line.phase)
    print(sum(received.values()) - len(received), "redelivered of", len(received), "messages")
    assert list(by_event.values()) == [["begin", "end"]] * 12
    assert max(received.values()) > 1


@pytest.mark.parametrize("name", BROKERS)
def test_a_broker_that_was_restarted_gets_the_next_message(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broker(name, tmp_path / "broker") as own:
        monkeypatch.setenv("BROKER", own.url)
        url = f"sqlite:///{tmp_path}/inbox.sqlite3"
        app = celeryapp.create_app(RETELL_API_KEY=KEY, RETELL_INBOX_URL=url)
        dispatcher = app.extensions["retell"]["retell"].dispatcher
        assert dispatcher.send(1).wait(10)
        own.kill()
        own.start()
        assert dispatcher.send(2).wait(10)
        with app.extensions["celery"].connection_for_write() as connection:
            # A message is transient, so RabbitMQ forgets the first one.
            found = connection.default_channel.queue_purge("celery")
            assert found == {"Redis": 2, "RabbitMQ": 1}[name]
