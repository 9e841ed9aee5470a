"""Each action item becomes a task: in Todoist where its token is set, else in a table of ours."""

from __future__ import annotations

import uuid
from json import JSONDecodeError

import httpx
from flask import current_app
from todoist_api_python.api import TodoistAPI
from todoist_api_python.models import Task as TodoistTask

from retell_flask import Retry

from . import failures
from .models import ActionItem, Sending, Task, db
from .sendings import send_once

_REMEDIES = {
    401: "See TODOIST_API_TOKEN.",
    403: "The token in TODOIST_API_TOKEN may not make tasks here: see TODOIST_PROJECT_ID.",
    404: "See TODOIST_PROJECT_ID.",
}


def make_task(item: ActionItem) -> None:
    """Make an item's task, unless it is there."""
    if item.task:
        return
    if current_app.config["TODOIST_API_TOKEN"]:
        send_once(item.call_id, "todoist", _what(item), lambda: _send(item))
    else:
        _note(item, place="here")
        db.session.commit()


def _note(item: ActionItem, *, place: str, url: str | None = None) -> None:
    source = f"Call: {item.call_id}"
    db.session.add(Task(item_id=item.id, source=source, text=item.text, place=place, url=url))


def _what(item: ActionItem) -> str:
    return f"task {item.position + 1}"


def _send(item: ActionItem) -> str | None:
    task = _add_to_todoist(item)
    if (
        task is None
        and db.session.get(Sending, (item.call_id, "todoist", _what(item))).attempts == 1
    ):
        raise Retry(reason="Todoist does not say that it has the task.")
    _note(item, place="todoist", url=task.url if task else None)
    return task.id if task else None


def _add_to_todoist(item: ActionItem) -> TodoistTask | None:
    """The task, or None where Todoist says only that it has it.

    Todoist discards a request whose id it knows. So the item's own id is the request's, and an
    item that is sent again after an answer was lost makes no second task.
    """
    description = f"Call: {item.call_id}"
    if item.extractor == "rules":
        description += "\nFound by rules, not by a model"
    try:
        return _post(item.id, item.text, description, item.due)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != 400 or item.due is None:
            raise _refusal(error) from None
    # Probably no date that Todoist can read. As another request it has another id.
    request_id = str(uuid.uuid5(uuid.UUID(item.id), "without a date"))
    try:
        return _post(request_id, item.text, f"{description}\nDue: {item.due}", None)
    except httpx.HTTPStatusError as error:
        raise _refusal(error) from None


def _post(request_id: str, text: str, description: str, due: str | None) -> TodoistTask | None:
    config = current_app.config
    try:
        with TodoistAPI(config["TODOIST_API_TOKEN"], request_id_fn=lambda: request_id) as todoist:
            return todoist.add_task(
                _plain(text),
                description=description,
                project_id=config["TODOIST_PROJECT_ID"],
                due_string=due,
                auto_parse_labels=False,  # the caller's words are no labels of yours
            )
    except httpx.HTTPStatusError:
        raise
    except httpx.HTTPError:
        raise Retry(reason="Todoist did not answer.") from None
    except Exception as error:  # its text may quote the answer, and that the task
        if isinstance(error, JSONDecodeError) and not error.doc:
            return None
        name = type(error).__name__
        raise Retry(reason=f"Todoist's answer cannot be read: {name}.") from None


def _plain(text: str) -> str:
    """Without what Todoist would read as markup that matters: a link with a text of its own, and
    an asterisk in front, which makes a task that cannot be ticked off."""
    return text.lstrip("* ").replace("](", "] (")


def _refusal(error: httpx.HTTPStatusError) -> Exception:
    response = error.response
    return failures.of_status("Todoist", response.status_code, response.headers, _REMEDIES)
