"""A server that answers create-phone-call as Retell's API does, with made-up calls."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug import Request, Response
from werkzeug.serving import make_server


class RetellStandIn:
    """``requests`` are the bodies that came, ``calls`` what rang, by idempotency key.

    ``refuse_with`` is a status and Retell's message, ``is_silent`` has the connection break off
    after the phone rang.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.calls: dict[str, dict[str, Any]] = {}
        self.refuse_with: tuple[int, str] | None = None
        self.is_silent = False

    @Request.application
    def __call__(self, request: Request) -> Response:
        assert request.path == "/v2/create-phone-call"
        assert request.headers["Authorization"].startswith("Bearer ")
        body = request.get_json()
        self.requests.append(body)
        if self.refuse_with:
            status, message = self.refuse_with
            return _json({"status": "error", "message": message}, status)
        call = self.calls.setdefault(body["idempotency_key"], self._call(body))
        if self.is_silent:
            request.environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return _json(call, 201)

    def _call(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "call_id": f"call_rung_{len(self.calls) + 1}",
            "call_type": "phone_call",
            "call_status": "registered",
            "agent_id": body.get("override_agent_id", "agent_of_the_number"),
            "agent_version": 1,
            "agent_name": "Bayview Reminder",
            "direction": "outbound",
            "from_number": body["from_number"],
            "to_number": body["to_number"],
        }


def _json(content: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(content), status, mimetype="application/json")


@contextmanager
def retell_stand_in() -> Iterator[RetellStandIn]:
    stand_in = RetellStandIn()
    server = make_server("127.0.0.1", 0, stand_in, threaded=True)
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
