"""Who hears a signal, in which order, and under which name.

A receiver's identity is ``module:qualname``, or the name it was given. It outlives the
process, so that what one process began another can go on with.
"""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

from blinker import Signal

Receiver = Callable[..., Any]


class ReceiverNames:
    """The names that a blueprint's receivers were given with ``name=``."""

    def __init__(self) -> None:
        # The receiver is kept so that its id is never another's.
        self._names: dict[tuple[str, Hashable], tuple[str, Receiver]] = {}

    def give(self, name: str, receiver: Receiver, signals: list[Signal], sender: Any) -> None:
        """Name a receiver, or raise ``ValueError`` if that cannot be its name."""
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 200:
            raise ValueError("A receiver's name is text of 1 to 200 printable characters.")
        for signal in signals:
            if is_taken(name, receiver, signal, sender):
                raise ValueError(f"{signal_name(signal)} has a receiver named {name!r} already.")
            if self.get(signal, receiver) not in (None, name):
                raise ValueError(f"{signal_name(signal)} has this receiver by another name.")
        for signal in signals:
            self._names[signal_name(signal), _key(receiver)] = (name, receiver)

    def get(self, signal: Signal, receiver: Receiver) -> str | None:
        if not self._names:
            return None
        named = self._names.get((signal_name(signal), _key(receiver)))
        return named and named[0]


_NO_NAMES = ReceiverNames()


def connected(signal: Signal, sender: Any) -> list[tuple[str, Receiver]]:
    """Identity and receiver of all who hear ``sender`` on ``signal``, in order of connection."""
    if not signal.receivers:
        return []
    hearing = list(signal.receivers_for(sender))
    if len(hearing) > 1:  # rarely: most signals have one receiver
        order = {_key(receiver): n for n, receiver in enumerate(_all_receivers(signal))}
        hearing.sort(key=lambda receiver: order.get(_key(receiver), len(order)))
    names: ReceiverNames = getattr(sender, "receiver_names", _NO_NAMES)
    result: dict[str, Receiver] = {}
    for receiver in hearing:
        base = identity = names.get(signal, receiver) or identity_of(receiver)
        number = 1
        while identity in result:
            number += 1
            identity = f"{base}#{number}"
        result[identity] = receiver
    return list(result.items())


def _all_receivers(signal: Signal) -> Iterator[Receiver]:
    """In order of connection, which ``receivers_for`` does not keep."""
    for reference in list(signal.receivers.values()):
        receiver = reference() if isinstance(reference, weakref.ref) else reference
        if receiver is not None:
            yield receiver


def identity_of(receiver: Receiver) -> str:
    """``module:qualname``; a partial counts as its function, an object as its class."""
    named: Any = receiver
    while isinstance(named, functools.partial):
        named = named.func
    if not hasattr(named, "__qualname__"):
        named = type(named)
    module = getattr(named, "__module__", None) or "builtins"
    return f"{_module_name(module)}:{named.__qualname__}"


def is_taken(identity: str, receiver: Receiver, signal: Signal, sender: Any) -> bool:
    """Whether another receiver than this one goes by ``identity``."""
    own = _key(receiver)
    return any(
        taken == identity and _key(other) != own for taken, other in connected(signal, sender)
    )


def _module_name(module: str) -> str:
    """``__main__`` under the name that it has when it is imported."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    if spec := getattr(main, "__spec__", None):
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else module


def signal_name(signal: Signal) -> str:
    """The name under which hosts know a signal."""
    return str(getattr(signal, "name", "a signal"))


def _key(receiver: Receiver) -> Hashable:
    """Equal for the same receiver; a bound method is a new object each time it is read."""
    if inspect.ismethod(receiver):
        return id(receiver.__func__), id(receiver.__self__)
    return id(receiver)
