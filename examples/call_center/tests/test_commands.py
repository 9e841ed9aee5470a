"""``flask call-center forget``; the other commands are tested beside what they do."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from call_center.models import db


@pytest.fixture
def database_url(either_database):
    return either_database


@pytest.fixture
def count(app):
    """How many rows there are in all tables together."""

    def count():
        with app.app_context():
            tables = db.metadata.sorted_tables
            return sum(
                db.session.scalar(select(func.count()).select_from(table)) for table in tables
            )

    return count


def test_a_call_that_is_forgotten_leaves_nothing_here(
    app, retell_client, count, openai, todoist, slack, hubspot
):
    retell_client.send("call_started", call_id="call_other")
    before = count()
    openai.items = [{"text": "Call back", "due": None}]
    for name in ("call_started", "call_ended", "call_analyzed_negative"):
        retell_client.send(name, call_id="call_1")
    assert count() - before == 9  # call, extraction, item, task, four sendings, claim
    run = app.test_cli_runner().invoke
    assert run(args=["call-center", "forget", "call_1"], input="n\n").exit_code == 1
    assert count() - before == 9
    result = run(args=["call-center", "forget", "call_1", "--yes"])
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "It is deleted here.",
        "model was sent transcript",
        f"todoist was sent task 1, its id is {todoist.tasks[0]['id']}",
        "slack was sent alarm, its id is 1791290405.000001",
        f"hubspot was sent call, its id is {hubspot.records['calls'][0]['id']}",
    ]
    assert count() == before


def test_a_call_that_is_not_there_is_said(app):
    result = app.test_cli_runner().invoke(args=["call-center", "forget", "call_1"])
    assert (result.exit_code, result.output) == (1, "Error: There is no call call_1 here.\n")
