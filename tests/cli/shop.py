"""The application that the commands look after."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import cached_property
from typing import Any

from flask import Flask

from retell_flask import RetellBlueprint, parse_event
from retell_flask.inbox.entry import Entry
from retell_flask.inbox.maintenance import Query, search
from retell_flask.inbox.store import Inbox
from retell_flask.state import State
from retell_flask.testing import FrozenClock, RetellTestClient, encode


class Shop:
    """An application with an inbox in a file, as its operator meets it."""

    def __init__(self, app: Flask) -> None:
        self.app = app

    @property
    def state(self) -> State:
        return self.app.extensions["retell"]["retell"]

    @property
    def blueprint(self) -> RetellBlueprint:
        return self.state.blueprint

    @property
    def inbox(self) -> Inbox:
        inbox = self.state.inbox
        assert inbox is not None
        return inbox

    @cached_property
    def client(self) -> RetellTestClient:
        return RetellTestClient(self.app, self.blueprint)

    @cached_property
    def clock(self) -> FrozenClock:
        return FrozenClock(self.inbox)

    def add(self, type_: str, call_id: str | None = "call_1", /, **subject: Any) -> Entry:
        """Store an event that nobody has delivered yet."""
        kind = "chat" if type_.startswith("chat") else "call"
        payload: dict[str, Any] = {"event": type_}
        if call_id is not None:
            payload[kind] = {f"{kind}_id": call_id, **subject}
        added = self.inbox.add(parse_event(encode(payload), received_at=self.inbox.clock()))
        (entry,) = [entry for entry in self.entries() if entry.id == added.entry_id]
        return entry

    def deliver(self, type_: str, call_id: str | None = "call_1", /, **subject: Any) -> Entry:
        """Store an event and run its receivers once."""
        entry = self.add(type_, call_id, **subject)
        deliverer = self.state.deliverer
        assert deliverer is not None
        deliverer.deliver_entry(entry.id)
        (entry,) = [each for each in self.entries() if each.id == entry.id]
        return entry

    def entries(self) -> list[Entry]:
        """The oldest first."""
        return search(self.inbox, Query())[::-1]

    def statuses(self) -> list[str]:
        return [entry.status.value for entry in self.entries()]

    def later(self, **span: float) -> None:
        """Let time pass, for the inbox."""
        self.clock.move(timedelta(**span))

    def run(self, *arguments: str, code: int = 0, **keywords: Any) -> str:
        """What ``flask retell …`` prints."""
        result = self.app.test_cli_runner().invoke(args=["retell", *arguments], **keywords)
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    def run_json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))
