"""The applications that are measured, in the process or as ``gunicorn "apps:serve_durable()"``.

Each answers ``POST /webhooks/retellai``. Options that are not given come from the
environment. The receivers of retell-flask and of the SDK's view read ``call_id``,
``duration_ms`` and ``transcript``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import msgspec
from flask import Flask, request

import facts
import retell_flask
from bodies import KEY, PATH
from retell_flask import CallEvent, RetellBlueprint
from retell_flask.inbox.sqlite import sqlite_module
from retell_flask.testing import HEADER

if os.environ.get(facts.STANDARD_SQLITE):
    facts.hide_pysqlite3()

CREATE_STORED = "CREATE TABLE IF NOT EXISTS stored (digest BLOB PRIMARY KEY, body BLOB)"

blueprint = RetellBlueprint()
seen: list[Any] = []


@retell_flask.call_ended.connect_via(blueprint)
def read_call(sender: object, event: CallEvent, **extra: object) -> None:
    seen[:] = [event.call.call_id, event.call.duration_ms, event.call.transcript]


def bare() -> Flask:
    """Reads the body and answers."""
    app = Flask("bare")

    @app.post(PATH)
    def webhook() -> Any:
        request.get_data(cache=False)
        return {"received": True}

    return app


def storing(commit: Callable[[], None]) -> Flask:
    """``bare``, which also commits a row."""
    app = Flask("stored")

    @app.post(PATH)
    def webhook() -> Any:
        request.get_data()
        commit()
        return {"received": True}

    return app


def library(name: str, **options: str) -> Flask:
    """retell-flask with ``RETELL_`` options."""
    app = Flask(name)
    app.config["RETELL_API_KEY"] = KEY
    app.config.from_mapping({f"RETELL_{option}": value for option, value in options.items()})
    app.register_blueprint(blueprint)
    return app


class NamingItsProcess:
    """For gunicorn: an application whose answers name the process that they come from."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], exc_info)

        return self.app(environ, start)


def serve_bare() -> NamingItsProcess:
    return NamingItsProcess(bare())


def serve_stored() -> NamingItsProcess:
    """Stores as most do: a connection for each thread, and SQLite has them wait.

    The table, in ``STORED_PATH``, has the body and a unique digest of it.
    """
    local = threading.local()

    def commit() -> None:
        if not hasattr(local, "connection"):
            path = os.environ["STORED_PATH"]
            local.connection = sqlite_module().connect(path, timeout=8, isolation_level=None)
            for statement in ("PRAGMA synchronous=FULL", CREATE_STORED):
                local.connection.execute(statement)
        body = request.get_data()
        row = hashlib.sha256(body).digest(), body
        local.connection.execute("INSERT OR IGNORE INTO stored VALUES (?, ?)", row)

    return NamingItsProcess(storing(commit))


def serve_durable() -> NamingItsProcess:
    """``RETELL_INBOX_URL`` and ``RETELL_WORKERS`` come from the environment."""
    return NamingItsProcess(library("durable", DISPATCH="threads"))


def serve_counting() -> NamingItsProcess:
    """All options come from the environment, and ``BROKER``."""
    import counting

    return NamingItsProcess(counting.create_app())


def sdk() -> Flask:
    """What a user of ``retell-sdk`` writes."""
    import retell

    app = Flask("sdk")
    client = retell.Retell(api_key=KEY)

    @app.post(PATH)
    def webhook() -> Any:
        body = request.get_data(as_text=True)
        signature = request.headers.get(HEADER, "")
        if not client.verify(body, api_key=KEY, signature=signature):
            return {"error": "Invalid signature"}, 401
        call = json.loads(body)["call"]
        seen[:] = [call["call_id"], call["duration_ms"], call["transcript"]]
        return {"received": True}

    return app


def floor() -> Flask:
    """What no receiver in Flask can do without: HMAC, one scan of the JSON, an answer."""
    app = Flask("floor")
    key = KEY.encode()

    @app.post(PATH)
    def webhook() -> Any:
        length = int(request.environ["CONTENT_LENGTH"])
        body = request.environ["wsgi.input"].read(length)
        hmac.digest(key, body, "sha256")
        msgspec.json.decode(body, type=msgspec.Raw)
        return app.response_class(b'{"received": true}', content_type="application/json")

    return app
