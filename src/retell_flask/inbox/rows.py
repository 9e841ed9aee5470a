"""Entries and deliveries, from rows and into them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from . import statements
from .bodies import unpack
from .entry import Delivery, DeliveryStatus, Entry, EntryStatus, Target


def find_deliveries(connection: Connection, entry_id: int) -> list[Delivery]:
    """The deliveries of an entry, in order."""
    rows = connection.execute(statements.FIND_DELIVERIES, {"entry_id": entry_id})
    return [delivery_of(row) for row in rows]


def insert_delivery(
    connection: Connection, entry_id: int, position: int, target: Target, now: datetime
) -> int:
    """Write a delivery that is due now; 0 where its outcome reached the receiver before."""
    values = {
        "entry_id": entry_id,
        "position": position,
        "signal": target.signal,
        "receiver": target.receiver,
        "status": DeliveryStatus.PENDING.value,
        "attempts": 0,
        "next_attempt_at": now,
        "once": target.once,
    }
    insert = statements.INSERT_DELIVERY[connection.dialect.name]
    return int(connection.execute(insert, values).scalar() is not None)


def entry_of(row: Any) -> Entry:
    """An entry from ``statements.DETAILS``, with its body from ``statements.BODY`` if there."""
    values = dict(row._mapping)
    body = unpack(values.pop("compressed", False), values.pop("body", None))
    return Entry(**{**values, "status": EntryStatus(values["status"]), "body": body})


def delivery_of(row: Any) -> Delivery:
    """A delivery from all columns but ``once``."""
    values = dict(row._mapping)
    return Delivery(**{**values, "status": DeliveryStatus(values["status"])})
