"""The writers of a process, in one line: the first of them commits for all who wait."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from ..errors import InboxError

T = TypeVar("T")

Operations = list[Callable[[Connection], Any]]
Commit = Callable[[Callable[[], Operations], float], list[Any]]

_MOST_TOGETHER = 100
# Whatever the operation: trying each alone would only take longer.
_OUTAGES = (OperationalError, InboxError, OSError)


class Ticket(Generic[T]):
    """One operation in the line."""

    def __init__(self, operation: Callable[[Connection], T]) -> None:
        self.operation = operation
        self.is_settled: bool = False
        self.is_abandoned: bool = False
        self._result: T | None = None
        self._error: Exception | None = None

    def settle(self, result: T | None, error: Exception | None = None) -> None:
        self._result, self._error = result, error
        self.is_settled = True

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class Line:
    """``commit`` runs operations in one transaction, before a deadline, or raises.

    It is given a function that returns them, to be called once it can begin: until then,
    more may come.
    """

    def __init__(self, commit: Commit) -> None:
        # Refuses to be released by a thread that does not have it: see write.
        self.turn: threading.RLock = threading.RLock()
        self._commit = commit
        self._waiting: deque[Ticket[Any]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, ticket: Ticket[T]) -> None:
        self._waiting.append(ticket)

    def write(self, operation: Callable[[Connection], T], patience: float) -> T:
        """The result, once it is committed. Raises ``InboxError`` after ``patience`` seconds."""
        ticket = Ticket(operation)
        self.join(ticket)
        deadline = time.monotonic() + patience
        try:
            if not self.turn.acquire(timeout=patience):
                self._leave(ticket, patience)
            while not ticket.is_settled:
                if ticket not in self._waiting:  # an interrupt lost it
                    self.join(ticket)
                self._serve(deadline)
        except BaseException:
            ticket.is_abandoned = True
            raise
        finally:
            # An interrupt may come as soon as we have it, or before.
            with contextlib.suppress(RuntimeError):
                self.turn.release()
        return ticket.result()

    def _leave(self, ticket: Ticket[Any], patience: float) -> None:
        """What nobody has taken up is withdrawn; what is being committed is waited for."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(ticket)
            raise InboxError(f"The inbox was busy for {patience:.0f} s.")
        if not self.turn.acquire(timeout=patience):
            raise InboxError("A commit does not end.")

    def _serve(self, deadline: float) -> None:
        together: list[Ticket[Any]] = []

        def take() -> Operations:
            while self._waiting and len(together) < _MOST_TOGETHER:
                ticket = self._waiting.popleft()
                if not ticket.is_abandoned:
                    together.append(ticket)
            return _operations(together)

        try:
            self._settle(together, take, deadline)
        except BaseException:  # an interrupt is for this thread alone
            self._waiting.extendleft(t for t in reversed(together) if not t.is_settled)
            raise

    def _settle(
        self, tickets: list[Ticket[Any]], take: Callable[[], Operations], deadline: float
    ) -> None:
        try:
            results = self._commit(take, deadline)
        except Exception as error:
            if not tickets:
                raise  # it could not begin: the others wait for a while of their own
            if len(tickets) > 1 and not isinstance(error, _OUTAGES):
                # One of them is to blame: each for itself.
                for ticket in tickets:
                    self._settle([ticket], functools.partial(_operations, [ticket]), deadline)
                return
            for ticket in tickets:
                ticket.settle(None, error)
        else:
            for ticket, result in zip(tickets, results, strict=True):
                ticket.settle(result)


def _operations(tickets: list[Ticket[Any]]) -> Operations:
    return [ticket.operation for ticket in tickets]
