"""What was signalled, noted for a test to look at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from blinker import ANY, Signal

from ..events import Event
from ..identity import signal_name
from ..signals import SIGNALS, find_signal

LISTENERS = f"{__name__}:"
"""How the identities of captures begin."""

_numbers = itertools.count(1)


class Captured(NamedTuple):
    """One signal that was sent: its name, the blueprint, and what it carried.

    ``event`` is None for signals about the receiving itself; ``keywords`` has all there was.
    """

    signal: str
    sender: Any
    event: Event | None
    keywords: dict[str, Any]


class Capture(list[Captured]):
    """What was sent, in order."""

    def of(self, signal: str | Signal) -> list[Captured]:
        """What was sent by one signal, given by its name or as it is."""
        name = signal_name(find_signal(signal))
        return [each for each in self if each.signal == name]

    @property
    def signals(self) -> list[str]:
        """The names of the signals, in order."""
        return [each.signal for each in self]

    @property
    def events(self) -> list[Event]:
        """The events that were signalled, each once, in order."""
        return list(dict.fromkeys(each.event for each in self if each.event is not None))


@contextmanager
def capture(*signals: str | Signal, sender: Any = ANY) -> Iterator[Capture]:
    """Note what is sent by ``signals``, or by all, of one blueprint or of all.

    ::

        with capture("call_ended") as captured:
            retell_client.send("call_ended")
        assert captured.events[0].call.duration_ms == 26_480

    It listens like a handler: after those that were connected before, once for each delivery.
    """
    captured = Capture()
    wanted = [find_signal(signal) for signal in signals] or list(SIGNALS.values())
    listeners = [(signal, _Listener(signal_name(signal), captured)) for signal in wanted]
    for signal, listener in listeners:
        signal.connect(listener, sender=sender, weak=False)
    try:
        yield captured
    finally:
        for signal, listener in listeners:
            signal.disconnect(listener, sender=sender)


class _Listener:
    """A receiver under a name of its own, so that captures within captures are told apart."""

    def __init__(self, signal: str, captured: Capture) -> None:
        self.__qualname__ = f"capture-{next(_numbers)}"
        self._signal = signal
        self._captured = captured

    def __call__(self, sender: Any, event: Event | None = None, **keywords: Any) -> None:
        everything = keywords if event is None else {"event": event, **keywords}
        self._captured.append(Captured(self._signal, sender, event, everything))
