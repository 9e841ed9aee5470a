from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from call_center.models import ActionItem, Call, Sending, db
from call_center.sendings import send_once


@pytest.fixture
def database_url(either_database):
    return either_database


def test_no_transaction_waits_for_a_service(app, retell_client, todoist, slack, hubspot):
    in_use = []

    def watch(service):
        serve = service.serve

        def serve_and_look(asked):
            with app.app_context():
                in_use.append(db.engine.pool.checkedout())
            return serve(asked)

        service.serve = serve_and_look

    for service in (todoist, slack, hubspot):
        watch(service)
    talk = "User: Please call me back.\nAgent: I'll send you the plan."
    retell_client.send("call_ended", transcript=talk)
    retell_client.send("call_analyzed_negative")
    assert len(in_use) == 2 + 1 + 4
    assert set(in_use) == {0}


def test_a_fault_of_the_database_is_noted_as_what_it_is(app, rows):
    def fail():
        db.session.execute(text("SELECT * FROM no_such_table"))

    with app.app_context(), pytest.raises(DBAPIError, match="no_such_table"):
        send_once("call_1", "todoist", "task 1", fail)
    (sending,) = rows(Sending)
    assert (sending.worked, sending.attempts) == (False, 1)
    assert sending.detail in ("OperationalError", "ProgrammingError")


def test_what_was_begun_before_a_failure_is_not_kept(app, rows):
    def fail():
        db.session.add(
            ActionItem(call_id="call_1", position=0, text="Half of it", extractor="rules")
        )
        raise ConnectionError

    with app.app_context(), pytest.raises(ConnectionError):
        send_once("call_1", "model", "transcript", fail)
    assert rows(ActionItem) == []


def test_what_worked_for_another_process_meanwhile_stays_so(app, rows):
    def fail():
        with app.app_context():  # and so in a session of its own
            sending = db.session.get(Sending, ("call_1", "slack", "alarm"))
            sending.worked, sending.detail = True, "17.0001"
            db.session.commit()
        raise ConnectionError

    with app.app_context(), pytest.raises(ConnectionError):
        send_once("call_1", "slack", "alarm", fail)
    assert [(each.worked, each.detail) for each in rows(Sending)] == [(True, "17.0001")]


@pytest.mark.parametrize("either_database", ["postgresql"], indirect=True)
def test_a_database_that_was_restarted_is_connected_to_anew(app, retell_client, database_url):
    retell_client.send("call_started", call_id="call_1")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    retell_client.send("call_started", call_id="call_2")
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Call)) == 2


@pytest.mark.parametrize("made", [None, "1", "a\0b", "\ud800"])
def test_whatever_a_service_calls_it_it_is_noted(made, app, rows):
    with app.app_context():
        send_once("call_1", "slack", "alarm", lambda: made)
        send_once("call_1", "slack", "alarm", pytest.fail)
    assert [(sending.worked, sending.attempts) for sending in rows(Sending)] == [(True, 1)]
