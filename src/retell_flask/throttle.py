"""Log lines that a flood of requests must not multiply."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_MOST = 10
_PERIOD_SECONDS = 10.0


class Throttle:
    """Lets ``most`` lines of each kind through in a period, and counts the others."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, most: int = _MOST) -> None:
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._periods: dict[str, tuple[float, int]] = {}

    def admit(self, kind: str) -> int | None:
        """None if this line is one too many, else how many were since the last period."""
        now = self._clock()
        with self._lock:
            began, count = self._periods.get(kind, (now, 0))
            withheld = 0
            if now - began >= _PERIOD_SECONDS:
                withheld, began, count = max(0, count - self._most), now, 0
            self._periods[kind] = (began, count + 1)
        return withheld if count < self._most else None


def withheld_note(withheld: int) -> str:
    """For the end of a line."""
    return f" ({withheld} more like it were not logged)" if withheld else ""
