"""Slack's Web API, as far as messages are posted.

Built from ``slack_sdk`` and from Slack's documentation: errors come with status 200 and a name,
but for 429, which has a Retry-After, and for faults of its front end.
"""

from __future__ import annotations

from typing import Any

from werkzeug.wrappers import Response

from .service import Asked, Fault, Service, answer


def error(name: str) -> Fault:
    return Fault(200, {"ok": False, "error": name})


class Slack(Service):
    """Keeps the ``messages`` of its channels."""

    token = "xoxb-for-tests"

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self.channels = {"#customer-escalations"}

    def serve(self, asked: Asked) -> Response:
        if asked.path != "/api/chat.postMessage":
            return answer({"ok": False, "error": "unknown_method"})
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return answer({"ok": False, "error": "invalid_auth"})
        if asked.json["channel"] not in self.channels:
            return answer({"ok": False, "error": "channel_not_found"})
        self.messages.append(asked.json)
        ts = f"1791290405.00000{len(self.messages)}"
        return answer({"ok": True, "channel": "C024BE91L", "ts": ts, "message": asked.json})
