"""Microseconds per request inside the process: the WSGI callable, no sockets.

The same signed ``call_ended`` is received in turn within one run by a bare view that reads
the body and answers, by retell-flask, by the view that a user of ``retell-sdk`` writes, and
by a floor: the least that any receiver has to do. The receivers of retell-flask and of the
SDK's view read ``call_id``, ``duration_ms`` and ``transcript``.

    python benchmarks/receive.py [--rounds 40] [--sizes 4000 110000 700000]
"""

from __future__ import annotations

import argparse
import hmac
import io
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import msgspec
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


def floor_app() -> Flask:
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
    apps = [bare_app(), library_app(), sdk_app(), floor_app()]
    print(
        f"Python {platform.python_version()}, Werkzeug {version('werkzeug')}, "
        f"msgspec {version('msgspec')}; medians of {options.rounds} rounds, in turn\n"
    )
    print(f"{'bytes':>9} {'bare':>9} {'library':>9} {'sdk':>9} {'floor':>9}   µs a request")
    for size in options.sizes:
        body = call_ended_body(size)
        bare, library, sdk, floor = medians(apps, body, options.rounds)
        print(
            f"{len(body):>9,} {bare:>9,.1f} {library:>9,.1f} {sdk:>9,.1f} {floor:>9,.1f}   "
            f"library: {library / bare:.2f} of bare, {library / sdk:.3f} of sdk, "
            f"{library / floor:.2f} of floor"
        )
    print("\nThe library against the body's size\n")
    print(f"{'bytes':>9} {'library':>9}   µs a request, and µs for each kB more than the first")
    smallest, cheapest = 0, 0.0
    for size in (175_000, 350_000, 700_000, 1_400_000, 2_800_000):
        body = call_ended_body(size)
        (library,) = medians(apps[1:2], body, options.rounds)
        more = (library - cheapest) / (len(body) - smallest) * 1000
        print(f"{len(body):>9,} {library:>9,.1f}   {f'{more:.2f}' if smallest else ''}")
        if not smallest:
            smallest, cheapest = len(body), library


def medians(apps: list[Flask], body: bytes, rounds: int) -> list[float]:
    repeats = max(10, 2_000_000 // len(body))
    columns = zip(
        *([request_microseconds(app, body, repeats) for app in apps] for _ in range(rounds)),
        strict=True,
    )
    return [statistics.median(column) for column in columns]


if __name__ == "__main__":
    main()
