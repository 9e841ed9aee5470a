"""An application that missed some of what happened at Retell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from cli.shop import Shop
from databases import Clock
from retell_flask import BackfillReport, parse_event
from retell_flask.delivery import Deliverer
from retell_flask.inbox.receipts import of_event
from retell_flask.inbox.schema import entries
from retell_flask.inbox.store import Inbox
from retell_flask.testing import Capture, encode
from retellapi import Call, Fault, RetellApi, make_call, to_response

ALL = ("call_started", "call_ended", "call_analyzed")
HOUR = timedelta(hours=1)

OpenShop = Callable[..., "Aftermath"]


class Aftermath(Shop):
    """Beside its inbox, what Retell knows. Calls are named by their numbers."""

    def __init__(self, app: Flask, api: RetellApi) -> None:
        super().__init__(app)
        self.api = api

    @property
    def deliverer(self) -> Deliverer:
        deliverer = self.state.deliverer
        assert deliverer is not None
        return deliverer

    def happened(self, number: int, *received: str, ago: timedelta = HOUR, **changes: Any) -> Call:
        """A call that ended, of which the inbox was sent these events, and delivered them."""
        end = round((self.inbox.clock() - ago).timestamp() * 1000)
        times = {"start_timestamp": end - 30_000, "end_timestamp": end}
        call = make_call(number, **{**times, **changes})
        self.api.calls[call["call_id"]] = call
        for type_ in received:
            self.receive(webhook(type_, call), ago)
        return call

    def receive(self, payload: Any, ago: timedelta = timedelta(0)) -> None:
        """Receive an event, and deliver it."""
        received_at = self.inbox.clock() - ago
        added = self.inbox.add(parse_event(encode(payload), received_at=received_at))
        self.deliverer.deliver_entry(added.entry_id)

    def deliver_all(self) -> None:
        """Deliver what is due."""
        while self.deliverer.deliver_next():
            pass

    def hear_of(self, agent_id: str) -> None:
        """An agent has begun a chat."""
        self.deliver("chat_started", f"chat_{agent_id}", agent_id=agent_id)

    def backfill(
        self, since: Any = timedelta(days=1), until: Any = None, **options: Any
    ) -> BackfillReport:
        with self.app.app_context():
            return self.blueprint.backfill(since, until, **options)

    def made(self) -> list[tuple[int, str]]:
        """Call and type of the synthetic events, the oldest first."""
        synthetic = [entry for entry in self.entries() if entry.synthetic]
        return [(int((entry.session or "")[-6:]), entry.type) for entry in synthetic]

    def fetched(self) -> list[str]:
        """The ids of calls that were fetched, in order."""
        paths = [asked.path for asked in self.api.requests if asked.method == "GET"]
        return [path.rpartition("/")[2] for path in paths]


def webhook(type_: str, call: Call) -> dict[str, Any]:
    """An event of a call as Retell sends it."""
    left_out = () if type_ == "call_analyzed" else ("call_analysis",)
    return {"event": type_, "call": {name: call[name] for name in call if name not in left_out}}


def report(**counts: int) -> BackfillReport:
    """Of a run that looked at the calls of ``agent_1``."""
    return BackfillReport(agents=["agent_1"], **counts)


def both(*numbers: int) -> list[tuple[int, str]]:
    """Of calls of which neither event came."""
    return [(number, type_) for number in numbers for type_ in ("call_ended", "call_analyzed")]


def fill(inbox: Inbox, payloads: Iterable[Any], status: str = "done") -> None:
    """Have many events in an inbox, all at once."""
    now = inbox.clock()
    events = [parse_event(encode(payload), received_at=now) for payload in payloads]
    rows = [{**of_event(inbox.blueprint, event), "status": status} for event in events]
    inbox.database.write(lambda connection: connection.execute(entries.insert(), rows) and None)


def break_calls(api: RetellApi, *numbers: int, status: int = 500, body: Any = None) -> None:
    """Have these calls answered by something else, for good."""
    broken = {f"call_{number:06}" for number in numbers}

    def answer(request: Any) -> Any:
        if request.path.rpartition("/")[2] in broken:
            return to_response(status, {"message": "Broken"} if body is None else body)
        return RetellApi.answer(api, request)

    api.answer = answer  # type: ignore[method-assign]


def mend(api: RetellApi) -> None:
    """Have everything answered rightly again."""
    api.faults.clear()
    vars(api).pop("answer", None)


@dataclass(frozen=True)
class Meanwhile(Fault):
    """The right answer, after something has happened."""

    processed: bool = True
    act: Callable[[], Any] = lambda: None

    def spoil(self, answer: Any, connection: Any) -> Any:
        self.act()
        return answer


def skip_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have requests to Retell wait for no time, and say for how long they would."""
    slept: list[float] = []
    for module in ("retell_flask.transport", "urllib3.util.retry"):
        clock = SimpleNamespace(sleep=slept.append, time=time.time)
        monkeypatch.setattr(f"{module}.time", clock)
    return slept


def now(**ago: float) -> datetime:
    """What a clock says that stands still, or so long before."""
    return Clock().now - timedelta(**ago)


def own(captured: Capture) -> list[tuple[str, str | None]]:
    """The calls' events, each by its own signal."""
    return [
        (signal, event.session_id)
        for signal, _, event, _ in captured
        if event is not None and event.call and event.type == signal
    ]
