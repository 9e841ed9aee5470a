"""Leases of what runs in this process, renewed while it runs."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from .errors import InboxError
from .forks import ProcessBound, bind_to_process
from .settings import Settings
from .throttle import Throttle

_logger = logging.getLogger(__name__)

_LONG_RUN_LEASES = 10


class Lease(Protocol):
    """The right to run something, which ends with the lease if nobody renews it."""

    lost: bool

    @property
    def started_at(self) -> datetime | None:
        """When what runs now began."""

    @property
    def description(self) -> str:
        """What runs, for the log."""


L = TypeVar("L", bound=Lease)


class Lessor(Protocol[L]):
    """Who gives leases out."""

    settings: Settings

    def clock(self) -> datetime:
        """Now, aware UTC."""

    def extend(self, leases: list[L]) -> None:
        """Renew leases; those that somebody else has by now are marked lost."""


class LeaseKeeper(ProcessBound, Generic[L]):
    """Renews at each third of a lease, from a thread of its own in each process."""

    def __init__(self, lessor: Lessor[L]) -> None:
        self._lessor = lessor
        self._lease = lessor.settings.lease
        self._throttle = Throttle()
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """Forget the parent's leases and thread, after a fork."""
        self._leases: list[L] = []
        self._changed = threading.Condition()
        self._is_idle = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def keeping(self, lease: L) -> Iterator[None]:
        """Renew a lease while the body of ``with`` runs."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                self._thread = _start(self, self._changed)
            self._leases.append(lease)
            if self._is_idle:
                self._is_idle = False
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._leases.remove(lease)

    def _pause(self) -> float | None:
        """For how many seconds there is nothing to do; None: until there is a lease."""
        self._is_idle = not self._leases
        return None if self._is_idle else self._lease.total_seconds() / 3

    def _tend(self, warned: set[L]) -> None:
        try:
            self._renew()
            for lease in self._long_runs() - warned:
                warned.add(lease)
                _warn_of_long_run(lease)
        except Exception:  # a fault of ours, or of a host's clock or log handler
            with suppress(Exception):
                _logger.exception("Leases were not renewed")

    def _renew(self) -> None:
        """Until it succeeds: after an outage nobody takes a lease over before half of one."""
        while leases := [lease for lease in self._held() if not lease.lost]:
            try:
                self._lessor.extend(leases)
                return
            except InboxError:
                if self._throttle.admit("renew") is not None:
                    _logger.warning("The inbox does not answer: leases cannot be renewed")
                time.sleep(min(1.0, self._lease.total_seconds() / 10))

    def _held(self) -> list[L]:
        with self._changed:
            return list(self._leases)

    def _long_runs(self) -> set[L]:
        since = self._lessor.clock() - _LONG_RUN_LEASES * self._lease
        return {
            lease
            for lease in self._held()
            if lease.started_at is not None and lease.started_at < since
        }


def _start(keeper: LeaseKeeper[Any], changed: threading.Condition) -> threading.Thread:
    """The thread holds its keeper only while it renews, and ends with it: apps come and go."""

    def wake(_: object) -> None:
        # In a forked process, its copy may be held by a thread that is not there.
        if changed.acquire(timeout=1):
            try:
                changed.notify_all()
            finally:
                changed.release()

    reference = weakref.ref(keeper, wake)
    thread = threading.Thread(
        target=_keep, args=(reference, changed), name="retell-leases", daemon=True
    )
    thread.start()
    return thread


def _keep(reference: weakref.ref[LeaseKeeper[Any]], changed: threading.Condition) -> None:
    warned: set[Any] = set()
    while True:
        with changed:
            if (keeper := reference()) is None:
                return
            pause = keeper._pause()
            del keeper
            if pause is None:
                warned.clear()
            changed.wait(pause)
        if pause is not None and (keeper := reference()) is not None:
            keeper._tend(warned)
            del keeper


def _warn_of_long_run(lease: Lease) -> None:
    text = "Running for over %d leases: %s; does it hang?"
    _logger.warning(text, _LONG_RUN_LEASES, lease.description)
