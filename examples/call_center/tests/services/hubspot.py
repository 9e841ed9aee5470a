"""HubSpot's CRM objects (version 2026-09), as far as they are searched and created.

Built from HubSpot's documentation: the guides on contacts, calls, search and errors. A contact
needs a name or an e-mail address, values are text, and a phone number is nothing unique. What was
made is found after a while.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from werkzeug.wrappers import Response

from .service import Asked, Service, answer

OLDEST_FIRST = [{"propertyName": "hs_object_id", "direction": "ASCENDING"}]


def error(category: str, message: str) -> Any:
    return {
        "status": "error",
        "message": message,
        "correlationId": "aeb5f871-7f07-4993-9211-075dc63e7cbf",
        "category": category,
    }


class HubSpot(Service):
    """Keeps ``contacts`` and ``calls``: properties, and for calls ``associations``.

    They are found ``lag`` after they were made, by the time that ``now`` tells.
    """

    token = "pat-na1-for-tests"

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, list[dict[str, Any]]] = {"contacts": [], "calls": []}
        self.lag = timedelta()
        self.now: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
        self._made_at: dict[str, datetime] = {}

    @property
    def contacts(self) -> list[dict[str, Any]]:
        return self.records["contacts"]

    @property
    def calls(self) -> list[dict[str, Any]]:
        return self.records["calls"]

    def add_contact(self, **properties: str) -> str:
        return str(self._add("contacts", {"properties": properties})["id"])

    def serve(self, asked: Asked) -> Response:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return answer(error("INVALID_AUTHENTICATION", "Authentication credentials"), 401)
        kind, _, action = asked.path.removeprefix("/crm/objects/2026-09/").partition("/")
        if kind not in self.records or action not in ("", "search"):
            return answer(error("OBJECT_NOT_FOUND", "No such path"), 404)
        return self._search(kind, asked.json) if action else self._create(kind, asked.json)

    def _search(self, kind: str, asked: dict[str, Any]) -> Response:
        found = [
            record
            for record in self.records[kind]
            if self._made_at[record["id"]] + self.lag <= self.now()
            and any(
                all(_matches(record, each) for each in group["filters"])
                for group in asked["filterGroups"]
            )
        ]
        is_oldest_first = asked.get("sorts") == OLDEST_FIRST
        ordered = found if is_oldest_first else found[::-1]
        return answer({"total": len(found), "results": ordered[: asked["limit"]]})

    def _create(self, kind: str, asked: dict[str, Any]) -> Response:
        properties = asked["properties"]
        if not all(isinstance(value, str) for value in properties.values()):
            return answer(error("VALIDATION_ERROR", "Invalid input JSON"), 400)
        if kind == "contacts" and not {"email", "firstname", "lastname"} & set(properties):
            return answer(error("VALIDATION_ERROR", "A contact needs a name"), 400)
        if kind == "calls" and "hs_timestamp" not in properties:
            return answer(error("VALIDATION_ERROR", "hs_timestamp is required"), 400)
        return answer(self._add(kind, asked), 201)

    def _add(self, kind: str, asked: dict[str, Any]) -> dict[str, Any]:
        number = 101 + sum(len(each) for each in self.records.values())
        record = {
            "id": str(number),
            "properties": asked["properties"],
            "createdAt": "2026-11-26T10:00:00.000Z",
            "updatedAt": "2026-11-26T10:00:00.000Z",
            "archived": False,
        }
        self._made_at[str(number)] = self.now()
        self.records[kind].append(record | {"associations": asked.get("associations", [])})
        return record


def _matches(record: dict[str, Any], filter_: dict[str, str]) -> bool:
    assert filter_["operator"] == "EQ"
    return record["properties"].get(filter_["propertyName"]) == filter_["value"]
