"""One event to all receivers that want it."""

from __future__ import annotations

import inspect
import logging
import time
from asyncio import CancelledError
from collections.abc import Awaitable
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from blinker import Signal
from flask import Flask

from .errors import GiveUp, Retry
from .events import Event
from .identity import Receiver, ReceiverNames, connected
from .signals import delivery_failed, signals_for

_logger = logging.getLogger(__name__)

# A handler that exits, or awaits what was cancelled, has failed; it must not take the
# server or its neighbours along.
FAILURES = (Exception, SystemExit, CancelledError)


@dataclass(frozen=True)
class Outcome:
    """One receiver's run; ``error`` is what it raised."""

    signal: str
    receiver: str
    error: BaseException | None

    @property
    def failed(self) -> bool:
        """Whether another attempt could help."""
        return self.error is not None and not isinstance(self.error, GiveUp)


def deliver(app: Flask, sender: Any, event: Event, names: ReceiverNames) -> list[Outcome]:
    """Call every receiver of every signal that ``event`` fires, also behind one that raised."""
    return [
        _run(app, sender, event, names, signal, identity, receiver)
        for signal in signals_for(event)
        if not signal.is_muted
        for identity, receiver in connected(signal, sender, names)
    ]


def report(app: Flask, signal: Signal, sender: Any, names: ReceiverNames, **keywords: Any) -> None:
    """Send a signal about the receiving itself; what its receivers raise is logged."""
    if signal.is_muted:
        return
    for identity, receiver in connected(signal, sender, names):
        try:
            _call(app, receiver, sender, keywords)
        except FAILURES:
            _logger.exception("%s failed", identity, extra={"retell_receiver": identity})


def _run(
    app: Flask,
    sender: Any,
    event: Event,
    names: ReceiverNames,
    signal: Signal,
    identity: str,
    receiver: Receiver,
) -> Outcome:
    began = time.perf_counter()
    error: BaseException | None = None
    try:
        _call(app, receiver, sender, {"event": event})
    except FAILURES as raised:
        error = raised
    outcome = Outcome(getattr(signal, "name", ""), identity, error)
    _log(outcome, event, (time.perf_counter() - began) * 1000)
    if outcome.failed:
        about = {"event": event, "receiver": identity, "error": error}
        report(app, delivery_failed, sender, names, **about, attempt=event.attempt, retry_at=None)
    return outcome


def _call(app: Flask, receiver: Receiver, sender: Any, keywords: dict[str, Any]) -> None:
    # An empty context: no request context, and nothing that another receiver left.
    Context().run(_call_in_context, app, receiver, sender, keywords)


def _call_in_context(
    app: Flask, receiver: Receiver, sender: Any, keywords: dict[str, Any]
) -> None:
    with app.app_context():
        result = app.ensure_sync(receiver)(sender, **keywords)
        if inspect.isawaitable(result):  # an object whose __call__ is a coroutine function
            app.async_to_sync(_wait_for)(result)


async def _wait_for(result: Awaitable[Any]) -> None:
    await result


def _log(outcome: Outcome, event: Event, duration_ms: float) -> None:
    level, text, with_traceback = next(
        line for kind, line in _LOG_LINES if isinstance(outcome.error, kind)
    )
    if not _logger.isEnabledFor(level):
        return
    session_id = event.session_id
    _logger.log(
        level,
        text,
        outcome.receiver,
        loggable(event.type),
        loggable(session_id or "no call"),
        exc_info=outcome.error if with_traceback else None,
        extra={
            "retell_event_id": event.id,
            "retell_event_type": event.type,
            "retell_session_id": session_id,
            "retell_signal": outcome.signal,
            "retell_receiver": outcome.receiver,
            "retell_attempt": event.attempt,
            "retell_duration_ms": round(duration_ms, 3),
        },
    )


_LOG_LINES: tuple[tuple[type, tuple[int, str, bool]], ...] = (
    (type(None), (logging.INFO, "%s handled %s of %s", False)),
    (Retry, (logging.WARNING, "%s wants %s of %s again", False)),
    (GiveUp, (logging.ERROR, "%s gave up on %s of %s", True)),
    (BaseException, (logging.ERROR, "%s failed on %s of %s", True)),
)


def loggable(text: str) -> str:
    """A sender's text for a log line: short, and without control characters."""
    return ascii(text[:80])[1:-1]
