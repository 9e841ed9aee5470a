"""Requests for custom functions, as Retell makes them."""

from __future__ import annotations

import json
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from retell_flask.testing import RetellTestClient

WITHOUT_BODY = ("GET", "DELETE")
WITH_BODY = ("POST", "PUT", "PATCH")


def invocation(tool_call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    """An item of the transcript; ``arguments`` may be text as it is."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "role": "tool_call_invocation",
        "tool_call_id": tool_call_id,
        "name": name,
        "arguments": text,
    }


def result(tool_call_id: str, content: str = "done") -> dict[str, Any]:
    """The item that follows when the invocation was answered for good."""
    return {"role": "tool_call_result", "tool_call_id": tool_call_id, "content": content}


def whole(
    name: str, args: dict[str, Any], *items: dict[str, Any], call_id: str = "call_1", **call: Any
) -> dict[str, Any]:
    """A body with the call, whose transcript ends with ``items`` if there are any."""
    if items:
        call["transcript_with_tool_calls"] = [
            {"role": "agent", "content": "One moment."},
            *items,
        ]
    return {"name": name, "args": args, "call": {"call_id": call_id, **call}}


def tool_call(
    name: str, args: dict[str, Any], tool_call_id: str = "tool_1", **call: Any
) -> dict[str, Any]:
    """A body whose transcript ends with the tool call that it is about."""
    return whole(name, args, invocation(tool_call_id, name, args), **call)


def send(
    app: Flask, name: str, body: Any = b"", *, blueprint: str = "retell", **options: Any
) -> TestResponse:
    """The answer to a payload or exact bytes; ``options`` are those of the kit's ``post``."""
    return RetellTestClient(app, blueprint).post(body, f"/functions/{name}", **options)
