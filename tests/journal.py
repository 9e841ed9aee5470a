"""A file in which receivers leave a line when they begin and one when they end.

All processes write it and it outlives them: afterwards one can tell what ran, where and when.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from retell_flask import Event


class Line(NamedTuple):
    phase: str  # begin, end, failed
    at: int  # nanoseconds of a clock that all processes of the machine share
    pid: int
    thread: int
    event: str
    type: str
    session: str | None
    signal: str
    receiver: str
    attempt: int

    @property
    def worker(self) -> tuple[int, int]:
        return self.pid, self.thread

    @property
    def delivery(self) -> tuple[str, str, str]:
        return self.event, self.signal, self.receiver


class Journal:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def write(self, phase: str, event: Event, signal: str, receiver: str) -> None:
        line = Line(
            phase,
            time.monotonic_ns(),
            os.getpid(),
            threading.get_native_id(),
            event.id,
            event.type,
            event.session_id,
            signal,
            receiver,
            event.attempt,
        )
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        # One call, so that neither a kill nor another writer tears it.
        os.write(self._descriptor, json.dumps(line).encode() + b"\n")

    @contextmanager
    def noted(self, event: Event, signal: str, receiver: str) -> Iterator[None]:
        self.write("begin", event, signal, receiver)
        try:
            yield
        except BaseException:
            self.write("failed", event, signal, receiver)
            raise
        self.write("end", event, signal, receiver)

    def lines(self, *phases: str, receiver: str | None = None) -> list[Line]:
        """All lines, or those of some phases, or of one receiver, in the order of writing."""
        text = self.path.read_text() if self.path.exists() else ""
        found = [Line(*json.loads(line)) for line in text.splitlines()]
        return [
            line
            for line in found
            if (not phases or line.phase in phases) and receiver in (None, line.receiver)
        ]

    def runs(self, session: str) -> dict[tuple[str, str], list[str]]:
        """Type and receiver of what ran for one call, with the phases in order."""
        runs: dict[tuple[str, str], list[str]] = {}
        for line in self.lines():
            if line.session == session:
                runs.setdefault((line.type, line.receiver), []).append(line.phase)
        return runs
