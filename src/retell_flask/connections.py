"""Warnings about receivers, at the moment when they are connected."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from blinker import ANY, Signal

from .identity import Receiver, identity_of, is_taken, signal_name

_INNER_MODULES = ("retell_flask.", "blinker.")


def watch_connections(signal: Signal, keywords: Iterable[str]) -> None:
    """Warn, as they are connected, of receivers that will be lost, confused or never run."""

    def look(_: Signal, *, receiver: Receiver, sender: Any, weak: bool) -> None:
        for complaint in _complaints(signal, keywords, receiver, sender, weak):
            warnings.warn(complaint, RuntimeWarning, stacklevel=_frames_up_to_the_host())

    signal.receiver_connected.connect(look, weak=False)


def _complaints(
    signal: Signal, keywords: Iterable[str], receiver: Receiver, sender: Any, weak: bool
) -> Iterator[str]:
    own, here = identity_of(receiver), signal_name(signal)
    is_local = "<locals>" in own
    if weak and (is_local or "<lambda>" in own):
        yield (
            f"{own} is held weakly by {here} and gone as soon as the function around it "
            "returns. Define it at module level, or connect it with connect_via(retell)."
        )
    if inspect.isgeneratorfunction(receiver) or inspect.isasyncgenfunction(receiver):
        yield f"{own} has a yield in it, so that calling it does not run it."
    if not _takes(receiver, keywords):
        yield f"{own} cannot be called by {here}. Define it as (sender, event, **extra)."
    names = getattr(sender, "receiver_names", None)
    if names is None and sender is not ANY:
        yield (
            f"{own} waits for {here} from {type(sender).__name__}, and only a "
            "RetellBlueprint sends it. Connect it with connect_via(retell)."
        )
        return
    name = (names and names.get(signal, receiver)) or own
    if is_taken(name, receiver, signal, sender):
        yield f"{here} has two receivers called {name}, and both run. " + (
            "If it is one function that an application factory connects anew each time, "
            "define it at module level."
            if is_local
            else f'Give each a name of its own: @retell.on("{here}", name="…").'
        )


def _takes(receiver: Receiver, keywords: Iterable[str]) -> bool:
    if not callable(receiver):
        return False
    try:
        signature = inspect.signature(receiver)
    except Exception:  # what cannot be looked into may well be called
        return True
    try:
        signature.bind(None, **dict.fromkeys(keywords))
    except TypeError:
        return False
    return True


def _frames_up_to_the_host() -> int:
    """For ``stacklevel``: to the line outside of this package and blinker that connects."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(_INNER_MODULES):
        frame, level = frame.f_back, level + 1
    return level
