"""Brokers of a test's own, which it can kill: the system's are left alone."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from servers import eventually

_START_SECONDS = 60


def require_program(name: str) -> str:
    """Its path. Skip the test where it is not, and fail it instead under REQUIRE_SERVICES=1."""
    path = shutil.which(name)
    if path is not None:
        return path
    missing = f"{name} is not installed"
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{missing}, and REQUIRE_SERVICES=1 wants it", pytrace=False)
    pytest.skip(missing)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """A process that leads a session, and all that it has started there."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def lasting_port() -> int:
    """One that no client is given for a connection of its own while the broker is down."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Broker:
    """A process that serves a port, and what it knows outlives it."""

    def __init__(
        self, url: str, port: int, command: Sequence[str], log: Path, environ: dict[str, str]
    ) -> None:
        self.url = url.format(port=port)
        self.restarts = -1
        self._port = port
        self._command = command
        self._log = log
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._answers, _START_SECONDS, what=f"{self.url} answers: see {self._log}")
        self.restarts += 1

    def kill(self) -> None:
        if self._process is not None:
            kill_group(self._process)
            # RabbitMQ is a child of what was started, and may end later.
            eventually(lambda: not self._listens(), what=f"{self.url} is gone")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        if self._listens():
            return True
        time.sleep(0.1)
        return False

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True


def redis(directory: Path, stack: ExitStack) -> Broker:
    program, port = require_program("redis-server"), lasting_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "yes"]
    command = [program, *options, "--dir", str(directory)]
    return Broker("redis://127.0.0.1:{port}/0", port, command, directory / "redis.log", {})


def rabbitmq(directory: Path, stack: ExitStack) -> Broker:
    # Debian's command is a wrapper beside the real one, and changes to the system's user.
    program = Path(require_program("rabbitmq-server")).resolve().with_name("rabbitmq-server")
    port, names_port = lasting_port(), lasting_port()
    mapper = subprocess.Popen(
        [require_program("epmd"), "-port", str(names_port), "-address", "127.0.0.1"],
        start_new_session=True,
    )
    stack.callback(kill_group, mapper)
    (directory / "plugins").write_text("[].\n")
    (directory / "environment").touch()
    environ = {
        "HOME": str(directory),
        "ERL_EPMD_PORT": str(names_port),
        "RABBITMQ_NODENAME": f"retell{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(lasting_port()),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_CONFIG_FILE": str(directory / "no.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "no.config"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "environment"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
    }
    url, log = "amqp://guest:guest@127.0.0.1:{port}//", directory / "rabbitmq.log"
    return Broker(url, port, [str(program)], log, environ)


BROKERS = {"Redis": redis, "RabbitMQ": rabbitmq}


@contextmanager
def broker(name: str, directory: Path) -> Iterator[Broker]:
    """One of ``BROKERS`` that runs, with its files in a directory."""
    directory.mkdir()
    with ExitStack() as stack:
        made = BROKERS[name](directory, stack)
        stack.callback(made.kill)
        made.start()
        yield made
