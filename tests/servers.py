"""Real servers in processes of their own, and requests that no client would send."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
COMMANDS = {
    "gunicorn": ["gunicorn", "-b", "127.0.0.1:{port}", "hostapp:create_app()"],
    "gunicorn-gthread": [
        *("gunicorn", "-b", "127.0.0.1:{port}", "-k", "gthread", "--threads", "4"),
        "hostapp:create_app()",
    ],
    "waitress": ["waitress", "--listen=127.0.0.1:{port}", "--call", "hostapp:create_app"],
    "flask": ["flask", "--app", "hostapp:create_app", "run", "--port", "{port}"],
}


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    log: Path

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


@contextmanager
def running(name: str, **environ: str) -> Iterator[Server]:
    port = _free_port()
    command = [part.format(port=port) for part in COMMANDS[name]]
    with (
        tempfile.NamedTemporaryFile(suffix=f"-{name}.log") as log,
        tempfile.TemporaryDirectory() as directory,
    ):
        environ.setdefault("RETELL_INBOX_URL", f"sqlite:///{directory}/retell.sqlite3")
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=HERE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            server = Server(name, port, Path(log.name))
            _wait_for(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if server.send(b"GET /webhooks/retellai/health HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200:
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{server.name} did not start: {server.log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
