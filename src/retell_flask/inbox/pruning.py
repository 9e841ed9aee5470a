"""What is old enough is deleted, a small batch at a time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from .entry import EntryStatus
from .schema import answers, deliveries, entries, messages, pruned
from .statements import is_
from .store import Inbox

_TOGETHER = 25
_ABANDONED = timedelta(days=1)
_PAUSE_SECONDS = 600.0


def prunable(inbox: Inbox, age: timedelta) -> int:
    """How many done and superseded entries are older than ``age``."""
    statement = select(func.count()).where(*_prunable(inbox, age))
    return inbox.database.read(lambda connection: connection.execute(statement).scalar_one())


def prune(inbox: Inbox, age: timedelta) -> Iterator[int]:
    """Delete them in small batches, as long a pause after each; the size of each."""
    began = time.monotonic()
    while count := prune_batch(inbox, age):
        took = time.monotonic() - began
        yield count
        time.sleep(took)
        began = time.monotonic()


def prune_batch(inbox: Inbox, age: timedelta) -> int:
    """Delete one small batch, the oldest first; how many."""
    batch = (
        select(entries.c.id, entries.c.received_at)
        .where(*_prunable(inbox, age))
        .order_by(entries.c.received_at)
        .limit(_TOGETHER)
    )

    def operation(connection: Connection) -> int:
        found = connection.execute(batch.with_for_update(skip_locked=True)).all()
        keys = [row.id for row in found]
        connection.execute(delete(deliveries).where(deliveries.c.entry_id.in_(keys)))
        connection.execute(delete(messages).where(messages.c.entry_id.in_(keys)))
        connection.execute(delete(entries).where(entries.c.id.in_(keys)))
        if found:
            _note_pruned(connection, inbox, found[-1].received_at)
        return len(keys)

    if not inbox.database.read(lambda connection: connection.execute(batch).first()):
        return 0
    return inbox.database.write(operation)


def _note_pruned(connection: Connection, inbox: Inbox, received_at: datetime) -> None:
    """For a backfill, to which what was pruned would look as if it never came."""
    insert = _NOTE_PRUNED[connection.dialect.name]
    connection.execute(insert, {"blueprint": inbox.blueprint, "received_until": received_at})


def _note_pruned_statement(dialect: Any) -> Any:
    insert = dialect.insert(pruned)
    newest = insert.excluded.received_until
    return insert.on_conflict_do_update(
        index_elements=["blueprint"],
        set_={"received_until": newest},
        where=pruned.c.received_until < newest,
    )


_NOTE_PRUNED = {
    "sqlite": _note_pruned_statement(sqlite),
    "postgresql": _note_pruned_statement(postgresql),
}


def prune_results(inbox: Inbox) -> int:
    """Delete one small batch of what custom functions answered, where its time is over."""
    now = inbox.clock()
    over = (
        answers.c.blueprint == inbox.blueprint,
        answers.c.expires_at <= now,
        # What was begun and never finished may run on, after an outage.
        or_(answers.c.token.is_(None), answers.c.expires_at <= now - _ABANDONED),
    )
    batch = select(answers.c.id).where(*over).limit(_TOGETHER)
    if not inbox.database.read(lambda connection: connection.execute(batch).first()):
        return 0
    expired = delete(answers).where(answers.c.id.in_(batch), *over)
    return inbox.database.write(lambda connection: connection.execute(expired).rowcount)


def _prunable(inbox: Inbox, age: timedelta) -> tuple[Any, ...]:
    return (
        entries.c.blueprint == inbox.blueprint,
        is_(entries.c.status, EntryStatus.DONE, EntryStatus.SUPERSEDED),
        entries.c.received_at < inbox.clock() - age,
    )


class Pruner:
    """Prunes by the way, a batch at a time, for whatever delivers."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._pruning = threading.Lock()
        self._next = time.monotonic() + random.SystemRandom().uniform(0, 60)  # not all at once

    def prune_some(self) -> None:
        """Delete a batch, if it is time. Raises ``InboxError``."""
        if time.monotonic() < self._next or not self._pruning.acquire(blocking=False):
            return
        began = time.monotonic()
        try:
            counts = (
                prune_batch(self._inbox, self._inbox.settings.retention),
                prune_results(self._inbox),
            )
            ended = time.monotonic()
            # Those who receive have half of the time for themselves.
            is_more = max(counts) == _TOGETHER
            self._next = ended + (ended - began if is_more else _PAUSE_SECONDS)
        finally:
            self._pruning.release()
