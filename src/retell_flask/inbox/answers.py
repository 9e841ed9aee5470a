"""What custom functions answered, and which of them runs: once for each tool call."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, case, delete, null, select, update
from sqlalchemy.dialects import postgresql, sqlite

from ..errors import InboxError
from ..settings import Settings
from . import statements
from .database import PATIENCE_SECONDS, Operation
from .entry import storable
from .schema import answers
from .silence import patient_for
from .store import Inbox

T = TypeVar("T")

_a = answers.c
_NEVER = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True, repr=False)
class Kept:
    """A result as it was answered; ``is_json`` or plain text."""

    body: bytes
    is_json: bool


@dataclass(eq=False)
class Run:
    """The right to run a function for one tool call, as long as the lease is held."""

    key: bytes
    token: str
    name: str
    started_at: datetime
    lost: bool = False

    @property
    def description(self) -> str:
        """For the log."""
        return f"The function {self.name}"


def _take() -> dict[str, Any]:
    """By dialect: write a row, or take over one whose time is over."""
    found = {}
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql)):
        insert = dialect.insert(answers)
        over = {
            column: insert.excluded[column]
            for column in ("session", "token", "expires_at", "is_json", "body")
        }
        found[name] = insert.on_conflict_do_update(
            index_elements=["blueprint", "key"],
            set_=over,
            where=case(
                (_a.token.is_(null()), _a.expires_at <= statements.at("now")),
                else_=_a.expires_at <= statements.at("leases_over"),
            ),
        ).returning(_a.id)
    return found


_TAKE = _take()
_MINE = (_a.blueprint == bindparam("inbox"), _a.key == bindparam("of_key"))
_HELD = (*_MINE, _a.token == bindparam("of_token"))
_FIND = select(_a.body, _a.is_json).where(*_MINE, _a.token.is_(null()))
_FINISH = (
    update(answers)
    .where(*_HELD)
    .values(
        token=null(),
        expires_at=statements.at("until"),
        body=bindparam("new_body"),
        is_json=bindparam("new_is_json"),
    )
)
_EXTEND = update(answers).where(*_HELD).values(expires_at=statements.at("until"))
_DROP = delete(answers).where(*_HELD)


class Answers:
    """The results of one blueprint's functions. All methods raise ``InboxError``."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._database = inbox.database
        self.settings: Settings = inbox.settings
        self._is_out = False
        self._trusts_leases_from: datetime | None = None

    def clock(self) -> datetime:
        """The inbox's time."""
        return self._inbox.clock()

    def begin(self, key: bytes, name: str, session: str) -> Run | Kept | None:
        """The right to run it, or the result that is there; None while it runs elsewhere."""
        now = self.clock()
        run = Run(key, secrets.token_hex(16), name, now)
        values = {
            "blueprint": self._inbox.blueprint,
            "key": key,
            "session": storable(session),
            "token": run.token,
            "expires_at": now + self.settings.lease,
            "is_json": False,
            "body": None,
        }

        def operation(connection: Connection) -> Run | Kept | None:
            take = _TAKE[connection.dialect.name]
            names = {**values, "now": now, "leases_over": self._leases_over(now)}
            if connection.execute(take, names).scalar() is not None:
                return run
            found = connection.execute(_FIND, self._names(run)).one_or_none()
            return None if found is None else Kept(*found)

        begun = self._write(operation)
        if self._is_out:
            self._is_out = False
            self._trusts_leases_from = now + self.settings.lease / 2
        return begun

    def _leases_over(self, now: datetime) -> datetime:
        """After an outage, those who still run something first get time to renew theirs."""
        since = self._trusts_leases_from
        is_trusted = not self._is_out and (since is None or now >= since)
        return now if is_trusted else _NEVER

    def _write(self, operation: Operation[T]) -> T:
        try:
            with patient_for(PATIENCE_SECONDS):  # somebody is on the phone
                return self._database.write(operation)
        except InboxError:
            self._is_out = True
            raise

    def finish(self, run: Run, kept: Kept, span: timedelta) -> bool:
        """Keep the result for a while. False if somebody else has taken the run over."""
        names = {
            **self._names(run),
            "until": self.clock() + span,
            "new_body": kept.body,
            "new_is_json": kept.is_json,
        }
        return self._write(lambda connection: connection.execute(_FINISH, names).rowcount == 1)

    def abandon(self, run: Run) -> None:
        """It failed: whoever asks next runs it anew."""
        self._write(lambda connection: connection.execute(_DROP, self._names(run)))

    def extend(self, runs: Iterable[Run]) -> None:
        """Renew leases; those that somebody else has by now are marked lost."""
        held = list(runs)
        until = self.clock() + self.settings.lease

        def operation(connection: Connection) -> list[bool]:
            names = ({**self._names(run), "until": until} for run in held)
            return [connection.execute(_EXTEND, each).rowcount == 1 for each in names]

        for run, is_held in zip(held, self._write(operation), strict=True):
            run.lost = not is_held

    def _names(self, run: Run) -> dict[str, object]:
        return {"inbox": self._inbox.blueprint, "of_key": run.key, "of_token": run.token}
