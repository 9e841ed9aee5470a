"""Sees each run of a receiver, and has it fail where a test wants that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from ..events import Event
from ..identity import Receiver
from ..invocation import Outcome
from .capture import LISTENERS


class MadeToFail(Exception):
    """What a receiver raises that a test makes fail."""


class Run(NamedTuple):
    """One run of a receiver (its identity); ``error`` is what it raised."""

    event: Event
    signal: str
    receiver: str
    error: BaseException | None


@dataclass(eq=False)
class _Fault:
    receivers: tuple[Receiver | str, ...]
    error: BaseException | type[BaseException]
    times: int | None

    def strike(self, identity: str, receiver: Receiver) -> None:
        if self.receivers and not {identity, receiver} & set(self.receivers):
            return
        if self.times is not None:
            if self.times <= 0:
                return
            self.times -= 1
        raise self.error


@dataclass(eq=False)
class Notes:
    """The runs of receivers, and what any function of the host's raised."""

    runs: list[Run] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)


class Observer:
    """A watcher of an ``Invoker``. It overlooks captures."""

    def __init__(self) -> None:
        self._faults: list[_Fault] = []
        self._notes: list[Notes] = []

    def before(self, identity: str, receiver: Receiver) -> None:
        """Raise what the receiver is to raise."""
        if not identity.startswith(LISTENERS):
            for fault in self._faults:
                fault.strike(identity, receiver)

    def after(self, event: Event, outcome: Outcome) -> None:
        """Note the run."""
        if not outcome.receiver.startswith(LISTENERS):
            for notes in self._notes:
                notes.runs.append(Run(event, outcome.signal, outcome.receiver, outcome.error))

    def raised(self, error: BaseException) -> None:
        """Note the error."""
        for notes in self._notes:
            notes.errors.append(error)

    @contextmanager
    def noting(self) -> Iterator[Notes]:
        """What there is inside."""
        notes = Notes()
        self._notes.append(notes)
        try:
            yield notes
        finally:
            self._notes.remove(notes)

    @contextmanager
    def failing(
        self,
        receivers: tuple[Receiver | str, ...],
        error: BaseException | type[BaseException],
        times: int | None,
    ) -> Iterator[None]:
        """Have receivers, or all, fail inside."""
        fault = _Fault(receivers, error, times)
        self._faults.append(fault)
        try:
            yield
        finally:
            self._faults.remove(fault)
