"""Who runs the receivers of what was received."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from ..inbox.entry import Receipt


class Answer(Enum):
    """What the sender is told."""

    RECEIVED = "received"
    DUPLICATE = "duplicate"
    FAILED = "failed"
    BUSY = "busy"


class Dispatcher(Protocol):
    """One way of running receivers."""

    def start(self) -> None:
        """Begin work in this process, unless it has begun."""

    def dispatch(self, receipt: Receipt) -> Answer:
        """See to it that the receivers run. Raises ``InboxError``."""
