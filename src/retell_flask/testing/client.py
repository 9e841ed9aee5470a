"""``RetellTestClient``: an application meets Retell, in a test."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from blinker import Signal
from flask import Flask
from werkzeug.test import TestResponse

from .. import values
from ..blueprint import RetellBlueprint
from ..errors import ConfigurationError, PayloadError
from ..events import Event, parse_event
from ..identity import Receiver
from ..inbox.entry import Delivery
from ..signatures import HEADER, Scheme, sign, sign_plain
from ..state import State
from .capture import Capture, capture
from .clock import FrozenClock, Span
from .inbox import InboxView
from .observer import MadeToFail, Observer, Run
from .payloads import change, encode, function_request, give_ids, sample
from .rehearsal import Rehearsal, read_scenario

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

_MOST_MOVES = 10_000


@dataclass(frozen=True)
class Sent:
    """What became of one delivery: the answer, and the receivers that ran.

    ``response`` is Flask's: ``status_code``, ``json``. ``event`` is None where it was none.
    """

    response: TestResponse
    event: Event | None
    runs: list[Run] = field(default_factory=list)

    @property
    def is_duplicate(self) -> bool:
        """Whether it was seen before."""
        answer = self.response.get_json(silent=True)
        return isinstance(answer, dict) and answer.get("duplicate") is True


class RetellTestClient:
    """Sends a Flask application what Retell would send it, rightly signed, by the real routes.

    ::

        client = RetellTestClient(app)
        client.send("call_ended", duration_ms=90_000)

    ``app`` must have ``TESTING`` on; ``blueprint``, itself or its name, is needed where several
    are registered. Receivers run before a method returns, whatever ``RETELL_DISPATCH`` says.
    Each client tells of a call, a chat and an incident of its own.
    """

    __test__ = False  # pytest would take it for a class of tests

    def __init__(self, app: Flask, blueprint: RetellBlueprint | str | None = None) -> None:
        if not app.testing:
            raise RuntimeError(
                "RetellTestClient is for tests, and TESTING is off: set app.testing = True right "
                "after the app is made. Without it the inbox would be the one that you work with."
            )
        self.app: Flask = app
        self._state = _find_state(app, blueprint)
        self._state.deliver_inline()
        self._observer = Observer()
        self._state.invoker.watchers.append(self._observer)
        inbox = self._state.inbox
        self._inbox = None if inbox is None else InboxView(inbox)
        self._clock = None if inbox is None else FrozenClock(inbox)
        self._ids: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the app as it was found: no frozen clock, no receiver made to fail."""
        self._state.invoker.watchers[:] = [
            watcher for watcher in self._state.invoker.watchers if watcher is not self._observer
        ]
        if self._clock is not None:
            self._clock.thaw()

    @property
    def inbox(self) -> InboxView:
        """What came into the inbox since the client was made."""
        return _need(self._inbox)

    @property
    def clock(self) -> FrozenClock:
        """The inbox's clock: ``freeze()``, ``move("1h")``, ``thaw()``, ``now``."""
        return _need(self._clock)

    # Sending

    def send(
        self,
        event: str | Mapping[str, Any],
        /,
        *,
        check: bool = True,
        twins: int = 1,
        **changes: Any,
    ) -> Sent:
        """Send an event, and run its receivers once, without order or backoff.

        ``event`` is the name of a sample, or a payload of your own; ``changes`` are as in
        ``sample``. A sample is told of this client's call, so that sending it twice is a repeat
        of Retell's; ``call_id="…"`` makes it another call. ``twins`` sends it so many times; what
        is returned is of the first.

        With ``check``, what a receiver raised is raised, and ``AssertionError`` for an answer
        that is not 2xx.
        """
        body = encode(self._payload(event, changes))
        first, *_ = [self._deliver("", body) for _ in range(max(1, twins))]
        return _checked(first) if check else first

    def send_call(
        self,
        scenario: str | Path = "completed",
        /,
        *,
        check: bool = True,
        twins: int = 1,
        **changes: Any,
    ) -> list[Sent]:
        """Send a whole call, without pauses: what ``flask retell rehearse`` does over HTTP.

        ``scenario`` is one of its scenarios, or the path of a file of your own; ``changes`` are
        those of the call, in each of its events. It is a new call unless ``call_id`` says which.
        """
        rehearsal = Rehearsal(read_scenario(scenario), changes)
        sent = []
        for step in rehearsal.steps():
            posting = rehearsal.posting(step)
            for _ in range(max(twins, step.twins)):
                one = self._deliver(posting.path, encode(posting.payload))
                sent.append(_checked(one) if check else one)
            rehearsal.heed(step, sent[-1].response.get_data())
        return sent

    def post(
        self,
        body: bytes | Mapping[str, Any],
        path: str = "",
        *,
        header: str | None = None,
        key: str | bytes | None = None,
        scheme: Scheme = "timestamped",
        timestamp_ms: int | None = None,
        **options: Any,
    ) -> TestResponse:
        """Post exact bytes, or a payload, to a path below the prefix, and check nothing.

        It is signed by the app's key, or ``key``, now or at ``timestamp_ms``; ``header`` is sent
        in place of a signature (``""``: none). ``options`` are those of Flask's test client.
        """
        data = body if isinstance(body, bytes) else encode(body)
        if header is None:
            header = self._sign(data, key, scheme, timestamp_ms)
        headers = {**({HEADER: header} if header else {}), **options.pop("headers", {})}
        request = {"content_type": "application/json", "method": "POST", **options}
        url = self._state.url_prefix.rstrip("/") + path or "/"
        return self.app.test_client().open(url, data=data, headers=headers, **request)

    def ask_inbound(
        self, kind: Literal["call", "message"] = "call", /, *, check: bool = True, **changes: Any
    ) -> dict[str, Any]:
        """Have an inbound call or message answered; the answer, without its outer key.

        With ``check``, ``AssertionError`` if the default went out because the handler failed.
        """
        event = {"call": "call_inbound", "message": "chat_inbound"}[kind]
        with self.capture("inbound_answered") as answers:
            response = self.post(self._payload(event, changes), "/inbound")
        for answer in answers if check else ():
            if why := answer.keywords["fallback"]:
                raise AssertionError(f"The inbound handler did not answer ({why}): see the log.")
        _check_answer(response)
        answered: dict[str, Any] = response.get_json()[event]
        return answered

    def call_function(
        self, name: str, arguments: Mapping[str, Any] | None = None, /, **changes: Any
    ) -> Any:
        """Have a custom function called in mid-call; its result: JSON, read, or text.

        Each time is another tool call. ``changes`` are those of the call, such as
        ``from_number="…"``. Raises ``AssertionError`` if the function failed.
        """
        payload = self._own(function_request(name, arguments or {}))
        response = self.post(change(payload, changes), f"/functions/{name}")
        _check_answer(response)
        return response.get_json() if response.is_json else response.get_data(as_text=True)

    # Time, and what goes wrong

    def drain(self, until: datetime | Span | None = None, *, check: bool = True) -> list[Run]:
        """Run all that is left to do, in order and with its retries, as time goes by.

        The clock is frozen, and moved on from one moment at which something is due to the next:
        until all is done or dead, or up to ``until`` (an aware datetime, or a span from now).
        With ``check``, the last error of a receiver that died of it is raised.
        """
        clock, died_before = self.clock, {each.id for each in self._dead()}
        end = until if until is None or isinstance(until, datetime) else clock.now + _span(until)
        clock.freeze()
        with self._observer.noting() as runs:
            self._run_until(end)
        if end is not None and end > clock.now:
            clock.freeze(end)
        for delivery in self._dead() if check else ():
            if delivery.id not in died_before:
                raise _cause_of_death(delivery, runs)
        return runs

    def failing(
        self,
        *receivers: Receiver | str,
        error: BaseException | type[BaseException] = MadeToFail,
        times: int | None = None,
    ) -> AbstractContextManager[None]:
        """Have receivers, or all, raise ``error`` in place of being called.

        A receiver is given as it is, or by its identity. ``times``: only so often, counted over
        all of them.
        """
        return self._observer.failing(receivers, error, times)

    def capture(self, *signals: str | Signal) -> AbstractContextManager[Capture]:
        """``capture`` of what this blueprint sends."""
        return capture(*signals, sender=self._state.blueprint)

    def _payload(self, event: str | Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
        payload = self._own(sample(event)) if isinstance(event, str) else event
        return change(payload, changes) if changes else payload

    def _own(self, payload: dict[str, Any]) -> dict[str, Any]:
        give_ids(payload, self._ids)
        return payload

    def _deliver(self, path: str, body: bytes) -> Sent:
        with self._observer.noting() as runs:
            response = self.post(body, path)
        return Sent(response, _read(body), runs)

    def _sign(
        self, body: bytes, key: str | bytes | None, scheme: Scheme, timestamp_ms: int | None
    ) -> str:
        settings = self._state.settings
        if scheme == "plain":
            return sign_plain(body, key or settings.webhook_secret[0])
        own = (*settings.api_key, *settings.webhook_secret)[0]
        return sign(body, key or own, timestamp_ms=timestamp_ms)

    def _run_until(self, end: datetime | None) -> None:
        deliverer = _need(self._state.deliverer)
        for _ in range(_MOST_MOVES):
            while deliverer.deliver_next():
                pass
            due = self.inbox.next_due(self.clock.now)
            if due is None or (end is not None and due > end):
                return
            self.clock.freeze(due)
        raise RuntimeError(f"Something is left to do after {_MOST_MOVES:,} moves of the clock.")

    def _dead(self) -> list[Delivery]:
        return [
            delivery
            for entry in self.inbox.entries(status="dead")
            for delivery in self.inbox.deliveries(entry)
            if delivery.status.value == "dead"
        ]


def _find_state(app: Flask, blueprint: RetellBlueprint | str | None) -> State:
    states: dict[str, State] = app.extensions.get("retell", {})
    if not states:
        raise ConfigurationError(
            "No RetellBlueprint is registered on this app. Call app.register_blueprint first."
        )
    name = getattr(blueprint, "name", blueprint) or (
        next(iter(states)) if len(states) == 1 else ""
    )
    if name not in states:
        raise ConfigurationError(
            f"Say which blueprint: RetellTestClient(app, name), of {', '.join(states)}."
        )
    return states[name]


def _need(part: T | None) -> T:
    if part is None:
        raise ConfigurationError("There is no inbox here: RETELL_INBOX_URL is none.")
    return part


def _span(span: Span) -> Any:
    return values.duration_or_zero(span)


def _read(body: bytes) -> Event | None:
    try:
        return parse_event(body, quiet=True)
    except PayloadError:
        return None


def _checked(sent: Sent) -> Sent:
    for run in sent.runs:
        if run.error is not None:
            raise run.error
    _check_answer(sent.response)
    return sent


def _check_answer(response: TestResponse) -> None:
    if not 200 <= response.status_code < 300:
        answer = response.get_data(as_text=True)[:200].strip()
        raise AssertionError(f"The answer was {response.status}: {answer}")


def _cause_of_death(delivery: Delivery, runs: list[Run]) -> BaseException:
    for run in reversed(runs):
        if run.receiver == delivery.receiver and run.signal == delivery.signal and run.error:
            return run.error
    return AssertionError(f"{delivery.receiver} is dead: {delivery.error}")
