"""What a measurement is made on, and where its files lie. Imports nothing of the library."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

STANDARD_SQLITE = "BENCH_STANDARD_SQLITE"


def hide_pysqlite3() -> None:
    """Make the library take the standard library's SQLite. Before the inbox is used."""
    sys.modules["pysqlite3"] = None  # type: ignore[assignment]


def exit_at_sigterm() -> None:
    """As at Ctrl-C: what was started ends, and what was written goes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def run_again(script: str, *arguments: str) -> None:
    """The same benchmark in a process of its own, which gets the time to clean up."""
    process = subprocess.Popen([sys.executable, script, *arguments])
    try:
        status = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if status:
        raise SystemExit(status)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory on the disk that we stand on, since a sync costs nothing in memory."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as directory:
        yield Path(directory)


def describe(*packages: str) -> str:
    """Python, the versions of some packages, and the machine."""
    versions = [f"Python {platform.python_version()}"]
    for package in packages:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"no {package}")
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{', '.join(versions)}; {os.cpu_count()} CPUs{busy}"


def journal_mode(module: Any, path: Path) -> str:
    """How an inbox writes its file: WAL stays with the file, TRUNCATE with its connections."""
    with contextlib.closing(module.connect(path)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    return "WAL" if mode == "wal" else "TRUNCATE"


def describe_sqlite(module: Any, path: Path) -> str:
    """The SQLite that an inbox uses, and how."""
    name = module.__name__.partition(".")[0]
    mode = journal_mode(module, path)
    return f"SQLite {module.sqlite_version} ({name}), {mode}, synchronous=FULL"


def verdict(found: float, bound: float, *, at_least: bool = False) -> str:
    """``found`` beside its bound."""
    holds = found >= bound if at_least else found <= bound
    return f"{found:.2f}, bound {bound:g}: {'holds' if holds else 'MISSED'}"
