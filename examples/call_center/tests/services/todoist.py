"""Todoist's API v1, as far as tasks are added.

Built from ``todoist-api-python`` 4.0 (paths, headers and the fields of a task, which its models
insist on), from Todoist's documentation (a request with the id of a processed one is discarded;
200 with a task, 204 where there is no data to return; what is answered to a discarded one is not
said, so that both are tried) and from error bodies in its announcements and issues.
"""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from .service import Asked, Service, answer


def error(http_code: int, error_code: int, tag: str, text: str, **extra: Any) -> Any:
    return {
        "error": text,
        "error_code": error_code,
        "error_extra": extra,
        "error_tag": tag,
        "http_code": http_code,
    }


class Todoist(Service):
    """Keeps ``tasks``. ``unreadable`` are the dates that it refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[dict[str, Any]] = []
        self.unreadable: set[str] = set()
        self.tells_of_repeats = True
        self._by_request: dict[str, dict[str, Any]] = {}

    def serve(self, asked: Asked) -> Response:
        if asked.path != "/api/v1/tasks":
            return answer(error(404, 478, "NOT_FOUND", "Not found"), 404)
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return answer(error(401, 401, "UNAUTHORIZED", "Unauthorized"), 401)
        request_id = asked.headers["x-request-id"]
        assert len(request_id) <= 36
        if request_id in self._by_request:
            task = self._by_request[request_id]
            return answer(task) if self.tells_of_repeats else Response(status=204)
        if asked.json.get("due_string") in self.unreadable:
            return answer(error(400, 480, "INVALID_DATE", "Date is invalid"), 400)
        task = self._by_request[request_id] = self._task(asked.json)
        self.tasks.append(task)
        return answer(task)

    def _task(self, asked: dict[str, Any]) -> dict[str, Any]:
        due = {"date": "2026-12-24", "string": asked.get("due_string"), "lang": "en"}
        return {
            "user_id": "2671355",
            "id": f"6X7rM8997g3RQm{len(self.tasks)}",
            "project_id": asked.get("project_id", "6Jf8VQXxpwv56VQ7"),
            "section_id": None,
            "parent_id": None,
            "added_by_uid": "2671355",
            "assigned_by_uid": None,
            "responsible_uid": None,
            "labels": [],
            "deadline": None,
            "duration": None,
            "checked": False,
            "is_deleted": False,
            "added_at": "2026-11-26T10:00:00.000000Z",
            "completed_at": None,
            "updated_at": "2026-11-26T10:00:00.000000Z",
            "due": {**due, "is_recurring": False} if "due_string" in asked else None,
            "priority": 1,
            "child_order": 1,
            "content": asked["content"],
            "description": asked["description"],
            "note_count": 0,
            "day_order": -1,
            "is_collapsed": False,
        }
