"""One event to all receivers that want it."""

from __future__ import annotations

import inspect
import logging
import time
from asyncio import CancelledError
from collections.abc import Awaitable
from contextvars import Context
from typing import Any, NamedTuple

from blinker import Signal
from flask import Flask

from .errors import GiveUp, Retry
from .events import Event
from .identity import Receiver, connected, signal_name
from .signals import delivery_failed, signals_for

_logger = logging.getLogger(__name__)

# A handler that exits, or awaits what was cancelled, has failed; it must not take the
# server or its neighbours along.
FAILURES = (Exception, SystemExit, CancelledError)


class Outcome(NamedTuple):
    """One receiver's run; ``error`` is what it raised."""

    signal: str
    receiver: str
    error: BaseException | None

    @property
    def failed(self) -> bool:
        """Whether another attempt could help."""
        return self.error is not None and not isinstance(self.error, GiveUp)


class Deliverer:
    """Calls the receivers of one blueprint on one app."""

    def __init__(self, app: Flask, sender: Any) -> None:
        self._app = app
        self._sender = sender

    def deliver(self, event: Event) -> list[Outcome]:
        """Call all receivers of the signals that ``event`` fires, also behind one that raised."""
        # No local holds the outcomes: their errors' tracebacks hold this frame, and the circle
        # would keep the body until the next garbage collection.
        return [
            self._run(event, signal, identity, receiver)
            for signal in signals_for(event)
            for identity, receiver in self._hearing(signal)
        ] or _log_nobody(event)

    def report(self, signal: Signal, **keywords: Any) -> None:
        """Send a signal about the receiving itself; what its receivers raise is logged."""
        for identity, receiver in self._hearing(signal):
            try:
                self._call(receiver, keywords)
            except FAILURES:
                _logger.exception("%s failed", identity, extra={"retell_receiver": identity})

    def _hearing(self, signal: Signal) -> list[tuple[str, Receiver]]:
        return [] if signal.is_muted else connected(signal, self._sender)

    def _run(self, event: Event, signal: Signal, identity: str, receiver: Receiver) -> Outcome:
        began = time.perf_counter()
        error: BaseException | None = None
        try:
            self._call(receiver, {"event": event})
        except FAILURES as raised:
            error = raised
        outcome = Outcome(signal_name(signal), identity, error)
        if error is not None or _logger.isEnabledFor(logging.INFO):
            _log(outcome, event, time.perf_counter() - began)
        try:
            if outcome.failed:
                self.report(
                    delivery_failed,
                    event=event,
                    receiver=identity,
                    error=error,
                    attempt=event.attempt,
                    retry_at=None,
                )
            return outcome
        finally:
            del error, outcome  # no circle through this frame either

    def _call(self, receiver: Receiver, keywords: dict[str, Any]) -> None:
        # An empty context: no request context, and nothing that another receiver left.
        Context().run(self._call_in_context, receiver, keywords)

    def _call_in_context(self, receiver: Receiver, keywords: dict[str, Any]) -> None:
        with self._app.app_context():
            result = self._app.ensure_sync(receiver)(self._sender, **keywords)
            if result is not None and inspect.isawaitable(result):
                # The __call__ of an object can be a coroutine function, too.
                self._app.async_to_sync(_wait_for)(result)


async def _wait_for(result: Awaitable[Any]) -> None:
    await result


def _log_nobody(event: Event) -> list[Outcome]:
    _logger.info("Nobody listens to %s of %s", loggable(event.type), loggable(_subject(event)))
    return []


def _log(outcome: Outcome, event: Event, seconds: float) -> None:
    error = outcome.error
    level, text, with_traceback = next(
        line for kind, line in _LOG_LINES if isinstance(error, kind)
    )
    is_own = outcome.signal == event.type
    _logger.log(
        level,
        text,
        outcome.receiver,
        loggable(event.type) if is_own else f"{outcome.signal} ({loggable(event.type)})",
        loggable(_subject(event)),
        *([loggable(str(error))] if isinstance(error, GiveUp) else []),
        exc_info=error if with_traceback else None,
        extra={
            "retell_event_id": event.id,
            "retell_event_type": loggable(event.type),
            "retell_session_id": event.session_id and loggable(event.session_id),
            "retell_signal": outcome.signal,
            "retell_receiver": outcome.receiver,
            "retell_attempt": event.attempt,
            "retell_duration_ms": round(seconds * 1000, 3),
        },
    )


_LOG_LINES: tuple[tuple[type, tuple[int, str, bool]], ...] = (
    (type(None), (logging.INFO, "%s handled %s of %s", False)),
    (Retry, (logging.WARNING, "%s wants %s of %s again", False)),
    (GiveUp, (logging.ERROR, "%s gave up on %s of %s: %s", False)),
    (BaseException, (logging.ERROR, "%s failed on %s of %s", True)),
)


def _subject(event: Event) -> str:
    return event.session_id or event.id


def loggable(text: str) -> str:
    """A sender's text for a log line: short, and without control characters."""
    return ascii(text[:80])[1:-1]
