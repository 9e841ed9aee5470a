"""Real servers in processes of their own, and requests that no client would send."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from retell_flask.testing import HEADER, encode, sign
from support import KEY, PATH

HERE = Path(__file__).parent
COMMANDS = {
    "gunicorn": ["gunicorn", "-b", "127.0.0.1:{port}", "{app}()"],
    "gunicorn-gthread": [
        *("gunicorn", "-b", "127.0.0.1:{port}", "-k", "gthread", "--threads", "4"),
        "{app}()",
    ],
    "waitress": ["waitress", "--listen=127.0.0.1:{port}", "--call", "{app}"],
    "flask": ["flask", "--app", "{app}", "run", "--port", "{port}"],
}


class Answer(NamedTuple):
    status: int
    json: Any
    headers: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def wait_for_log(self, text: str, seconds: float = 10) -> str:
        """All of the log, once ``text`` is in it."""
        deadline = time.monotonic() + seconds
        while text not in (log := self.log.read_text("utf-8")):
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is not in the log:\n{log}")
            time.sleep(0.02)
        return log

    def send(self, request: bytes, *, close_writing: bool = False) -> tuple[int, bytes]:
        """Status and body of the answer to exactly these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(request)
            if close_writing:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := _receive(connection):
                answer += chunk
                head, separator, body = answer.partition(b"\r\n\r\n")
                if separator and len(body) >= _content_length(head):
                    break
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]) if head else 0, body

    def post(self, payload: Any, *, timeout: float = 15) -> Answer:
        """A payload or exact bytes, rightly signed, to the webhook."""
        body = payload if isinstance(payload, bytes) else encode(payload)
        return request(self.port, "POST", PATH, body, {HEADER: sign(body, KEY)}, timeout=timeout)

    def get(self, path: str, *, timeout: float = 15) -> Answer:
        return request(self.port, "GET", path, timeout=timeout)

    def children(self) -> set[int]:
        """The processes that it has started and that live: gunicorn's workers."""
        return {pid for pid in _children(self.process.pid) if is_alive(pid)}

    def stop(self, seconds: float = 15) -> None:
        """As a host's supervisor does it. One that does not end says where its threads stand."""
        self.process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(3)
                return
            # gunicorn forgets the signal for a worker that boots when it comes.
            for pid in self.children():
                os.kill(pid, signal.SIGTERM)
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            for pid in self.children() or {self.process.pid}:
                os.kill(pid, signal.SIGABRT)
            time.sleep(1)
            raise AssertionError(f"Did not end:\n{self.log.read_text('utf-8')}") from None


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    timeout: float = 15,
) -> Answer:
    began = time.monotonic()
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        content = response.read()
    is_json = response.headers.get_content_type() == "application/json"
    return Answer(
        response.status,
        json.loads(content) if is_json else content,
        dict(response.headers),
        time.monotonic() - began,
    )


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 1 << 30


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def eventually(condition: Callable[[], Any], seconds: float = 10, *, what: str = "") -> Any:
    """What the condition returns, once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Not within {seconds} s: {what or condition}")
        time.sleep(0.02)
    return found


@contextmanager
def running(
    name: str,
    *arguments: str,
    app: str = "hostapp:create_app",
    port: int | None = None,
    wait: bool = True,
    **environ: str,
) -> Iterator[Server]:
    """A server of ``COMMANDS`` with further arguments, ended with all that it has started.

    Unless ``wait`` is false its first request was a health probe, and a good one.
    """
    port = port or free_port()
    command = [part.format(port=port, app=app) for part in COMMANDS[name]]
    with (
        tempfile.NamedTemporaryFile(suffix=f"-{name}.log") as log,
        tempfile.TemporaryDirectory() as directory,
    ):
        environ.setdefault("RETELL_INBOX_URL", f"sqlite:///{directory}/retell.sqlite3")
        process = subprocess.Popen(
            [sys.executable, "-m", *command, *arguments],
            cwd=HERE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **environ},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            server = Server(name, port, Path(log.name), process)
            if wait:
                _wait_for(server)
            yield server
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    # Workers outlive a server that was killed.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if server.send(b"GET /webhooks/retellai/health HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{server.name} did not start: {server.log.read_text()}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
