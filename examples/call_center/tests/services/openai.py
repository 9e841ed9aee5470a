"""The chat completions of OpenAI, and of the servers that are compatible with it.

Built from the ``openai`` SDK (its types of requests and answers, and how it maps errors) and from
the error bodies that OpenAI documents.
"""

from __future__ import annotations

import json
from typing import Any

from werkzeug.wrappers import Response

from .service import Asked, Fault, Service, answer


def completion(content: str | None, *, refusal: str | None = None, finish: str = "stop") -> Any:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1791290405,
        "model": "gpt-5-mini-2025-08-07",
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": 300, "completion_tokens": 40, "total_tokens": 340},
    }


def error(message: str, kind: str, code: str | None) -> Any:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def says(content: str | None, **more: Any) -> Fault:
    """The model answers this."""
    return Fault(200, completion(content, **more))


class OpenAI(Service):
    """Finds ``items`` in whatever it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[dict[str, str | None]] = []

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def serve(self, asked: Asked) -> Response:
        if asked.path != "/v1/chat/completions":
            return answer(error("Invalid URL", "invalid_request_error", None), 404)
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            wrong = "Incorrect API key provided: token***ests."
            return answer(error(wrong, "invalid_request_error", "invalid_api_key"), 401)
        return answer(completion(json.dumps({"items": self.items})))
