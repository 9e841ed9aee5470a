"""What several test modules share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from retell_flask import Event, RetellBlueprint
from retell_flask.signals import SIGNALS
from retell_flask.testing import HEADER, encode, sign

KEY = "key_0123456789abcdef"
SECRET = "secret_of_a_third_party_guide"
PATH = "/webhooks/retellai"
REPORTS = {
    "webhook_rejected",
    "delivery_failed",
    "delivery_dead",
    "inbound_answered",
    "backfilled",
}

Post = Callable[..., TestResponse]


def make_app(*blueprints: RetellBlueprint, **config: Any) -> Flask:
    app = Flask("host")
    app.config.update({"RETELL_API_KEY": KEY, "TESTING": True, **config})
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    return app


def make_post(app: Flask) -> Post:
    """Post a payload or exact bytes, rightly signed unless ``header`` says otherwise."""

    def post(
        body: Any, *, header: str | None = "", key: str = KEY, path: str = PATH, **keywords: Any
    ) -> TestResponse:
        data = body if isinstance(body, bytes) else encode(body)
        if header == "":
            header = sign(data, key)
        headers = {} if header is None else {HEADER: header}
        return app.test_client().post(path, data=data, headers=headers, **keywords)

    return post


@contextmanager
def listening(sender: Any) -> Iterator[list[tuple[str, Event]]]:
    """Every event signal that ``sender`` sends, as name and event, in order."""
    heard: list[tuple[str, Event]] = []
    receivers = []
    for name, signal in SIGNALS.items():
        if name in REPORTS:
            continue

        def receive(_: Any, event: Event, name: str = name, **extra: Any) -> None:
            heard.append((name, event))

        receivers.append((signal, receive))
        signal.connect(receive, sender=sender, weak=False)
    try:
        yield heard
    finally:
        for signal, receive in receivers:
            signal.disconnect(receive, sender=sender)


def call_payload(event: str, **call: Any) -> dict[str, Any]:
    return {"event": event, "call": {"call_id": "call_1", **call}}
