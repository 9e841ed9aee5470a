"""A PostgreSQL server of the test's own, which it may stop."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from mounts import is_root
from servers import free_port

_SETTINGS = "-c shared_buffers=16MB -c max_connections=60 -c listen_addresses=127.0.0.1"


class Cluster:
    """``pg_ctl`` on one directory."""

    def __init__(self, directory: Path, binaries: Path) -> None:
        self.port = free_port()
        self.url = f"postgresql://retell@127.0.0.1:{self.port}/postgres"
        self._data = directory / "data"
        self._log = directory / "log"
        self._socket = directory
        self._binaries = binaries

    def create(self) -> None:
        options = ("-U", "retell", "--auth=trust", "--no-sync", "--encoding=UTF8")
        self._run("initdb", "-D", str(self._data), *options)

    def start(self) -> None:
        options = f"-p {self.port} -k {self._socket} {_SETTINGS}"
        self._control("start", "-l", str(self._log), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """``immediate`` is as if it were killed."""
        self._control("stop", "-m", mode)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """The kernel goes on to take what it is sent."""
        first = int((self._data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{first}/task/{first}/children")
        stopped = [first]
        os.kill(first, signal.SIGSTOP)  # it starts no others
        try:
            stopped += map(int, children.read_text().split())
            for process in stopped:
                _send(process, signal.SIGSTOP)
            yield
        finally:
            for process in reversed(stopped):
                _send(process, signal.SIGCONT)

    @property
    def is_running(self) -> bool:
        return (self._data / "postmaster.pid").exists()

    def _control(self, action: str, *options: str) -> None:
        self._run("pg_ctl", action, "-D", str(self._data), "-w", "-t", "30", *options)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_as_whom(), str(self._binaries / program), *arguments]
        # Not to a pipe, which the server would hold open.
        with (self._socket / "commands").open("a+") as output:
            done = subprocess.run(command, cwd="/", stdout=output, stderr=output, timeout=60)
            output.seek(0)
            assert done.returncode == 0, output.read() + self._tail()

    def _tail(self) -> str:
        return self._log.read_text()[-3000:] if self._log.exists() else ""


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it ended meanwhile
        os.kill(process, number)


@contextmanager
def private_cluster() -> Iterator[Cluster]:
    """A running one. Skips, or fails under REQUIRE_SERVICES=1, where it cannot be made."""
    binaries = _find_binaries()
    if binaries is None:
        _miss("PostgreSQL's own programs, initdb and pg_ctl, are not here")
    if _as_whom() and shutil.which("runuser") is None:
        _miss("PostgreSQL does not run as root, and there is no runuser here")
    with tempfile.TemporaryDirectory(prefix="retell-postgres-") as name:
        directory = Path(name)
        if _as_whom():
            shutil.chown(directory, "postgres")
        cluster = Cluster(directory, binaries)
        cluster.create()
        try:
            cluster.start()
            yield cluster
        finally:
            if cluster.is_running:
                cluster.stop("immediate")


def _miss(what: str) -> NoReturn:
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what}, and REQUIRE_SERVICES=1 wants them", pytrace=False)
    pytest.skip(what)


def _as_whom() -> list[str]:
    """PostgreSQL does not run as root."""
    return ["runuser", "-u", "postgres", "--"] if is_root() else []


def _find_binaries() -> Path | None:
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"),
        key=lambda found: [int(part) for part in found.parts[4].split(".")],
    )
    on_path = shutil.which("pg_ctl")
    found = versions[-1] if versions else Path(on_path).resolve() if on_path else None
    return found.parent if found else None
