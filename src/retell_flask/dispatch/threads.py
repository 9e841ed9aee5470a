"""Threads of each process run the receivers, and take over what other processes left."""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import time
import weakref
from typing import Any

from ..delivery import Deliverer
from ..errors import InboxError
from ..inbox.maintenance import Pruner
from . import Answer, Receipt

_logger = logging.getLogger(__name__)
_random = random.SystemRandom()  # processes that were forked must not draw alike

_POLL_SECONDS = 1.0
_OUTAGE_PAUSE_SECONDS = 2.0
_DRAIN_SECONDS = 5.0


class Threads:
    """Starts with the first request in a process, or by ``start``; never at import."""

    def __init__(self, deliverer: Deliverer, workers: int) -> None:
        self._deliverer = deliverer
        self._workers = workers
        self._crew: _Crew | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Start this process's threads, unless they run."""
        crew = self._crew
        if (crew is None or crew.process != os.getpid()) and self._workers:
            with self._starting:
                if self._crew is None or self._crew.process != os.getpid():
                    self._crew = _Crew(self._deliverer, self._workers)

    def dispatch(self, receipt: Receipt) -> Answer:
        """Wake a thread; it finds the entry in the inbox."""
        if receipt.duplicate:
            return Answer.DUPLICATE
        if self._crew is not None:
            self._crew.wake()
        return Answer.RECEIVED

    def stop(self, seconds: float = _DRAIN_SECONDS) -> bool:
        """Let the receivers that run finish, and begin no others. Whether all did in time."""
        return self._crew is None or self._crew.stop(seconds)


class _Crew:
    """The threads of one process."""

    def __init__(self, deliverer: Deliverer, workers: int) -> None:
        self.process = os.getpid()
        self._deliverer = deliverer
        self._deliverer.stopping = threading.Event()
        self._pruner = Pruner(deliverer.inbox)
        self._changed = threading.Condition()
        self._wake_ups = workers  # what an earlier process left is looked for at once
        self._next_poll = 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"retell-worker-{number}", daemon=True)
            for number in range(1, workers + 1)
        ]
        atexit.register(_stop_at_exit, weakref.ref(self))
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Something may be due."""
        with self._changed:
            self._wake_ups = min(self._wake_ups + 1, len(self._threads))
            self._changed.notify()

    def stop(self, seconds: float) -> bool:
        self._deliverer.stopping.set()
        with self._changed:
            self._changed.notify_all()
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        stopping = self._deliverer.stopping
        while not stopping.is_set():
            try:
                if self._deliverer.deliver_next():
                    self.wake()  # where one was due another may be
                else:
                    self._pruner.prune_some()
                    self._rest()
            except InboxError as error:
                if not stopping.is_set():
                    _logger.error("Deliveries stand still: %s", error)
                    stopping.wait(_OUTAGE_PAUSE_SECONDS)
            except Exception:
                # A fault of ours, or of a host's clock or log handler: the thread lives on.
                _logger.exception("A delivery was broken off")
                stopping.wait(_OUTAGE_PAUSE_SECONDS)

    def _rest(self) -> None:
        """Until somebody wakes us, or it is our turn to look what others left."""
        with self._changed:
            while not self._wake_ups and not self._deliverer.stopping.is_set():
                now = time.monotonic()
                if now >= self._next_poll:
                    self._next_poll = now + _POLL_SECONDS * _random.uniform(0.8, 1.2)
                    return
                self._changed.wait(self._next_poll - now)
            self._wake_ups = max(0, self._wake_ups - 1)


def _stop_at_exit(reference: weakref.ref[Any]) -> None:
    crew = reference()
    if crew is not None and crew.process == os.getpid():
        crew.stop(_DRAIN_SECONDS)
