"""One receiver called with one event: its contexts, its failure, its log line."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, NamedTuple, Protocol

from blinker import Signal
from flask import Flask

from .errors import GiveUp, Retry
from .events import Event
from .identity import Receiver, connected

_logger = logging.getLogger(__name__)

# A handler that exits, or awaits what was cancelled, has failed; it must not take the
# server or its neighbours along.
FAILURES = (Exception, SystemExit, CancelledError)


def is_failure(error: BaseException) -> bool:
    """Whatever a handler raises, but for what interrupts the main thread."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    return not (in_main_thread and isinstance(error, (KeyboardInterrupt, GeneratorExit)))


class Outcome(NamedTuple):
    """One receiver's run; ``error`` is what it raised."""

    signal: str
    receiver: str
    error: BaseException | None
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether another attempt could help."""
        return self.error is not None and not isinstance(self.error, GiveUp)


class Watcher(Protocol):
    """Sees what is called of the host's: for tests."""

    def before(self, identity: str, receiver: Receiver) -> None:
        """What this raises, the receiver is taken to have raised, and is not called."""

    def after(self, event: Event, outcome: Outcome) -> None:
        """Called once a receiver ended, in one way or another."""

    def raised(self, error: BaseException) -> None:
        """Called with what a receiver, handler or function raised."""


class Invoker:
    """Calls the receivers of one blueprint on one app."""

    def __init__(self, app: Flask, sender: Any) -> None:
        self.watchers: list[Watcher] = []
        self._app = app
        self._sender = sender

    def hearing(self, signal: Signal) -> list[tuple[str, Receiver]]:
        """Identity and receiver of all who hear a signal, in order of connection."""
        return [] if signal.is_muted else self.all_hearing(signal)

    def all_hearing(self, signal: Signal) -> list[tuple[str, Receiver]]:
        """``hearing``, whether the signal is muted or not."""
        return connected(signal, self._sender)

    def invoke(self, event: Event, signal: str, identity: str, receiver: Receiver) -> Outcome:
        """Call one receiver; what it raises is in the outcome."""
        began = time.perf_counter()
        error: BaseException | None = None
        try:
            for watcher in self.watchers:
                watcher.before(identity, receiver)
            self.call(receiver, self._sender, event=event)
        except BaseException as raised:
            if not is_failure(raised):
                raise
            error = raised
        outcome = Outcome(signal, identity, error, time.perf_counter() - began)
        try:
            for watcher in self.watchers:
                watcher.after(event, outcome)
            return outcome
        finally:
            # The traceback holds this frame: no circle, which would keep the body alive.
            del error, outcome

    def report(self, signal: Signal, **keywords: Any) -> None:
        """Send a signal about the receiving itself; what its receivers raise is logged."""
        for identity, receiver in self.hearing(signal):
            try:
                self.call(receiver, self._sender, **keywords)
            except FAILURES:
                _logger.exception("%s failed", identity, extra={"retell_receiver": identity})

    def call(self, function: Callable[..., Any], /, *values: Any, **named: Any) -> Any:
        """Call a function of the host's in an app context of its own; what it returns.

        The context is empty otherwise: no request, and nothing that another call left.
        """
        try:
            return Context().run(self._call_in_context, function, values, named)
        except BaseException as error:
            for watcher in self.watchers:
                watcher.raised(error)
            raise

    def _call_in_context(
        self, function: Callable[..., Any], values: tuple[Any, ...], named: dict[str, Any]
    ) -> Any:
        with self._app.app_context():
            result = self._app.ensure_sync(function)(*values, **named)
            if inspect.isawaitable(result):
                # The __call__ of an object can be a coroutine function, too.
                result = self._app.async_to_sync(_wait_for)(result)
            return result


async def _wait_for(result: Awaitable[Any]) -> Any:
    return await result


def log_outcome(outcome: Outcome, event: Event, then: str = "") -> None:
    """One line, with a traceback for what was not foreseen. ``then`` is what follows."""
    error = outcome.error
    if error is None and not _logger.isEnabledFor(logging.INFO):
        return
    level, text, with_traceback = next(
        line for kind, line in _LOG_LINES if isinstance(error, kind)
    )
    is_own = outcome.signal == event.type
    _logger.log(
        level,
        text,
        outcome.receiver,
        loggable(event.type) if is_own else f"{outcome.signal} ({loggable(event.type)})",
        loggable(event.session_id or event.id),
        _explanation(error),
        then and f"; {then}",
        exc_info=error if with_traceback else None,
        extra={
            "retell_event_id": event.id,
            "retell_event_type": loggable(event.type),
            "retell_session_id": event.session_id and loggable(event.session_id),
            "retell_signal": outcome.signal,
            "retell_receiver": outcome.receiver,
            "retell_attempt": event.attempt,
            "retell_duration_ms": round(outcome.seconds * 1000, 3),
        },
    )


def _explanation(error: BaseException | None) -> str:
    """In the receiver's own words, where it asks for something."""
    if isinstance(error, GiveUp) or (isinstance(error, Retry) and error.reason):
        return f": {loggable(text_of(error))}"
    return ""


_LOG_LINES: tuple[tuple[type, tuple[int, str, bool]], ...] = (
    (type(None), (logging.INFO, "%s handled %s of %s%s%s", False)),
    (Retry, (logging.WARNING, "%s wants %s of %s again%s%s", False)),
    (GiveUp, (logging.ERROR, "%s gave up on %s of %s%s%s", False)),
    (BaseException, (logging.ERROR, "%s failed on %s of %s%s%s", True)),
)


def text_of(error: BaseException) -> str:
    """What a host's exception says; some cannot even say that."""
    try:
        return str(error)
    except Exception:
        return "(it has no text)"


def loggable(text: str) -> str:
    """A sender's text for a log line: short, and without control characters."""
    return ascii(text[:80])[1:-1]
