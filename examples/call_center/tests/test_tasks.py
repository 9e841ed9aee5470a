from __future__ import annotations

import httpx
import pytest
from sqlalchemy import select

from call_center import tasks
from call_center.models import ActionItem, Sending, Task, db
from services.attempts import ECHO, USUAL, lost_note
from services.service import Fault
from services.todoist import error

PROMISES = "User: Please call me back tomorrow at 3 pm.\nAgent: I'll send you the invoice today."
BY_RULES = "Found by rules, not by a model"
ONE = "User: Please call me back tomorrow at 3 pm."


def test_items_become_rows_of_ours(retell_client, rows):
    sent = retell_client.send("call_ended", transcript=PROMISES, twins=2)
    source = f"Call: {sent.event.call.call_id}"
    assert [(task.source, task.text, task.place, task.url) for task in rows(Task)] == [
        (source, "User: Please call me back tomorrow at 3 pm.", "here", None),
        (source, "Agent: I'll send you the invoice today.", "here", None),
    ]
    assert rows(Sending) == []


def test_items_become_tasks_in_todoist(app, retell_client, todoist, rows):
    app.config["TODOIST_PROJECT_ID"] = "6XGgm6PHrGgMpCFX"
    sent = retell_client.send("call_ended", transcript=PROMISES)
    call_id = sent.event.call.call_id
    items = rows(ActionItem)
    assert [each.path for each in todoist.asked] == ["/api/v1/tasks"] * 2
    assert [each.json for each in todoist.asked] == [
        {
            "content": item.text,
            "description": f"Call: {call_id}\n{BY_RULES}",
            "project_id": "6XGgm6PHrGgMpCFX",
            "due_string": due,
            "auto_parse_labels": False,
        }
        for item, due in zip(items, ["tomorrow at 3 pm", "today"], strict=True)
    ]
    assert [each.headers["x-request-id"] for each in todoist.asked] == [item.id for item in items]
    assert {each.headers["authorization"] for each in todoist.asked} == {"Bearer token-for-tests"}
    first, second = rows(Task)
    assert (first.item_id, first.source, first.place) == (
        items[0].id,
        f"Call: {call_id}",
        "todoist",
    )
    assert first.url.startswith("https://app.todoist.com/app/task/")
    assert first.url.endswith(todoist.tasks[0]["id"])
    assert second.url.endswith(todoist.tasks[1]["id"])
    assert [(each.what, each.worked, each.detail) for each in rows(Sending)] == [
        ("task 1", True, todoist.tasks[0]["id"]),
        ("task 2", True, todoist.tasks[1]["id"]),
    ]


def test_a_date_that_todoist_cannot_read_goes_into_the_description(retell_client, todoist, rows):
    todoist.unreadable.add("tomorrow at 3 pm")
    sent = retell_client.send("call_ended", transcript=ONE)
    (task,) = todoist.tasks
    assert (
        task["description"]
        == f"Call: {sent.event.call.call_id}\n{BY_RULES}\nDue: tomorrow at 3 pm"
    )
    assert task["due"] is None
    refused, taken = (each.headers["x-request-id"] for each in todoist.asked)
    assert refused != taken
    assert len(rows(Task)) == 1


@pytest.mark.parametrize(
    ("fault", "status", "wait", "detail"),
    [
        (Fault(429, error(429, 35, "LIMITS_REACHED", ECHO, retry_after=40),
               headers={"Retry-After": "40"}), "pending", (45, 100), "Todoist answered 429."),
        (Fault(500, error(500, 0, "INTERNAL", ECHO)), "pending", USUAL, "Todoist answered 500."),
        (Fault(503, text=ECHO), "pending", USUAL, "Todoist answered 503."),
        (Fault(200, text=ECHO), "pending", USUAL,
         "Todoist's answer cannot be read: JSONDecodeError."),
        (Fault(204), "pending", USUAL, "Todoist does not say that it has the task."),
        (Fault(200, [ECHO]), "pending", USUAL, "Todoist's answer cannot be read: TypeError."),
        (Fault(200, breaks=True), "pending", USUAL, "Todoist did not answer."),
        (Fault(hangs=True), "pending", USUAL, "Todoist did not answer."),
        (Fault(401, error(401, 401, "UNAUTHORIZED", ECHO)), "dead", (0, 0),
         "Todoist answered 401. See TODOIST_API_TOKEN."),
        (Fault(403, error(403, 411, "AUTH_USER_DELETED", ECHO)), "dead", (0, 0),
         "Todoist answered 403. The token in TODOIST_API_TOKEN may not make tasks here: see"
         " TODOIST_PROJECT_ID."),
        (Fault(404, error(404, 478, "NOT_FOUND", ECHO)), "dead", (0, 0),
         "Todoist answered 404. See TODOIST_PROJECT_ID."),
    ],
)  # fmt: skip
def test_what_becomes_of_a_failure(fault, status, wait, detail, attempts, todoist, monkeypatch):
    patience = httpx.Timeout(1.0)  # the SDK has no option for it
    monkeypatch.setattr("todoist_api_python._core.http_requests.TIMEOUT", patience)
    todoist.fail(fault)
    attempt = attempts("call_ended", "make_tasks", transcript=ONE)
    assert (attempt.status, attempt.detail) == (status, detail)
    assert wait[0] <= attempt.seconds <= wait[1]
    assert detail in attempt.error
    assert len(todoist.asked) == 1


def test_an_answer_that_says_nothing_is_no_task(retell_client, todoist, rows):
    todoist.fail(Fault(204))
    retell_client.send("call_ended", transcript=ONE, check=False)
    assert rows(Task) == todoist.tasks == []
    retell_client.drain()
    assert len(todoist.tasks) == len(rows(Task)) == 1


def test_what_was_said_is_no_markup(retell_client, openai, todoist, rows):
    said = "* [Pay the invoice](https://evil.example) **now**"
    openai.items = [{"text": said, "due": None}]
    retell_client.send("call_ended", transcript=ONE)
    (task,) = todoist.tasks
    assert task["content"] == "[Pay the invoice] (https://evil.example) **now**"
    assert [task.text for task in rows(Task)] == [said]


def test_a_wrong_token_is_named(app, attempts, todoist):
    app.config["TODOIST_API_TOKEN"] = "another"
    attempt = attempts("call_ended", "make_tasks", transcript=ONE)
    assert attempt.detail == "Todoist answered 401. See TODOIST_API_TOKEN."


def test_an_item_that_is_refused_does_not_stop_the_others(retell_client, todoist, rows):
    refusal = Fault(400, error(400, 20, "BAD_REQUEST", "Bad request"))
    todoist.fail(refusal, refusal)  # with its date and without
    retell_client.send("call_ended", transcript=PROMISES, check=False)
    assert [task["content"] for task in todoist.tasks] == [
        "Agent: I'll send you the invoice today."
    ]
    assert [(each.worked, each.detail) for each in rows(Sending)] == [
        (False, "Todoist answered 400."),
        (True, todoist.tasks[0]["id"]),
    ]


def test_a_repeated_event_makes_no_second_task(retell_client, todoist):
    retell_client.send("call_ended", transcript=PROMISES, twins=3)
    retell_client.drain()
    assert len(todoist.tasks) == 2


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("unreadable", [set(), {"tomorrow at 3 pm"}])
def test_a_task_that_was_not_noted_is_made_once(tells, unreadable, retell_client, todoist, rows):
    todoist.tells_of_repeats, todoist.unreadable = tells, unreadable
    with lost_note():
        retell_client.send("call_ended", transcript=ONE, check=False)
    retell_client.drain()
    (made,) = todoist.tasks
    (task,) = rows(Task)
    assert (task.url or "").endswith(made["id"] if tells else "")
    (sending,) = rows(Sending)
    assert (sending.worked, sending.attempts) == (True, 2)
    assert sending.detail == (made["id"] if tells else None)


@pytest.mark.parametrize("lost", [Fault(504, does=True), Fault(breaks=True, does=True)])
def test_a_task_whose_answer_was_lost_is_made_once(lost, retell_client, todoist, rows):
    todoist.fail(lost)
    retell_client.send("call_ended", transcript=PROMISES, check=False)
    retell_client.drain()
    assert len(todoist.tasks) == len(rows(Task)) == 2


def test_a_token_that_is_set_later_makes_no_second_task(app, retell_client, rows):
    retell_client.send("call_ended", transcript=PROMISES)
    app.config["TODOIST_API_TOKEN"] = "set since"  # and no server is there
    with app.app_context():
        for item in db.session.scalars(select(ActionItem)):
            tasks.make_task(item)
    assert {task.place for task in rows(Task)} == {"here"}
