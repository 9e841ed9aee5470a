"""Answers to inbound calls and messages, in time and in a form that Retell takes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from .decoding import Decoder, warn_of_odd
from .errors import ConfigurationError
from .forks import ProcessBound, bind_to_process
from .identity import identity_of
from .invocation import Invoker
from .models.base import Model
from .models.inbound import Inbound, InboundAnswer, InboundCall, InboundMessage
from .signals import inbound_answered
from .throttle import Throttle, withheld_note

_logger = logging.getLogger(__name__)

_MOST_AT_ONCE = 200

Handler = Callable[[Any], Any]
Fallback = Literal["failed", "late", "busy"]

KINDS: dict[str, type[Inbound]] = {"call": InboundCall, "message": InboundMessage}
NO_OVERRIDE = InboundAnswer()


class _Envelope(Model, frozen=True, kw_only=True):
    call_inbound: InboundCall | None = None
    chat_inbound: InboundMessage | None = None
    event_timestamp: int | None = None


_ENVELOPE: Decoder[_Envelope] = Decoder(_Envelope)


@dataclass(frozen=True)
class InboundHandler:
    """A host's function, and what goes out where it does not answer."""

    function: Handler
    default: InboundAnswer


class InboundHandlers:
    """Who answers calls, and who answers messages, on one blueprint."""

    def __init__(self) -> None:
        self._handlers: dict[str, InboundHandler] = {}

    def add(self, kinds: tuple[str, ...], function: Handler, default: Any) -> None:
        """Have ``function`` answer ``kinds``. Raises ``ConfigurationError``."""
        if not callable(function):
            raise TypeError("inbound decorates a function or another callable.")
        if not isinstance(default, InboundAnswer):
            raise ConfigurationError("default= of inbound takes an InboundAnswer.")
        for kind in kinds:
            event_type = KINDS[kind].event_type
            if event_type in self._handlers:
                first, second = self._handlers[event_type].function, function
                raise ConfigurationError(
                    f"Inbound {kind}s are answered by {identity_of(first)} already, and "
                    f"{identity_of(second)} would be a second handler. One can decide for all."
                )
            self._handlers[event_type] = InboundHandler(function, default)

    def get(self, event_type: str) -> InboundHandler | None:
        return self._handlers.get(event_type)


class _Decision(NamedTuple):
    answer: InboundAnswer
    fallback: Fallback | None = None


class InboundDesk(ProcessBound):
    """Runs the handlers, each in a thread of its own, as long as there is time for an answer."""

    def __init__(self, handlers: InboundHandlers, invoker: Invoker, seconds: float) -> None:
        self._handlers = handlers
        self._invoker = invoker
        self._seconds = seconds
        self._throttle = Throttle()
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """Forget the parent's threads, after a fork."""
        self._free = threading.BoundedSemaphore(_MOST_AT_ONCE)

    def answer(self, inbound: Inbound) -> bytes:
        """The body of the answer: the handler's, or its default."""
        began = time.monotonic()
        handler = self._handlers.get(inbound.event_type)
        decision = self._decide(handler, inbound) if handler else _Decision(NO_OVERRIDE)
        if handler is not None:
            self._invoker.report(
                inbound_answered,
                inbound=inbound,
                answer=decision.answer,
                fallback=decision.fallback,
                duration_ms=round((time.monotonic() - began) * 1000, 3),
            )
        return msgspec.json.encode({inbound.event_type: decision.answer})

    def _decide(self, handler: InboundHandler, inbound: Inbound) -> _Decision:
        future = self._begin(handler, inbound)
        if future is None:
            return self._fall_back("busy", handler, f"{_MOST_AT_ONCE} handlers run already")
        try:
            answer = future.result(self._seconds)
        except FutureTimeoutError:
            return self._fall_back("late", handler, f"No answer within {self._seconds:g} s")
        return self._check(handler, answer)

    def _begin(self, handler: InboundHandler, inbound: Inbound) -> Future[Any] | None:
        """Run the handler in a thread; None where too many run, or no thread can be had."""
        if not self._free.acquire(blocking=False):
            return None
        future: Future[Any] = Future()
        free = self._free

        def run() -> None:
            try:
                future.set_result(self._invoker.call(handler.function, inbound))
            except BaseException as error:
                future.set_result(error)
            finally:
                free.release()

        try:
            threading.Thread(target=run, name="retell-inbound", daemon=True).start()
        except RuntimeError:
            free.release()
            return None
        return future

    def _check(self, handler: InboundHandler, answer: Any) -> _Decision:
        if answer is None:
            return _Decision(handler.default)
        if isinstance(answer, InboundAnswer):
            return _Decision(answer)
        if isinstance(answer, BaseException):
            return self._fall_back("failed", handler, "It raised", error=answer)
        why = f"It returned a {type(answer).__name__}, and not an InboundAnswer or None"
        return self._fall_back("failed", handler, why)

    def _fall_back(
        self,
        fallback: Fallback,
        handler: InboundHandler,
        why: str,
        error: BaseException | None = None,
    ) -> _Decision:
        withheld = self._throttle.admit(fallback)
        if withheld is not None:
            _logger.error(
                "%s: the default of %s went out%s",
                why,
                identity_of(handler.function),
                withheld_note(withheld),
                exc_info=error,
            )
        return _Decision(handler.default, fallback)


def read_inbound(body: bytes, event_type: str) -> Inbound | None:
    """What an inbound webhook is about; None where the object is missing."""
    odd: list[str] = []
    envelope = _ENVELOPE.decode(body, odd)
    warn_of_odd(odd)
    inbound: Inbound | None = getattr(envelope, event_type)
    if inbound is None or envelope is None:
        return None
    return msgspec.structs.replace(inbound, event_timestamp=envelope.event_timestamp)
