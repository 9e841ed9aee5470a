"""``RetellTestClient``: an application meets Retell, in a test."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from blinker import Signal
from flask import Flask
from werkzeug.test import TestResponse

from ..blueprint import RetellBlueprint
from ..errors import ConfigurationError
from ..identity import Receiver
from ..inbound import KINDS as INBOUND_KINDS
from ..inbox.entry import Delivery
from ..inbox.sqlite import MemoryDatabase
from ..signatures import HEADER, Scheme
from .application import check_connected, check_testing, find_state, make_header
from .capture import Capture, capture
from .clock import FrozenClock, Span
from .inbox import InboxView
from .observer import MadeToFail, Observer, Run
from .payloads import change, encode, function_request, give_ids, path_of, sample
from .rehearsal import Rehearsal, read_scenario
from .sent import Sent, cause_of_death, check_answer, sent_as

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

_MOST_MOVES = 10_000


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
        self.app: Flask = app
        self._state = find_state(app, blueprint)
        check_testing(self._state)
        self._state.deliver_inline()
        self._observer = Observer()
        inbox = self._state.inbox
        self._inbox = None if inbox is None else InboxView(inbox)
        self._clock = None if inbox is None else FrozenClock(inbox)
        self._ids: dict[str, str] = {}
        self._state.invoker.watchers.append(self._observer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Thaw the clock, and give up what is pending in an inbox in memory, for the next test."""
        self._state.invoker.watchers[:] = [
            watcher for watcher in self._state.invoker.watchers if watcher is not self._observer
        ]
        if self._clock is not None:
            self._clock.thaw()
        inbox = self._state.inbox
        if inbox is not None and isinstance(inbox.database, MemoryDatabase):
            self.inbox.give_up()

    @property
    def inbox(self) -> InboxView:
        """What came into the inbox since the client was made."""
        return self._need(self._inbox)

    @property
    def clock(self) -> FrozenClock:
        """The inbox's clock: ``freeze()``, ``move("1h")``, ``thaw()``, ``now``."""
        return self._need(self._clock)

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

        With ``check``, what a receiver (or an inbound handler, or a function) raised is raised,
        and ``AssertionError`` for an answer that is not 2xx.
        """
        payload = self._payload(event, changes)
        first, *_ = [self._deliver(payload, check) for _ in range(max(1, twins))]
        return first

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
        all_sent = []
        for step in rehearsal.steps():
            payload = rehearsal.payload(step)
            all_sent += [self._deliver(payload, check) for _ in range(max(twins, step.twins))]
            rehearsal.heed(step, all_sent[-1].response.get_data())
        return all_sent

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
            header = make_header(self._state, data, key, scheme, timestamp_ms)
        headers = {**({HEADER: header} if header else {}), **options.pop("headers", {})}
        request = {"content_type": "application/json", "method": "POST", **options}
        url = self._state.url_prefix.rstrip("/") + path or "/"
        return self.app.test_client().open(url, data=data, headers=headers, **request)

    def ask_inbound(
        self, kind: Literal["call", "message"] = "call", /, *, check: bool = True, **changes: Any
    ) -> dict[str, Any]:
        """Have an inbound call or message answered; the answer, without its outer key.

        With ``check``, what the handler raised is raised, and ``AssertionError`` if the default
        went out for another reason.
        """
        if kind not in INBOUND_KINDS:
            raise ValueError(f"ask_inbound takes 'call' or 'message', and not {kind!r}.")
        event = INBOUND_KINDS[kind].event_type
        sent = self._deliver(self._payload(event, changes), check)
        answered: dict[str, Any] = sent.response.get_json()[event]
        return answered

    def call_function(
        self, name: str, arguments: Mapping[str, Any] | None = None, /, **changes: Any
    ) -> Any:
        """Have a custom function called in mid-call; its result: JSON, read, or text.

        Each time is another tool call. ``changes`` are those of the call, such as
        ``from_number="…"``. What the function raised is raised; arguments that do not fit are
        told in the result, as the agent would be told.
        """
        payload = self._own(function_request(name, arguments or {}))
        response = self._deliver(change(payload, changes), check=True).response
        return response.get_json() if response.is_json else response.get_data(as_text=True)

    # Time, and what goes wrong

    def drain(self, until: datetime | Span | None = None, *, check: bool = True) -> list[Run]:
        """Run all that is left to do, in order and with its retries, as time goes by.

        The clock is frozen, and moved on from one moment at which something is due to the next:
        until all is done or dead, or up to ``until`` (an aware datetime, or a span from now).
        With ``check``, the last error of a receiver that died of it is raised.
        """
        clock, died_before = self.clock, {each.id for each in self._dead()}
        end = None if until is None else clock.moment(until)
        clock.freeze()
        with self._observer.noting() as notes:
            self._run_until(end)
        if end is not None and end > clock.now:
            clock.freeze(end)
        for delivery in self._dead() if check else ():
            if delivery.id not in died_before:
                raise cause_of_death(delivery, notes.runs)
        return notes.runs

    def failing(
        self,
        *receivers: Receiver | str,
        error: BaseException | type[BaseException] = MadeToFail,
        times: int | None = None,
    ) -> AbstractContextManager[None]:
        """Have receivers, or all, raise ``error`` in place of being called.

        A receiver is given as it is, or by its identity. ``times``: only so often, counted over
        all of them. Raises ``ValueError`` for one that is not connected.
        """
        check_connected(self._state, receivers)
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

    def _deliver(self, payload: Mapping[str, Any], check: bool) -> Sent:
        body = encode(payload)
        with self._observer.noting() as notes, self.capture("inbound_answered") as answers:
            response = self.post(body, path_of(payload))
        if check:
            for error in [run.error for run in notes.runs if run.error] or notes.errors:
                raise error
            for answer in answers:
                if why := answer.keywords["fallback"]:
                    raise AssertionError(f"The inbound handler did not answer ({why}).")
            check_answer(response)
        return sent_as(body, response, notes.runs)

    def _run_until(self, end: datetime | None) -> None:
        deliverer = self._need(self._state.deliverer)
        for _ in range(_MOST_MOVES):
            while deliverer.deliver_next():
                pass
            due = self.inbox.next_due(self.clock.now)
            if due is None or (end is not None and due > end):
                return
            self.clock.freeze(due)
        raise RuntimeError(f"Something is left to do after {_MOST_MOVES:,} moves of the clock.")

    def _need(self, part: T | None) -> T:
        if part is None:
            prefix = self._state.blueprint.config_prefix
            raise ConfigurationError(f"There is no inbox here: {prefix}_INBOX_URL is none.")
        return part

    def _dead(self) -> list[Delivery]:
        return [
            delivery
            for entry in self.inbox.entries(status="dead")
            for delivery in self.inbox.deliveries(entry)
            if delivery.status.value == "dead"
        ]
