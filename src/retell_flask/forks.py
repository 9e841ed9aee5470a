"""What a forked process must not share with its parent: connections, locks, threads."""

from __future__ import annotations

import os
import threading
import weakref

_PATIENCE_SECONDS = 2.0


class ProcessBound:
    """An object whose state belongs to the process that made it."""

    def before_fork(self) -> None:
        """Let go of what must not be copied; called in the parent, while nobody uses it."""

    def begin_anew(self) -> None:
        """Drop that state; called in the child, before anything else runs there."""
        raise NotImplementedError


_bound: weakref.WeakSet[ProcessBound] = weakref.WeakSet()


def bind_to_process(target: ProcessBound) -> None:
    """Have ``target`` begin anew in each process that is forked from this one."""
    _bound.add(target)


class Gate:
    """Keeps a fork waiting while a thread is inside a driver, whose locks the child would copy."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """All are outside, and it is open."""
        self._changed: threading.Condition = threading.Condition()
        self._inside: int = 0
        self._is_closed: bool = False

    def __enter__(self) -> None:
        """Be inside."""
        with self._changed:
            if self._is_closed:
                self._changed.wait_for(lambda: not self._is_closed, _PATIENCE_SECONDS)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            if self._is_closed:
                self._changed.notify_all()

    def close(self) -> bool:
        """Let nobody in, and wait a while until all are out; whether they are."""
        with self._changed:
            self._is_closed = True
            return self._changed.wait_for(lambda: not self._inside, _PATIENCE_SECONDS)

    def open(self) -> None:
        """Let everybody in."""
        with self._changed:
            self._is_closed = False
            self._changed.notify_all()


gate: Gate = Gate()


def _before_fork() -> None:
    if gate.close():
        for target in list(_bound):
            target.before_fork()


def _after_fork() -> None:
    gate.begin_anew()
    for target in list(_bound):
        target.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=gate.open, after_in_child=_after_fork)
