"""When the threads begin and end, in each server and mode, and that they deliver in between."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from databases import rows
from journal import Journal
from killing import before_python_path, open_inbox, store_only, unfinished
from retell_flask.testing import encode
from servers import HERE, Answer, Server, eventually, running
from support import KEY, PATH, call_payload

HEALTH = f"{PATH}/health"
HOOK = ("-c", "gunicorn_hook.py")
TWO = ("--workers", "2")
GUNICORN = {
    "gunicorn sync": ("gunicorn",),
    "gunicorn gthread": ("gunicorn-gthread", *TWO),
    "gunicorn --preload": ("gunicorn-gthread", *TWO, "--preload"),
}
# SIGTERM ends these without atexit.
ABRUPT = {
    "waitress": ("waitress",),
    "flask run": ("flask",),
    "flask run --debug": ("flask", "--debug"),
}
ONCE = ["begin", "end"]
AGAIN = ["begin", "begin", "end"]

Start = Callable[..., AbstractContextManager[Server]]


def modes(table: dict[str, tuple[str, ...]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mode", table.values(), ids=table)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/retell.sqlite3"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def start(url: str, journal: Journal) -> Start:
    """Start a server on this test's inbox, and send it nothing."""

    def start(
        *mode: str, app: str = "journalapp:create_app", **options: str
    ) -> AbstractContextManager[Server]:
        environ = {
            "RETELL_API_KEY": KEY,
            "RETELL_INBOX_URL": url,
            "RETELL_LEASE": "1s",
            "JOURNAL": str(journal.path),
            **options,
        }
        return running(*mode, app=app, wait=False, **environ)

    return start


def request(send: Callable[[], Answer]) -> Answer:
    """The answer, once the server listens."""

    def answer() -> Answer | None:
        try:
            return send()
        except OSError:
            return None

    found: Answer = eventually(answer, what="the server answers")
    return found


def post(server: Server, type_: str, **more: Any) -> None:
    body = encode({**call_payload(type_), **more})
    assert request(lambda: server.post(body)).status == 200


def statuses(url: str) -> list[str]:
    inbox = open_inbox(url)
    found = [row["status"] for row in rows(inbox.database)]
    inbox.database.dispose()
    return found


def is_done(url: str) -> bool:
    return set(statuses(url)) == {"done"}


def wait_until_done(url: str) -> None:
    inbox = open_inbox(url)
    eventually(lambda: not unfinished(inbox), what="nothing is unfinished")
    inbox.database.dispose()
    assert is_done(url)


def phases(journal: Journal, type_: str, receiver: str = "store") -> list[str]:
    return journal.runs("call_1").get((type_, receiver), [])


@modes(GUNICORN | ABRUPT)
def test_what_was_left_is_delivered_with_the_first_request_of_any_kind(
    mode: tuple[str, ...], start: Start, url: str, journal: Journal
) -> None:
    store_only(url, call_payload("call_started"))
    with start(*mode) as server:
        server.wait_for_log("journalapp was made")
        time.sleep(0.7)
        assert journal.lines() == []
        assert request(lambda: server.get("/greeting")).status == 200
        eventually(lambda: phases(journal, "call_started") == ONCE)
        post(server, "call_ended")
        eventually(lambda: phases(journal, "call_ended", "react") == ONCE)


@modes(GUNICORN)
def test_the_hook_begins_without_a_request(
    mode: tuple[str, ...], start: Start, url: str, journal: Journal
) -> None:
    store_only(url, call_payload("call_started"))
    with start(*mode, *HOOK) as server:
        eventually(lambda: phases(journal, "call_started", "react") == ONCE)
        post(server, "call_ended")
        eventually(lambda: phases(journal, "call_ended", "react") == ONCE)
        assert {line.pid for line in journal.lines()} <= server.children()


def test_threads_that_began_before_the_fork_do_not_keep_workers_from_theirs(
    start: Start, journal: Journal
) -> None:
    mode = GUNICORN["gunicorn --preload"]
    with start(*mode, *HOOK, JOURNAL_WARM="1", JOURNAL_PAUSE="0.1") as server:
        for number in range(20):
            body = encode(call_payload("call_ended", call_id=f"call_{number}"))
            assert request(lambda body=body: server.post(body)).status == 200
        eventually(lambda: len(journal.lines("end")) == 40)
        assert {line.pid for line in journal.lines()} >= server.children()
    assert len(journal.lines("begin")) == 40


@modes(GUNICORN)
def test_a_receiver_in_flight_finishes_where_the_server_lets_it(
    mode: tuple[str, ...], start: Start, url: str, journal: Journal
) -> None:
    with start(*mode) as server:
        post(server, "call_started", seconds=1)
        post(server, "call_ended")
        eventually(lambda: phases(journal, "call_started"))
        server.stop()
    assert phases(journal, "call_started") == ONCE
    assert phases(journal, "call_started", "react") == []
    assert statuses(url) == ["pending", "pending"]
    with start(*mode, *HOOK):
        wait_until_done(url)
    assert set(map(tuple, journal.runs("call_1").values())) == {tuple(ONCE)}


@modes(ABRUPT)
def test_a_receiver_in_flight_is_left_to_the_lease_elsewhere(
    mode: tuple[str, ...], start: Start, url: str, journal: Journal
) -> None:
    with start(*mode) as server:
        post(server, "call_started", seconds=1)
        eventually(lambda: phases(journal, "call_started"))
        server.stop()
    assert phases(journal, "call_started") == ["begin"]
    assert statuses(url) == ["running"]
    with start(*mode) as server:
        assert request(lambda: server.get("/greeting")).status == 200
        wait_until_done(url)
    assert phases(journal, "call_started") == AGAIN
    assert phases(journal, "call_started", "react") == ONCE


@pytest.mark.parametrize("hook", [HOOK, ()], ids=["with the hook", "without"])
def test_workers_that_end_after_some_requests_drain_and_are_replaced(
    hook: tuple[str, ...], start: Start, url: str, journal: Journal
) -> None:
    mode = (*GUNICORN["gunicorn gthread"], "--max-requests", "4", *hook)
    with start(*mode, JOURNAL_PAUSE="0.2") as server:
        for number in range(16):
            body = encode(call_payload("call_ended", call_id=f"call_{number}"))
            assert request(lambda body=body: server.post(body)).status == 200
        if not hook:  # a new worker begins with its first request, as a health probe is
            eventually(lambda: request(lambda: server.get(HEALTH)) and is_done(url))
        wait_until_done(url)
    assert len({line.pid for line in journal.lines()}) > 2
    assert len(journal.lines("begin")) == len(journal.lines("end")) == 32


def test_a_handler_of_three_leases_is_started_once(start: Start, journal: Journal) -> None:
    with start(*GUNICORN["gunicorn gthread"], *HOOK) as server:
        post(server, "call_started", seconds=3.5)
        eventually(lambda: phases(journal, "call_started", "react") == ONCE)
        eventually(lambda: len(server.children()) == 2)
    assert phases(journal, "call_started") == ONCE
    begin, end = journal.lines(receiver="store")
    assert end.at - begin.at > 3 * 10**9


def test_no_workers_deliver_nothing(start: Start, url: str, journal: Journal) -> None:
    with start(*GUNICORN["gunicorn gthread"], *HOOK, RETELL_WORKERS="0") as server:
        post(server, "call_started")
        assert request(lambda: server.get("/greeting")).status == 200
        time.sleep(1.5)
    assert journal.lines() == []
    assert statuses(url) == ["pending"]


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """A module of the host application that its author is about to save."""
    module = tmp_path / "watched.py"
    module.write_text("from journalapp import create_app\n")
    return module


def test_one_process_delivers_under_the_reloader_and_the_next_after_a_reload(
    start: Start, url: str, journal: Journal, watched: Path
) -> None:
    environ = {"PYTHONPATH": before_python_path(watched.parent)}
    store_only(url, call_payload("call_started"))
    with start("flask", "--debug", app="watched:create_app", **environ) as server:
        post(server, "call_ended", seconds=2)
        eventually(lambda: phases(journal, "call_ended"))
        (first,) = {line.pid for line in journal.lines()}
        watched.touch()
        eventually(lambda: server.log.read_text().count("journalapp was made") >= 3)
        post(server, "call_analyzed")
        wait_until_done(url)
        found = {line.pid for line in journal.lines()}
        assert len(found) == 2
        assert server.process.pid not in found
    assert first in found
    assert phases(journal, "call_ended") == ONCE


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "flask", "--app", "journalapp:create_app", "routes"),
        ("-c", "import journalapp, time; journalapp.create_app(); time.sleep(0.5)"),
    ],
    ids=["flask routes", "import"],
)
def test_neither_commands_nor_an_import_begin_anything(
    command: tuple[str, ...], url: str, journal: Journal
) -> None:
    store_only(url, call_payload("call_started"))
    environ = {"RETELL_API_KEY": KEY, "RETELL_INBOX_URL": url, "JOURNAL": str(journal.path)}
    subprocess.run(
        [sys.executable, *command], cwd=HERE, env={**os.environ, **environ}, check=True, timeout=30
    )
    assert journal.lines() == []
    assert statuses(url) == ["pending"]
