"""Processes are killed at any moment, and nothing that was acknowledged is lost."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from databases import postgresql, rows
from journal import Journal
from killing import Plan, open_inbox, run, unfinished
from servers import eventually, running
from support import KEY, call_payload

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc, and a clock that processes share"
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/retell.sqlite3"
        return
    with postgresql() as created:
        yield created


def test_killed_processes_lose_nothing_and_repeat_only_what_they_were_at(
    url: str, tmp_path: Path
) -> None:
    plan = Plan(seed=random.SystemRandom().randrange(10**6))
    print("seed", plan.seed)
    account = run(plan, url, tmp_path)
    print(account)
    assert account.faults == []
    assert account.figures["events"] >= 2000
    assert len(account.kills) >= 20
    assert account.figures["in flight at a kill"] > 0


def test_64_simultaneous_posts_of_one_body_are_one_entry(url: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    together = threading.Barrier(64)
    payload = call_payload("call_ended")
    with running(
        *("gunicorn-gthread", "--workers", "3", "--threads", "32"),
        app="journalapp:create_app",
        RETELL_API_KEY=KEY,
        RETELL_INBOX_URL=url,
        JOURNAL=str(journal.path),
    ) as server:
        eventually(lambda: server.log.read_text().count("journalapp was made") == 3)

        def post(_: int) -> str:
            together.wait(10)
            answer = server.post(payload)
            return f"{answer.status} {answer.json}"

        with ThreadPoolExecutor(64) as pool:
            answers = Counter(pool.map(post, range(64)))
        inbox = open_inbox(url)
        eventually(lambda: not unfinished(inbox))
        found = rows(inbox.database)
        inbox.database.dispose()
    assert answers == {
        "200 {'received': True}": 1,
        "200 {'received': True, 'duplicate': True}": 63,
    }
    assert [entry["status"] for entry in found] == ["done"]
    assert journal.runs("call_1") == {
        ("call_ended", "store"): ["begin", "end"],
        ("call_ended", "react"): ["begin", "end"],
    }
