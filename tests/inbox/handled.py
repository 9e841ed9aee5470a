"""Events that were received and delivered, without an application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from databases import rows
from retell_flask import Event, parse_event
from retell_flask.inbox.entry import DeliveryStatus, EntryStatus, Result, Target
from retell_flask.inbox.store import Inbox
from retell_flask.testing import encode
from support import call_payload

DONE = Result(DeliveryStatus.DONE)
DEAD = Result(DeliveryStatus.DEAD, "said in confidence")


def find(*receivers: str) -> Callable[[Event], list[Target]]:
    return lambda event: [Target(event.type, receiver) for receiver in receivers]


def deliver(inbox: Inbox, result: Result = DONE, type_: str = "call_ended", **call: Any) -> int:
    """Receive an event and end its deliveries, to ``a`` and ``b``, alike."""
    body = encode(call_payload(type_, **call))
    entry_id = inbox.add(parse_event(body, received_at=inbox.clock())).entry_id
    claimed = inbox.claim_entry(entry_id, find("a", "b"))
    assert not isinstance(claimed, EntryStatus)
    while claimed.current:
        inbox.advance(claimed, result)
    return entry_id


def run(inbox: Inbox, result: Result = DONE) -> list[str]:
    ran = []
    while claimed := inbox.claim_due(find("a", "b")):
        while claimed.current:
            ran.append(claimed.current.receiver)
            inbox.advance(claimed, result)
    return ran


def statuses(inbox: Inbox, table: str = "retell_event") -> list[str]:
    return [row["status"] for row in rows(inbox.database, table)]
