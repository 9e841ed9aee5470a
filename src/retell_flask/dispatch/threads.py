"""Threads of each process run the receivers, and take over what other processes left."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import random
import threading
import time
import weakref

from ..delivery import Deliverer
from ..errors import InboxError
from ..forks import ProcessBound, bind_to_process
from ..inbox.entry import Receipt
from ..throttle import Throttle, withheld_note
from . import Answer

_logger = logging.getLogger(__name__)
_random = random.SystemRandom()  # processes that were forked must not draw alike

_POLL_SECONDS = 1.0
_OUTAGE_PAUSE_SECONDS = 2.0
_DRAIN_SECONDS = 5.0


class Threads(ProcessBound):
    """Starts with the first request in a process, or by ``start``; never at import."""

    def __init__(self, deliverer: Deliverer, workers: int) -> None:
        self._deliverer = deliverer
        self._workers = workers
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """Forget the parent's threads, after a fork."""
        self._crew: _Crew | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Start this process's threads, unless they run."""
        crew = self._crew
        if self._workers and (crew is None or crew.is_short()):
            with self._starting:
                if self._crew is None:
                    self._crew = _Crew(self._deliverer, self._workers)
                self._crew.fill()

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
        self._deliverer = deliverer
        self._stopping = deliverer.stopping = threading.Event()
        self._throttle = Throttle(most=1)  # all threads see the same outage
        self._changed = threading.Condition()
        self._wake_ups = workers  # what an earlier process left is looked for at once
        self._next_poll = 0.0
        self._threads: list[threading.Thread | None] = [None] * workers
        self.process: int = os.getpid()
        if not _crews:  # not at import: what the host registers before is done after us
            atexit.register(_stop_at_exit)
        _crews.add(self)

    def is_short(self) -> bool:
        """Whether a thread is missing that should be there."""
        return not self._stopping.is_set() and not all(
            thread is not None and thread.is_alive() for thread in self._threads
        )

    def fill(self) -> None:
        """Start the threads that are missing. Where that cannot be, the next request tries."""
        for number, thread in enumerate(self._threads):
            if thread is None or not thread.is_alive():
                started = threading.Thread(
                    target=self._work, name=f"retell-worker-{number + 1}", daemon=True
                )
                try:
                    started.start()
                except RuntimeError:
                    self._log_throttled("start", "A thread for deliveries cannot be started")
                    return
                self._threads[number] = started

    def wake(self) -> None:
        """Something may be due."""
        with self._changed:
            self._wake_ups = min(self._wake_ups + 1, len(self._threads))
            self._changed.notify()

    def begin_to_stop(self) -> None:
        """Begin no further receivers."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def stop(self, seconds: float) -> bool:
        """``Threads.stop`` for these."""
        self.begin_to_stop()
        deadline = time.monotonic() + seconds
        running = [thread for thread in self._threads if thread is not None]
        for thread in running:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in running)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                # Where one is due another may be: the next thread looks while this one runs.
                if not self._deliverer.deliver_next(on_claim=self.wake):
                    self._rest()
            except InboxError as error:
                if not self._stopping.is_set():
                    self._log_throttled("outage", "Deliveries stand still: %s", error)
                    self._stopping.wait(_OUTAGE_PAUSE_SECONDS)
            except BaseException:
                # A fault of ours, or of a host's clock or log handler: the thread lives on.
                with contextlib.suppress(Exception):
                    _logger.exception("A delivery was broken off")
                self._stopping.wait(_OUTAGE_PAUSE_SECONDS)

    def _log_throttled(self, kind: str, message: str, *values: object) -> None:
        withheld = self._throttle.admit(kind)
        if withheld is not None:
            _logger.error(f"{message}%s", *values, withheld_note(withheld))  # noqa: G004

    def _rest(self) -> None:
        """Until somebody wakes us, or it is our turn to look what others left."""
        with self._changed:
            while not self._wake_ups and not self._stopping.is_set():
                now = time.monotonic()
                if now >= self._next_poll:
                    self._next_poll = now + _POLL_SECONDS * _random.uniform(0.8, 1.2)
                    return
                self._changed.wait(self._next_poll - now)
            self._wake_ups = max(0, self._wake_ups - 1)


_crews: weakref.WeakSet[_Crew] = weakref.WeakSet()


def _stop_at_exit() -> None:
    """All together, so that several blueprints take no longer than one."""
    crews = [crew for crew in _crews if crew.process == os.getpid()]
    deadline = time.monotonic() + _DRAIN_SECONDS
    for crew in crews:
        crew.begin_to_stop()
    for crew in crews:
        crew.stop(max(0.0, deadline - time.monotonic()))
