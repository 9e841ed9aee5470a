"""Turns between the processes that write to one file."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ..errors import InboxError

try:
    import fcntl
except ImportError:  # Windows: SQLite's own waiting has to do
    fcntl = None  # type: ignore[assignment]

_POLL_SECONDS = 0.0001


class FileLock:
    """A lock that ends with its process. Threads must not use it at the same time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self, deadline: float) -> None:
        """Wait until ``deadline``, of ``time.monotonic``. Raises ``InboxError``."""
        if fcntl is None:
            return
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InboxError("Another process holds the inbox's lock file.") from None
                time.sleep(_POLL_SECONDS)

    def release(self) -> None:
        """Let the next one take it."""
        if fcntl is not None and self._descriptor is not None:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
