"""Whole calls as Retell tells them, each with an id of its own."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from retell_flask.events import parse_event
from retell_flask.inbox import receipts
from retell_flask.inbox.schema import entries
from retell_flask.inbox.store import Inbox
from retell_flask.testing import encode, sample

LIFECYCLE = ("call_started", "call_ended", "call_analyzed")
SNAPSHOT = "transcript_updated"


class Script:
    """What is sent of a call, to be told of others as well."""

    def __init__(self, payloads: Sequence[dict[str, Any]]) -> None:
        self._call_id = payloads[0]["call"]["call_id"].encode()
        self.bodies = [encode(payload) for payload in payloads]

    def new_call(self) -> list[bytes]:
        length = len(self._call_id)
        call_id = f"call_{secrets.token_hex(length)}"[:length].encode()
        return [body.replace(self._call_id, call_id) for body in self.bodies]


def short_script() -> Script:
    """A short call: bodies of 0.6, 8 and 9 kB."""
    return Script([sample(name) for name in LIFECYCLE])


def long_script(events: int) -> Script:
    """Three minutes of talk: what is sent at its begin and end, and snapshots in between, each
    of all that was said so far.
    """
    items = sample("call_ended_hour_long")["call"]["transcript_with_tool_calls"]
    words = sum(1 for item in items for word in item.get("words", ()) if word["end"] < 180)
    started, ended, analyzed = map(sample, LIFECYCLE)
    for payload in (ended, analyzed):
        said = _first(words, items)
        turns = [item for item in said if "words" in item]
        payload["call"]["transcript_with_tool_calls"] = said
        payload["call"]["transcript_object"] = turns
        payload["call"]["transcript"] = "".join(
            f"{turn['role'].title()}: {turn['content']}\n" for turn in turns
        )
    snapshots = [sample(SNAPSHOT) for _ in range(events - len(LIFECYCLE))]
    for number, payload in enumerate(snapshots, 1):
        so_far = words * number // len(snapshots)
        payload["transcript_with_tool_calls"] = _first(so_far, items)
    return Script([started, *snapshots, ended, analyzed])


def _first(count: int, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A transcript up to its ``count``-th word, with what happened in between."""
    found: list[dict[str, Any]] = []
    for item in items:
        if "words" not in item:
            found.append(item)
        elif words := item["words"][:count]:
            content = " ".join(word["word"] for word in words)
            found.append({**item, "words": words, "content": content})
            count -= len(words)
        else:
            break
    return found


def add_backlog(inbox: Inbox, bodies: Sequence[bytes], received_at: datetime) -> None:
    """Write entries that wait, as they are found after an outage of those that deliver."""
    rows = [
        receipts.of_event(inbox.blueprint, parse_event(body, received_at=received_at))
        for body in bodies
    ]
    inbox.database.write(lambda connection: connection.execute(entries.insert(), rows))
