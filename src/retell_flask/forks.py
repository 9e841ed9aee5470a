"""What a forked process must not share with its parent: connections, locks, threads."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ProcessBound(Protocol):
    """An object whose state belongs to the process that made it."""

    def begin_anew(self) -> None:
        """Drop that state; called in the child, before anything else runs there."""


_bound: weakref.WeakSet[ProcessBound] = weakref.WeakSet()


def bind_to_process(target: ProcessBound) -> None:
    """Have ``target`` begin anew in each process that is forked from this one."""
    _bound.add(target)


def _after_fork() -> None:
    for target in list(_bound):
        target.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
