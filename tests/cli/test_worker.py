from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.shop import Shop
from retell_flask import GiveUp
from support import KEY

APP = """
import time
from pathlib import Path

from flask import Flask

from retell_flask import RetellBlueprint

retell = RetellBlueprint()


@retell.on("call_ended")
def work(sender, event, **extra):
    with Path("journal").open("a") as journal:
        print("began", event.session_id, file=journal, flush=True)
        time.sleep(float(event.call.metadata["seconds"]))
        print("ended", event.session_id, file=journal, flush=True)


app = Flask(__name__)
app.register_blueprint(retell)
"""


def test_once_runs_what_is_due_and_counts_it(shop: Shop, fail: Callable[..., None]) -> None:
    fail("call_ended", RuntimeError("later"), "shop:later")
    fail("call_ended", GiveUp("no"), "shop:dead")
    for number in range(3):
        shop.add("call_ended", f"call_{number}")
    assert shop.run("worker", "--once").splitlines() == [
        "Ran what was due of 3 events.",
        "3 deliveries pending: flask retell events --status pending",
        "3 deliveries dead: flask retell events --status dead",
    ]
    assert shop.run("worker", "--once").startswith("Nothing was due.\n3 deliveries pending")


def test_once_says_nothing_of_what_is_not_left(shop: Shop) -> None:
    assert shop.run("worker", "--once") == "Nothing was due.\n"


def test_once_runs_in_one_thread(shop: Shop) -> None:
    assert "leave --workers out" in shop.run("worker", "--once", "--workers", "2", code=2)


def test_a_worker_has_at_least_one_thread(shop: Shop) -> None:
    shop.run("worker", "--workers", "0", code=2)


class Worker:
    """``flask retell worker`` as a process."""

    def __init__(self, directory: Path, *arguments: str, **environ: str) -> None:
        self.journal = directory / "journal"
        self.output = directory / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flask", "--app", "shop_app", "retell", "worker"]
                + list(arguments),
                cwd=directory,
                env={**os.environ, "RETELL_API_KEY": KEY, "PYTHONUNBUFFERED": "1", **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, file: Path, text: str) -> None:
        deadline = time.monotonic() + 20
        while not (file.exists() and text in file.read_text()):
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path, file_url: str) -> Iterator[Start]:
    (tmp_path / "shop_app.py").write_text(APP)
    workers: list[Worker] = []

    def start(*arguments: str, **environ: Any) -> Worker:
        environ.setdefault("RETELL_INBOX_URL", file_url)
        workers.append(Worker(tmp_path, *arguments, **environ))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.kill()
        worker.process.wait(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_delivers_until_a_signal(shop: Shop, start: Start, number: int) -> None:
    worker = start("--workers", "2")
    worker.wait_for(worker.output, "2 threads deliver what retell keeps in the SQLite file")
    shop.add("call_ended", metadata={"seconds": 0})
    worker.wait_for(worker.journal, "ended call_1")
    assert worker.stop(number) == 0
    assert worker.output.read_text().endswith("Stopped. Nothing was left running.\n")
    assert shop.statuses() == ["done"]


def test_a_worker_finishes_what_runs_and_begins_nothing(shop: Shop, start: Start) -> None:
    shop.add("call_ended", "call_1", metadata={"seconds": 1.5})
    shop.add("call_ended", "call_2", metadata={"seconds": 1.5})
    worker = start("--workers", "1")
    worker.wait_for(worker.journal, "began call_1")
    assert worker.stop() == 0
    assert worker.journal.read_text().splitlines() == ["began call_1", "ended call_1"]
    assert shop.statuses() == ["done", "pending"]


def test_a_second_signal_ends_a_worker_at_once(shop: Shop, start: Start) -> None:
    shop.add("call_ended", metadata={"seconds": 60})
    worker = start()
    worker.wait_for(worker.journal, "began call_1")
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for(worker.output, "Stopping: what runs is finished first.")
    assert worker.stop() == -signal.SIGTERM
    assert shop.statuses() == ["running"]


def test_a_worker_waits_for_a_database_that_is_down(start: Start) -> None:
    worker = start(RETELL_INBOX_URL="postgresql://nobody@127.0.0.1:1/nowhere")
    worker.wait_for(worker.output, "Deliveries stand still: The inbox does not answer")
    time.sleep(0.5)
    assert worker.process.poll() is None
    assert worker.stop() == 0


def test_where_the_application_has_no_threads_a_worker_has_the_usual_number(start: Start) -> None:
    worker = start(RETELL_WORKERS="0")
    worker.wait_for(worker.output, "4 threads deliver")
    assert worker.stop() == 0


def test_once_finishes_the_event_that_runs_when_it_is_stopped(shop: Shop, start: Start) -> None:
    shop.add("call_ended", "call_1", metadata={"seconds": 1})
    shop.add("call_ended", "call_2", metadata={"seconds": 1})
    worker = start("--once")
    worker.wait_for(worker.journal, "began call_1")
    assert worker.stop() == 0
    assert "Ran what was due of 1 event." in worker.output.read_text()
    assert shop.statuses() == ["done", "pending"]
