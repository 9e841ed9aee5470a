"""Answers to inbound calls and messages, in time and in a form that Retell takes."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

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
_TIME_FOR_ALL_SECONDS = 9.5  # Retell waits 10
_REPORT_SECONDS = 1.0

T = TypeVar("T")

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
    default_sent: bytes  # as it was when it was given, whatever becomes of its parts


class InboundHandlers:
    """Who answers calls, and who answers messages, on one blueprint."""

    def __init__(self) -> None:
        self._handlers: dict[str, InboundHandler] = {}

    def add(self, kinds: tuple[str, ...], function: Handler, default: Any) -> None:
        """Have ``function`` answer ``kinds``. Raises ``ConfigurationError``."""
        if not callable(function):
            raise TypeError("inbound decorates a function or another callable.")
        if not _takes_one(function):
            raise ConfigurationError(
                f"{identity_of(function)} cannot answer inbound webhooks: it must take one "
                "argument, the InboundCall or InboundMessage."
            )
        if not isinstance(default, InboundAnswer):
            raise ConfigurationError("default= of inbound must be an InboundAnswer.")
        for kind in kinds:
            taken = self._handlers.get(KINDS[kind].event_type)
            if taken is not None:
                first, second = taken.function, function
                raise ConfigurationError(
                    f"Inbound {kind}s are answered by {identity_of(first)} already, and "
                    f"{identity_of(second)} would be a second handler. One can decide for all."
                )
        handler = InboundHandler(function, default, msgspec.json.encode(default))
        self._handlers.update((KINDS[kind].event_type, handler) for kind in kinds)

    def get(self, event_type: str) -> InboundHandler | None:
        return self._handlers.get(event_type)


class _Decision(NamedTuple):
    """``body`` is the answer as it is sent."""

    answer: InboundAnswer
    body: bytes
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
        self._free_for_reports = threading.BoundedSemaphore(_MOST_AT_ONCE)

    def answer(self, inbound: Inbound) -> bytes:
        """The body of the answer: the handler's, or its default."""
        handler = self._handlers.get(inbound.event_type)
        if handler is None:
            self._log("nobody", f"No handler of @retell.inbound answers {inbound.event_type}")
            return _encode(inbound, NO_OVERRIDE)
        began = time.monotonic()
        decision = self._decide(handler, inbound)
        self._report(inbound, decision, time.monotonic() - began)
        return decision.body

    def _decide(self, handler: InboundHandler, inbound: Inbound) -> _Decision:
        future = _run(self._free, lambda: self._ask(handler, inbound))
        if future is None:
            why = f"was not called, since {_MOST_AT_ONCE} handlers run already"
            return self._fall_back("busy", handler, inbound, why)
        try:
            return future.result(self._seconds)
        except FutureTimeoutError:
            why = f"did not answer within {self._seconds:g} s"
            return self._fall_back("late", handler, inbound, why)

    def _ask(self, handler: InboundHandler, inbound: Inbound) -> _Decision:
        """Call the handler; whatever is wrong with its answer is found out here."""
        try:
            answer = self._invoker.call(handler.function, inbound)
            if answer is None:
                return _default(handler, inbound)
            if isinstance(answer, InboundAnswer):
                return _Decision(answer, _encode(inbound, answer))
        except BaseException as error:
            return self._fall_back("failed", handler, inbound, "raised an exception", error)
        why = f"returned a {type(answer).__name__}, and not an InboundAnswer"
        return self._fall_back("failed", handler, inbound, why)

    def _fall_back(
        self,
        fallback: Fallback,
        handler: InboundHandler,
        inbound: Inbound,
        why: str,
        error: BaseException | None = None,
    ) -> _Decision:
        identity = identity_of(handler.function)
        self._log(fallback, f"{identity} {why}: its default was answered", error)
        return _default(handler, inbound)._replace(fallback=fallback)

    def _report(self, inbound: Inbound, decision: _Decision, seconds: float) -> None:
        """In a thread, too, since the caller waits: only as long as there is time."""
        about = {
            "inbound": inbound,
            "answer": decision.answer,
            "fallback": decision.fallback,
            "duration_ms": round(seconds * 1000, 3),
        }
        report = functools.partial(self._invoker.report, inbound_answered, **about)
        future = _run(self._free_for_reports, report)
        if future is None:
            self._log("unsent", "inbound_answered was not sent: too many receivers of it hang")
            return
        with contextlib.suppress(FutureTimeoutError):
            future.exception(max(0.0, min(_REPORT_SECONDS, _TIME_FOR_ALL_SECONDS - seconds)))

    def _log(self, kind: str, text: str, error: BaseException | None = None) -> None:
        withheld = self._throttle.admit(kind)
        if withheld is not None:
            level = logging.WARNING if kind == "nobody" else logging.ERROR
            _logger.log(level, "%s%s", text, withheld_note(withheld), exc_info=error)


def _run(free: threading.BoundedSemaphore, work: Callable[[], T]) -> Future[T] | None:
    """Work in a thread; None where too many run, or no thread can be had."""
    if not free.acquire(blocking=False):
        return None
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
        finally:
            free.release()

    try:
        threading.Thread(target=run, name="retell-inbound", daemon=True).start()
    except RuntimeError:
        free.release()
        return None
    return future


def _encode(inbound: Inbound, answer: InboundAnswer) -> bytes:
    return _below(inbound, msgspec.json.encode(answer))


def _default(handler: InboundHandler, inbound: Inbound) -> _Decision:
    return _Decision(handler.default, _below(inbound, handler.default_sent))


def _below(inbound: Inbound, answer: bytes) -> bytes:
    return b'{"%b":%b}' % (inbound.event_type.encode(), answer)


def _takes_one(function: Handler) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # what cannot be looked into may well be called
        return True
    return True


def read_inbound(body: bytes, event_type: str) -> Inbound | None:
    """What an inbound webhook is about; None where the object is missing, or nested too deeply."""
    odd: list[str] = []
    try:
        envelope = _ENVELOPE.decode(body, odd)
    except RecursionError:
        return None
    warn_of_odd(odd)
    if envelope is None:
        return None
    inbound: Inbound | None = getattr(envelope, event_type)
    if inbound is None:
        return None
    return msgspec.structs.replace(inbound, event_timestamp=envelope.event_timestamp)
