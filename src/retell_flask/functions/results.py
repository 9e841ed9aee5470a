"""The first result of each tool call, for those who ask the same once more."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

from ..forks import ProcessBound, bind_to_process
from ..inbox.answers import Kept

_MOST_IN_MEMORY = 1_000


class MemoryResults(ProcessBound):
    """Of this process, where there is no inbox or it does not answer."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """A forked process keeps what its parent knew, and takes a lock of its own."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[datetime, Kept]] = OrderedDict(
            vars(self).get("_kept", ())
        )

    def get(self, key: bytes) -> Kept | None:
        """The result of a key, while it is kept."""
        with self._lock:
            until, kept = self._kept.get(key, (None, None))
            return kept if until is not None and until > self._clock() else None

    def put(self, key: bytes, kept: Kept, span: timedelta) -> None:
        """Keep a result for a while, and no more than some."""
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = self._clock() + span, kept
            while len(self._kept) > _MOST_IN_MEMORY:
                self._kept.popitem(last=False)


class SingleFlight(ProcessBound):
    """Lets one thread of a process at a time work on a key."""

    def __init__(self) -> None:
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """Nobody works on anything, after a fork."""
        self._changed = threading.Condition()
        self._taken: set[bytes] = set()

    def enter(self, key: bytes, seconds: float) -> bool:
        """Wait for our turn; False if it does not come in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: key not in self._taken, seconds):
                return False
            self._taken.add(key)
            return True

    def leave(self, key: bytes) -> None:
        """Let the next one begin."""
        with self._changed:
            self._taken.discard(key)
            self._changed.notify_all()
