from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from flask import Flask

from databases import make_inbox, rows
from retell_flask import RetellBlueprint, parse_event
from retell_flask.delivery import Deliverer
from retell_flask.errors import InboxError
from retell_flask.inbox.sqlite import MemoryDatabase
from retell_flask.inbox.store import Inbox, utc_now
from retell_flask.invocation import Invoker
from retell_flask.testing import encode
from support import call_payload

LEASE = 1.0


@pytest.fixture
def inbox() -> Inbox:
    return make_inbox(MemoryDatabase(), utc_now, lease=LEASE)  # type: ignore[arg-type]


def deliverer(app: Flask, retell: RetellBlueprint, inbox: Inbox) -> Deliverer:
    return Deliverer(Invoker(app, retell), inbox)


def test_a_receiver_that_takes_several_leases_is_not_started_twice(
    app: Flask, retell: RetellBlueprint, inbox: Inbox
) -> None:
    began: list[float] = []

    @retell.on("call_ended")
    def slow(sender: Any, **extra: Any) -> None:
        began.append(time.monotonic())
        time.sleep(4 * LEASE)

    inbox.add(parse_event(encode(call_payload("call_ended"))))
    first = threading.Thread(target=deliverer(app, retell, inbox).deliver_next)
    first.start()
    second = deliverer(app, retell, inbox)
    while first.is_alive():
        assert not second.deliver_next() or not first.is_alive()
        time.sleep(0.01)
    assert len(began) == 1
    assert [row["status"] for row in rows(inbox.database)] == ["done"]


def test_leases_are_renewed_after_an_outage_before_others_take_over(
    app: Flask,
    retell: RetellBlueprint,
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    began: list[float] = []

    @retell.on("call_ended")
    def slow(sender: Any, **extra: Any) -> None:
        began.append(time.monotonic())
        time.sleep(5 * LEASE)

    inbox.add(parse_event(encode(call_payload("call_ended"))))
    database, over = inbox.database, time.monotonic() + 3 * LEASE
    for name in ("_read", "_write"):
        run = getattr(database, name)

        def unless_out(operation: Any, run: Any = run) -> Any:
            if LEASE / 3 < time.monotonic() - over + 3 * LEASE < 3 * LEASE:
                raise InboxError("out")
            return run(operation)

        monkeypatch.setattr(database, name, unless_out)
    first = threading.Thread(target=deliverer(app, retell, inbox).deliver_next)
    first.start()
    other = Inbox(database, "retell", inbox.settings)
    second = deliverer(app, retell, other)
    while first.is_alive():
        try:
            second.deliver_next()
        except InboxError:
            time.sleep(0.01)
    assert len(began) == 1
    assert "leases cannot be renewed" in caplog.text


def test_a_run_of_over_ten_leases_is_warned_about_once(
    app: Flask, retell: RetellBlueprint, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = make_inbox(MemoryDatabase(), utc_now, lease=0.05)  # type: ignore[arg-type]

    @retell.on("call_ended", name="hanging")
    def hanging(sender: Any, **extra: Any) -> None:
        time.sleep(0.8)

    inbox.add(parse_event(encode(call_payload("call_ended"))))
    deliverer(app, retell, inbox).deliver_next()
    warnings = [r.getMessage() for r in caplog.records if "does it hang" in r.getMessage()]
    assert len(warnings) == 1
    assert "Running for over 10 leases: hanging on call_ended of" in warnings[0]
