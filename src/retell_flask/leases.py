"""Leases of what runs in this process, renewed while it runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .errors import InboxError
from .forks import ProcessBound, bind_to_process
from .inbox.entry import Claim
from .inbox.store import Inbox
from .throttle import Throttle

_logger = logging.getLogger(__name__)

_LONG_RUN_LEASES = 10


class LeaseKeeper(ProcessBound):
    """Renews at each third of a lease, from a thread of its own in each process."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._lease = inbox.settings.lease
        self._throttle = Throttle()
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """Forget the parent's claims and thread, after a fork."""
        self._claims: list[Claim] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keeping(self, claim: Claim) -> Iterator[None]:
        """Hold the lease of a claim."""
        with self._changed:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._loop, name="retell-leases", daemon=True)
                thread.start()
                self._thread = thread
            self._claims.append(claim)
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._claims.remove(claim)

    def _loop(self) -> None:
        warned: set[Claim] = set()
        while True:
            with self._changed:
                while not self._claims:
                    warned.clear()
                    self._changed.wait()
            time.sleep(self._lease.total_seconds() / 3)
            try:
                self._renew()
                for claim in self._long_runs() - warned:
                    warned.add(claim)
                    _warn_of_long_run(claim)
            except Exception:  # a fault of ours, or of a host's clock or log handler
                with suppress(Exception):
                    _logger.exception("Leases were not renewed")

    def _renew(self) -> None:
        """Until it succeeds: after an outage nobody takes a lease over before half of one."""
        while claims := [claim for claim in self._held() if not claim.lost]:
            try:
                self._inbox.extend(claims)
                return
            except InboxError:
                if self._throttle.admit("renew") is not None:
                    _logger.warning("The inbox does not answer: leases cannot be renewed")
                time.sleep(min(1.0, self._lease.total_seconds() / 10))

    def _held(self) -> list[Claim]:
        with self._changed:
            return list(self._claims)

    def _long_runs(self) -> set[Claim]:
        since = self._inbox.clock() - _LONG_RUN_LEASES * self._lease
        return {
            claim
            for claim in self._held()
            if claim.current and claim.current.started_at and claim.current.started_at < since
        }


def _warn_of_long_run(claim: Claim) -> None:
    if claim.current is not None:
        _logger.warning(
            "%s has been running for over %d leases on %s of %s: does it hang?",
            claim.current.receiver,
            _LONG_RUN_LEASES,
            claim.entry.type,
            claim.entry.event_id,
            extra={"retell_event_id": claim.entry.event_id},
        )
