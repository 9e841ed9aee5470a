"""Microseconds per request inside the process: the WSGI callable, no sockets.

Three ways to receive the same signed ``call_ended``, in turn within one run: a bare view
that reads the body and answers, retell-flask, and the view that a user of ``retell-sdk``
writes. The receivers read ``call_id``, ``duration_ms`` and ``transcript``.

    python benchmarks/receive.py [--rounds 40] [--sizes 4000 110000 700000]
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import retell
from flask import Flask, request

import retell_flask
from bodies import call_ended as call_ended_body
from retell_flask import CallEvent, RetellBlueprint
from retell_flask.testing import HEADER, sign

KEY = "key_0123456789abcdef0123456789ab"
PATH = "/webhooks/retellai"

blueprint = RetellBlueprint()
seen: list[Any] = []


@retell_flask.call_ended.connect_via(blueprint)
def read_call(sender: object, event: CallEvent, **extra: object) -> None:
    seen[:] = [event.call.call_id, event.call.duration_ms, event.call.transcript]


def bare_app() -> Flask:
    app = Flask("bare")

    @app.post(PATH)
    def webhook() -> Any:
        request.get_data(cache=False)
        return {"received": True}

    return app


def library_app() -> Flask:
    app = Flask("library")
    app.config["RETELL_API_KEY"] = KEY
    app.register_blueprint(blueprint)
    return app


def sdk_app() -> Flask:
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


def request_microseconds(app: Flask, body: bytes, repeats: int) -> float:
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": PATH,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_X_RETELL_SIGNATURE": sign(body, KEY),
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
    }
    statuses: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        statuses.append(status)

    call: Callable[..., Any] = app
    began = time.perf_counter()
    for _ in range(repeats):
        response = call({**environ, "wsgi.input": io.BytesIO(body)}, start_response)
        b"".join(response)
        response.close()
    elapsed = time.perf_counter() - began
    if set(statuses) != {"200 OK"}:
        raise SystemExit(f"{app.name} answered {set(statuses)}")
    return elapsed / repeats * 1e6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=40, help="of each app and size")
    arguments.add_argument("--sizes", type=int, nargs="+", default=[4_000, 110_000, 700_000])
    options = arguments.parse_args()
    apps = [bare_app(), library_app(), sdk_app()]
    print(
        f"Python {platform.python_version()}, Werkzeug {version('werkzeug')}, "
        f"msgspec {version('msgspec')}; medians of {options.rounds} rounds, in turn\n"
    )
    print(f"{'bytes':>9} {'bare':>9} {'library':>9} {'sdk':>9}   µs a request; ratios")
    for size in options.sizes:
        body = call_ended_body(size)
        repeats = max(10, 2_000_000 // len(body))
        rounds = [
            [request_microseconds(app, body, repeats) for app in apps]
            for _ in range(options.rounds)
        ]
        bare, library, sdk = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"{len(body):>9,} {bare:>9,.1f} {library:>9,.1f} {sdk:>9,.1f}   "
            f"library / bare {library / bare:.2f}   library / sdk {library / sdk:.3f}"
        )


if __name__ == "__main__":
    main()
