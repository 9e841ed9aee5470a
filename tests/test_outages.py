"""What the inbox is in goes away and comes back: 503 meanwhile, and then on as if nothing was."""

from __future__ import annotations

import gc
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from journal import Journal
from killing import check_file, linked_sqlite, open_inbox, store_only, unfinished
from mounts import fill, separate_file_system, set_read_only, small_file_system
from postgres import Cluster, private_cluster
from retell_flask import Event, RetellBlueprint, event_received
from retell_flask.inbox import database, sqlite
from retell_flask.testing import encode
from servers import Answer, Server, eventually, running
from support import KEY, PATH, Post, call_payload, make_app, make_post

HEALTH = f"{PATH}/health"
LEASE_SECONDS = 2


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def serving(
    url: str, journal: Journal, *arguments: str, **options: str
) -> AbstractContextManager[Server]:
    """Two workers, whose threads begin with them."""
    return running(
        "gunicorn-gthread",
        *("-c", "gunicorn_hook.py", "--workers", "2", *arguments),
        app="journalapp:create_app",
        wait=False,
        **{
            "RETELL_API_KEY": KEY,
            "RETELL_INBOX_URL": url,
            "RETELL_LEASE": f"{LEASE_SECONDS}s",
            "JOURNAL": str(journal.path),
            **options,
        },
    )


def is_refused(answer: Answer) -> bool:
    """A 503 that asks to come again, in less than Retell's ten seconds."""
    assert answer.status in (200, 503)
    if answer.status == 200:
        return False
    assert answer.json == {"error": "Inbox unavailable"}
    assert answer.headers["Retry-After"] == "10"
    assert answer.seconds < 9
    return True


def begin_a_long_run(server: Server, journal: Journal, seconds: float = 1) -> str:
    """A call one receiver of which runs, and that has an event waiting behind it."""
    call_id = some_id()
    server.post({**call_payload("call_started", call_id=call_id), "seconds": seconds})
    server.post(call_payload("call_ended", call_id=call_id))
    eventually(lambda: journal.runs(call_id), what="the long run began")
    return call_id


def wait_for_its_end(journal: Journal) -> None:
    eventually(lambda: journal.lines("end"), what="the long run ended")
    time.sleep(LEASE_SECONDS)


def some_id() -> str:
    return f"call_{secrets.token_hex(8)}"


def each_once(*types: str) -> dict[tuple[str, str], list[str]]:
    """What a call's journal says of events that each reached each receiver once."""
    return {(type_, name): ["begin", "end"] for type_ in types for name in ("store", "react")}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with private_cluster() as cluster:
        inbox = open_inbox(cluster.url)
        inbox.database.init()
        inbox.database.dispose()
        yield cluster


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_is_stopped_and_started(cluster: Cluster, journal: Journal, mode: str) -> None:
    with serving(cluster.url, journal) as server:
        workers = two_workers(server)
        call_id = begin_a_long_run(server, journal)
        cluster.stop(mode)
        assert not journal.lines("end")
        for _ in range(3):
            assert is_refused(server.post(call_payload("call_ended", call_id=some_id())))
        assert server.get(HEALTH).status == 503
        assert server.get("/greeting").status == 200
        wait_for_its_end(journal)
        cluster.start()
        settle(server, cluster.url)
        assert server.children() == workers
    assert journal.runs(call_id) == each_once("call_started", "call_ended")


@pytest.fixture
def post(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    """To an application of this process, with little patience."""
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.5)
    app = make_app(
        RetellBlueprint(), TESTING=False, RETELL_INBOX_URL=cluster.url, RETELL_WORKERS=0
    )
    yield make_post(app)
    app.extensions["retell"]["retell"].inbox.database.dispose()


def test_postgresql_that_is_locked_refuses_in_bounded_time(cluster: Cluster, post: Post) -> None:
    payloads = [call_payload("call_ended", call_id=some_id()) for _ in range(4)]
    assert post(call_payload("call_ended", call_id=some_id())).status_code == 200
    with ThreadPoolExecutor(4) as pool, psycopg.connect(cluster.url) as other:
        other.execute("LOCK TABLE retell_event")
        answers = [pool.submit(post, payload) for payload in payloads]
        time.sleep(3)
        refused = [answer.done() and answer.result().status_code for answer in answers]
        other.rollback()
    assert refused == [503] * 4
    assert {post(payload).status_code for payload in payloads} == {200}


def test_postgresql_that_stands_still_refuses_in_bounded_time(
    cluster: Cluster, journal: Journal
) -> None:
    """Also on the connections that are open, whose other end takes what is sent."""
    with serving(cluster.url, journal, RETELL_WORKERS="1") as server:
        workers = two_workers(server)
        with ThreadPoolExecutor(4) as pool:  # so that none waits for a thread of the server's
            started = [call_payload("call_started", call_id=some_id()) for _ in range(40)]
            assert {answer.status for answer in pool.map(server.post, started)} == {200}
            with cluster.standing_still():
                refused = [
                    pool.submit(server.post, call_payload("call_ended", call_id=some_id()))
                    for _ in range(8)
                ]
                assert all(is_refused(answer.result()) for answer in refused)
                assert server.get("/greeting").status == 200
        settle(server, cluster.url)
        assert server.children() == workers


def two_workers(server: Server) -> set[int]:
    eventually(lambda: is_healthy(server))
    eventually(lambda: server.log.read_text().count("journalapp was made") == 2)
    workers = server.children()
    assert len(workers) == 2
    return workers


def is_healthy(server: Server) -> bool:
    try:
        return server.get(HEALTH).status == 200
    except OSError:
        return False


def settle(server: Server, url: str) -> None:
    """Healthy again, and done with all by itself, without a post that would wake anybody."""
    eventually(lambda: is_healthy(server))
    inbox = open_inbox(url)
    eventually(lambda: not unfinished(inbox), 15, what="nothing is unfinished")
    assert server.post(call_payload("call_ended", call_id=some_id())).status == 200
    eventually(lambda: not unfinished(inbox), what="the last one is delivered")
    inbox.database.dispose()


@pytest.fixture(params=["newest", "linked"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """By which a server takes the newest SQLite, or the one that Python is linked with."""
    if request.param == "newest":
        yield {}
        return
    with linked_sqlite(tmp_path) as environ:
        yield environ


def test_the_disk_is_full(options: dict[str, str], tmp_path: Path, journal: Journal) -> None:
    with small_file_system(tmp_path) as place:
        url = f"sqlite:///{place}/retell.sqlite3"
        with serving(url, journal, **options) as server:
            workers = two_workers(server)
            call_id = begin_a_long_run(server, journal)
            ballast = fill(place)
            stored = post_until_refused(server)
            assert not journal.lines("end")
            wait_for_its_end(journal)
            assert is_refused(server.post(big_event(some_id())))
            # A process that had nothing to write must notice the outage, too: by its next poll.
            time.sleep(2.5)
            ballast.unlink()
            settle(server, url)
            assert server.children() == workers
        inbox = open_inbox(url)
        assert check_file(inbox) == []
        inbox.database.dispose()
    assert journal.runs(call_id) == each_once("call_started", "call_ended")
    for each in stored:
        assert journal.runs(each) == each_once("call_ended")


def post_until_refused(server: Server) -> list[str]:
    """What was acknowledged before: the log may have had room left."""
    stored = []
    for call_id in (some_id() for _ in range(40)):
        if is_refused(server.post(big_event(call_id))):
            return stored
        stored.append(call_id)
    raise AssertionError("A full disk took 40 events of 40 kB")


def big_event(call_id: str) -> bytes:
    """Nothing that could be compressed."""
    payload = call_payload("call_ended", call_id=call_id)
    return encode({**payload, "noise": secrets.token_hex(40_000)})


@pytest.fixture(params=["nothing is there yet", "an event is there"])
def left(request: pytest.FixtureRequest) -> list[str]:
    """Calls of which an earlier process has stored an event and delivered none."""
    return [some_id()] if request.param == "an event is there" else []


def test_the_directory_is_read_only(left: list[str], tmp_path: Path, journal: Journal) -> None:
    with separate_file_system(tmp_path) as place:
        url = f"sqlite:///{place}/retell.sqlite3"
        for call_id in left:
            store_only(url, call_payload("call_started", call_id=call_id))
        gc.collect()  # or its lock file is open still
        set_read_only(place, True)
        with serving(url, journal) as server:
            eventually(lambda: server.log.read_text().count("journalapp was made") == 2)
            workers = server.children()
            assert is_refused(server.post(call_payload("call_ended", call_id=some_id())))
            assert server.get(HEALTH).status == 503
            assert server.get("/greeting").status == 200
            set_read_only(place, False)
            settle(server, url)
            assert server.children() == workers
    for call_id in left:
        assert journal.runs(call_id) == each_once("call_started")


@dataclass
class Locked:
    """An application whose inbox another process has locked."""

    post: Post
    heard: list[str]
    patience: float
    release: Callable[[], None]


@pytest.fixture(params=["the lock file", "SQLite's own lock"])
def locked(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Locked]:
    monkeypatch.setattr(sqlite, "PATIENCE_SECONDS", 0.4)
    path = tmp_path / "retell.sqlite3"
    retell = RetellBlueprint()
    heard: list[str] = []

    @event_received.connect_via(retell)
    def receive(sender: Any, event: Event, **extra: Any) -> None:
        heard.append(event.session_id or "")

    app = make_app(retell, TESTING=False, RETELL_INBOX_URL=f"sqlite:///{path}")
    state = app.extensions["retell"]["retell"]
    assert state.inbox.database.write(lambda connection: 1)
    held = path.with_name("retell.sqlite3.lock") if "file" in request.param else path
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(held)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def release() -> None:
        holder.communicate(timeout=10)

    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield Locked(make_post(app), heard, 0.4, release)
    finally:
        release()
        assert state.dispatcher.stop()
        state.inbox.database.dispose()


HOLDER = """
import fcntl, sqlite3, sys
from contextlib import closing
path = sys.argv[1]
with open(path, "rb+") as file, closing(sqlite3.connect(path, isolation_level=None)) as database:
    if path.endswith(".lock"):
        fcntl.flock(file, fcntl.LOCK_EX)
    else:
        database.execute("BEGIN IMMEDIATE")
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_locked_inbox_refuses_in_bounded_time(locked: Locked) -> None:
    def post(number: int) -> tuple[int, float]:
        began = time.monotonic()
        answer = locked.post(call_payload("call_ended", call_id=f"call_{number}"))
        return answer.status_code, time.monotonic() - began

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, range(16)))
        assert {status for status, _ in answers} == {503}
        assert max(seconds for _, seconds in answers) < 5 * locked.patience
        locked.release()
        assert {status for status, _ in pool.map(post, range(16))} == {200}
    eventually(lambda: len(locked.heard) >= 16)
    assert sorted(locked.heard) == sorted(f"call_{number}" for number in range(16))
