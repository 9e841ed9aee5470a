"""What the stand-ins have in common: a server that keeps what it was asked and fails on demand."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response


class Silent(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Asked:
    """A request as it came in."""

    path: str
    headers: dict[str, str]  # names in lower case
    json: Any


@dataclass(frozen=True)
class Fault:
    """An answer in place of the right one. With ``does``, what was asked is done all the same."""

    status: int = 500
    data: Any = None
    text: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    does: bool = False
    hangs: bool = False  # until the client has enough, or the server stops
    breaks: bool = False  # off in the middle of the answer

    def response(self) -> Response:
        body = Response(self.text or "", self.status, self.headers, content_type="text/html")
        return body if self.data is None else answer(self.data, self.status, self.headers)


def answer(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(data)
    return Response(body, status, headers, content_type="application/json; charset=utf-8")


class Service:
    """A server on 127.0.0.1. A stand-in says in ``serve`` what it answers."""

    token = "token-for-tests"

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._faults: deque[Fault] = deque()
        self._port = 0
        self._stopping = threading.Event()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._stopping.clear()
        self._server = make_server(
            "127.0.0.1", self._port, self._application, threaded=True, request_handler=Silent
        )
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections."""
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def fail(self, *faults: Fault) -> None:
        """Answer the next requests so."""
        self._faults.extend(faults)

    def serve(self, asked: Asked) -> Response:
        raise NotImplementedError

    def _application(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.path, headers, request.get_json(silent=True))
        self.asked.append(asked)
        fault = self._faults.popleft() if self._faults else None
        if fault is None or fault.does:
            response = self.serve(asked)
        if fault is not None:
            response = fault.response()
            if fault.hangs:
                self._stopping.wait(5)
            if fault.breaks:
                response.headers["Content-Length"] = "1000"
                return _broken(response(environ, start_response))
        return response(environ, start_response)


def _broken(body: Iterable[bytes]) -> Iterator[bytes]:
    yield from body
    yield b"{"
