"""What several test modules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from flask import Flask
from werkzeug.test import TestResponse

from retell_flask import RetellBlueprint
from retell_flask.testing import HEADER, encode, sign

KEY = "key_0123456789abcdef"
SECRET = "secret_of_a_third_party_guide"
# Made when they are sent: a signature is stale five minutes after it was made.
UNSIGNED: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "nonsense": lambda: "nonsense",
    "for another body": lambda: sign(b"other", KEY),
}
PATH = "/webhooks/retellai"

Post = Callable[..., TestResponse]


def near_the_limit() -> list[bytes]:
    """Arrays in arrays, of as many levels as are read on a stack like this one, or nearly."""
    low, high = 100, 100_000
    while high - low > 1:
        depth = (low + high) // 2
        try:
            msgspec.json.decode(b"[" * depth + b"]" * depth, type=msgspec.Raw)
            low = depth
        except RecursionError:
            high = depth
    return [b"[" * depth + b"]" * depth for depth in range(low - 40, low + 5)]


def make_app(*blueprints: RetellBlueprint, **config: Any) -> Flask:
    app = Flask("host")
    app.config.update({"RETELL_API_KEY": KEY, "TESTING": True, **config})
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    return app


def make_post(app: Flask) -> Post:
    """Post rightly signed, as ``RetellTestClient.post`` does, where that client is of no use.

    It wants ``TESTING`` on, takes the threads' place, and reads the inbox when it is made. So
    this is for applications as in production, and for inboxes that fail or are counted.
    """

    def post(body: Any, path: str = "", *, method: str = "POST", **options: Any) -> TestResponse:
        data = body if isinstance(body, bytes) else encode(body)
        headers = {HEADER: sign(data, KEY)}
        return app.test_client().open(
            PATH + path, method=method, data=data, headers=headers, **options
        )

    return post


def call_payload(event: str, **call: Any) -> dict[str, Any]:
    return {"event": event, "call": {"call_id": "call_1", **call}}
