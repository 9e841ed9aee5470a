"""Runs custom functions: once for each tool call, and answers repeats with the first result."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

from ..errors import InboxError
from ..inbox.answers import Answers, Kept, Run
from ..inbox.store import Inbox, utc_now
from ..invocation import Invoker, is_failure
from ..leases import LeaseKeeper
from ..throttle import Throttle, withheld_note
from .definition import CustomFunction
from .parameters import Misfit
from .request import FunctionRequest, RepeatKey
from .results import MemoryResults, SingleFlight

_logger = logging.getLogger(__name__)

LONGEST_RESULT = 15_000  # characters: Retell cuts what is longer
_LONGEST_COMPLAINT = 10_000
_LONGEST_WAIT_SECONDS = 600.0  # Retell waits for no function any longer
_POLL_SECONDS = 0.2
_KEPT_EXACT = timedelta(days=1)
_KEPT_BY_ARGUMENTS = timedelta(minutes=10)


@dataclass(frozen=True, repr=False)
class FunctionAnswer:
    """The body of the answer; ``failed`` where the function has no result."""

    body: bytes
    is_json: bool = True
    failed: bool = False


_FAILED = FunctionAnswer(b'{"error": "Function failed"}', failed=True)


class FunctionDesk:
    """Of one blueprint on one app. ``inbox`` is None where results are kept in the process."""

    def __init__(self, invoker: Invoker, inbox: Inbox | None) -> None:
        self._invoker = invoker
        self._answers = None if inbox is None else Answers(inbox)
        self._keeper = None if self._answers is None else LeaseKeeper[Run](self._answers)
        self._memory = MemoryResults(utc_now if inbox is None else lambda: inbox.clock())
        self._flight = SingleFlight()
        self._throttle = Throttle()

    def answer(self, function: CustomFunction, request: FunctionRequest) -> FunctionAnswer:
        """The function's result, or the first one of the same tool call."""
        try:
            values = function.parameters.read(request.arguments, request.call)
        except Misfit as error:
            return _correct(function, error)
        except BaseException as error:  # of a type of the host's that is made of them
            return _failed(function, error)
        if request.repeat_key is None:
            return self._run(function, values)
        try:
            return self._once(function, values, request.repeat_key)
        except _StillRuns:
            _logger.error("A repeat of %s gave up waiting for the first run", function.name)
            return _FAILED

    # Once

    def _once(
        self, function: CustomFunction, values: dict[str, Any], key: RepeatKey
    ) -> FunctionAnswer:
        """Those of this process stand in one line, and the first asks the inbox for all."""
        deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
        if not self._flight.enter(key.digest, _LONGEST_WAIT_SECONDS):
            raise _StillRuns
        try:
            begun = self._begin(function, key, deadline)
            # Of an outage, or where there is no inbox.
            kept = begun if isinstance(begun, Kept) else self._memory.get(key.digest)
            if kept is None:
                run = begun if isinstance(begun, Run) else None
                with self._keeping(run):
                    answer = self._run(function, values)
                self._finish(run, answer, key)
                return answer
            answer = FunctionAnswer(kept.body, kept.is_json)
            if isinstance(begun, Run):
                self._finish(begun, answer, key)
            _logger.info("Answered a repeat of %s by its first result", function.name)
            return answer
        finally:
            self._flight.leave(key.digest)

    def _begin(
        self, function: CustomFunction, key: RepeatKey, deadline: float
    ) -> Run | Kept | None:
        """The right to run it, or its result; None where only this process can know."""
        if self._answers is None:
            return None
        while True:
            try:
                begun = self._answers.begin(key.digest, function.name, key.session_id)
            except InboxError as error:
                self._complain("Repeats of tool calls are known in this process alone", error)
                return None
            if begun is not None:
                return begun
            if time.monotonic() > deadline:
                raise _StillRuns
            time.sleep(_POLL_SECONDS)

    def _finish(self, run: Run | None, answer: FunctionAnswer, key: RepeatKey) -> None:
        kept = Kept(answer.body, answer.is_json)
        span = _KEPT_EXACT if key.is_exact else _KEPT_BY_ARGUMENTS
        try:
            if run is not None and self._answers is not None:
                if answer.failed:
                    self._answers.abandon(run)
                elif not self._answers.finish(run, kept, span):
                    _logger.warning("%s lost its lease, and may have run twice", run.description)
                return
        except InboxError as error:
            self._complain("A result could not be kept in the inbox", error)
        if not answer.failed:
            self._memory.put(key.digest, kept, span)

    @contextlib.contextmanager
    def _keeping(self, run: Run | None) -> Iterator[None]:
        if run is None or self._keeper is None:
            yield
            return
        with self._keeper.keeping(run):
            yield

    def _complain(self, what: str, error: InboxError) -> None:
        withheld = self._throttle.admit(what)
        if withheld is not None:
            _logger.error("%s: %s%s", what, error, withheld_note(withheld))

    # Running

    def _run(self, function: CustomFunction, values: dict[str, Any]) -> FunctionAnswer:
        began = time.monotonic()
        try:
            function.parameters.check_call(values)
            answer = _encode(self._invoker.call(function.function, **values), function.name)
        except BaseException as error:
            return _failed(function, error)
        took_ms = round((time.monotonic() - began) * 1000, 3)
        extra = {**_about(function), "retell_duration_ms": took_ms}
        _logger.info("The function %s answered", function.name, extra=extra)
        return answer


class _StillRuns(Exception):
    """The first run of a tool call took longer than anybody waits."""


def _failed(function: CustomFunction, error: BaseException) -> FunctionAnswer:
    if not is_failure(error):
        raise error
    text = "The function %s failed"
    _logger.error(text, function.name, exc_info=error, extra=_about(function))
    return _FAILED


def _about(function: CustomFunction) -> dict[str, str]:
    return {"retell_function": function.name}


def _correct(function: CustomFunction, misfit: Misfit) -> FunctionAnswer:
    """For the model, which is told to try again; an error would be told as a failure."""
    _logger.warning(
        "The function %s was not called, since arguments did not fit: %s",
        function.name,
        ", ".join(misfit.names),
        extra=_about(function),
    )
    text = f"{function.name} was not called, since its arguments do not fit. {misfit}"
    return _plain(f"{text[:_LONGEST_COMPLAINT]} Call it again with arguments that fit.")


def _encode(result: Any, name: str) -> FunctionAnswer:
    """A text as it is, anything else as JSON. Raises ``TypeError`` for what has no JSON."""
    is_text = isinstance(result, str)
    text = result if is_text else _json(result)
    if len(text) > LONGEST_RESULT:
        _logger.warning(
            "The result of %s was cut from %d to %d characters, the most that Retell takes",
            name,
            len(text),
            LONGEST_RESULT,
        )
    elif not is_text:
        return FunctionAnswer(text.encode())
    return _plain(text[:LONGEST_RESULT])


def _json(result: Any) -> str:
    try:
        return msgspec.json.encode(result).decode()
    except TypeError as error:
        raise TypeError(
            f"A custom function must return text or what has a form in JSON, and no response of "
            f"Flask's: {error}"
        ) from None


def _plain(text: str) -> FunctionAnswer:
    return FunctionAnswer(text.encode("utf-8", "replace"), is_json=False)
