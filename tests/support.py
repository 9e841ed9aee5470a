"""What several test modules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from retell_flask import RetellBlueprint
from retell_flask.testing import HEADER, encode, sign

KEY = "key_0123456789abcdef"
SECRET = "secret_of_a_third_party_guide"
PATH = "/webhooks/retellai"

Post = Callable[..., TestResponse]


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
