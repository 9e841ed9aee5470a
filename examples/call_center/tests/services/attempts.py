"""One attempt of one receiver, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select

from call_center.models import Sending, db
from retell_flask.testing import RetellTestClient

# Every faulty answer quotes this, as if it had been spoken or were the token.
ECHO = "quoted-from-the-request"
USUAL = (5, 10)  # seconds until the second attempt, where nothing else is asked for


@dataclass(frozen=True)
class Attempt:
    status: str
    seconds: float  # until the next one
    error: str
    detail: str | None  # of what was to be sent, for the call's page


class Attempts:
    """Has an event delivered, and looks at one receiver's run of it."""

    def __init__(
        self, app: Flask, client: RetellTestClient, log: pytest.LogCaptureFixture
    ) -> None:
        self._app, self._client, self._log = app, client, log

    def __call__(self, sample: str, receiver: str, **changes: Any) -> Attempt:
        clock = self._client.clock
        clock.freeze()
        sent = self._client.send(sample, check=False, **changes)
        (delivery,) = [
            each for each in self._client.inbox.deliveries(sent.event) if each.receiver == receiver
        ]
        attempt = Attempt(
            delivery.status.value,
            (delivery.next_attempt_at - clock.now).total_seconds(),
            delivery.error or "",
            self._detail(),
        )
        assert ECHO not in f"{attempt}{self._log.text}"
        return attempt

    def _detail(self) -> str | None:
        with self._app.app_context():
            return db.session.scalar(select(Sending.detail))


@contextmanager
def lost_note() -> Iterator[None]:
    """Once, what a service did is not noted: as if the process had ended right then."""
    left = [ConnectionError("The database is gone.")]

    def lose(session: Any, *_: Any) -> None:
        if left and any(isinstance(each, Sending) and each.worked for each in session.dirty):
            raise left.pop()

    event.listen(db.session, "before_flush", lose)
    try:
        yield
    finally:
        event.remove(db.session, "before_flush", lose)
    assert not left
