"""The tables. Their rules live in unique and partial indexes.

``metadata`` is public, for Alembic. Times are microseconds since 1970 in UTC, so that
both databases hold and compare them alike.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    func,
    inspect,
    select,
)
from sqlalchemy.types import TypeEngine

from ..errors import InboxError
from .entry import ASIDE, DeliveryStatus, EntryStatus

VERSION = 3
_ADVISORY_LOCK = 0x726574656C6C  # "retell"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """The moment, in UTC."""
    return _EPOCH + value * _MICROSECOND


class Moment(TypeDecorator[datetime]):
    """An aware datetime, kept as microseconds since 1970."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = BigInteger
    cache_ok: bool | None = True

    def process_bind_param(self, value: datetime | None, _: Dialect) -> int | None:
        return None if value is None else microseconds(value)

    def process_result_value(self, value: Any, _: Dialect) -> datetime | None:
        return None if value is None else from_microseconds(value)


metadata: MetaData = MetaData()
_Id = BigInteger().with_variant(Integer, "sqlite")

entries: Table = Table(
    "retell_event",
    metadata,
    Column("id", _Id, primary_key=True),  # the order of arrival
    Column("event_id", String(40), nullable=False),  # of the dedupe key: what makes it unique
    Column("blueprint", Text, nullable=False),
    Column("type", String(200), nullable=False),
    Column("session", String(200)),
    Column("stage", SmallInteger, nullable=False),
    Column("revises", _Id),  # the first version's id
    Column("revision", Integer, nullable=False),
    Column("synthetic", Boolean, nullable=False),
    Column("received_at", Moment, nullable=False),
    Column("status", String(16), nullable=False),
    Column("next_attempt_at", Moment, nullable=False),
    Column("lease_token", String(32)),
    Column("lease_expires_at", Moment),
    Column("compressed", Boolean, nullable=False),
    Column("body", LargeBinary),
    UniqueConstraint("blueprint", "event_id", name="retell_event_once"),
)

deliveries: Table = Table(
    "retell_delivery",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("entry_id", _Id, ForeignKey(entries.c.id), nullable=False),
    Column("position", Integer, nullable=False),
    Column("signal", String(200), nullable=False),
    Column("receiver", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Moment, nullable=False),
    Column("started_at", Moment),
    Column("finished_at", Moment),
    Column("error", Text),
    Column("once", LargeBinary, unique=True),
    UniqueConstraint("entry_id", "signal", "receiver", name="retell_delivery_receiver"),
)

answers: Table = Table(
    "retell_answer",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("blueprint", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),  # a digest: which tool call of which call
    Column("session", String(200), nullable=False),
    Column("token", String(32)),  # of the process that runs the function now
    Column("expires_at", Moment, nullable=False),  # of the lease, or of the result
    Column("is_json", Boolean, nullable=False),
    Column("body", LargeBinary),
    UniqueConstraint("blueprint", "key", name="retell_answer_once"),
)

agents: Table = Table(
    "retell_agent",
    metadata,
    Column("blueprint", Text, primary_key=True),
    Column("agent_id", String(200), primary_key=True),
)

pruned: Table = Table(
    "retell_pruned",
    metadata,
    Column("blueprint", Text, primary_key=True),
    Column("received_until", Moment, nullable=False),  # of the newest entry that was deleted
)

# When a cluster was last told of an entry, where it had to be told again after the receipt.
messages: Table = Table(
    "retell_message",
    metadata,
    Column("entry_id", _Id, primary_key=True, autoincrement=False),
    Column("sent_at", Moment, nullable=False),
)

schema_version: Table = Table(
    "retell_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False)
)


def _index(name: str, *columns: Any, where: Any = None, unique: bool = False) -> None:
    Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_e, _d = entries.c, deliveries.c
_is_pending = _e.status == EntryStatus.PENDING.value
_is_running = _e.status == EntryStatus.RUNNING.value
_index("retell_event_session", _e.blueprint, _e.session, _e.status)
_index("retell_event_due", _e.blueprint, _e.next_attempt_at, _e.id, where=_is_pending)
_index("retell_event_lease", _e.blueprint, _e.lease_expires_at, where=_is_running)
# Two entries of a session never run together: a look-up in the claim would not hold.
_index("retell_event_one_at_a_time", _e.blueprint, _e.session, where=_is_running, unique=True)
# For lists, newest first, and for pruning. The type is looked at without the rows.
_index("retell_event_received", _e.blueprint, _e.received_at, _e.id, _e.type)
_index(
    "retell_event_aside",
    _e.blueprint,
    _e.received_at,
    _e.id,
    where=_e.status.in_([status.value for status in ASIDE]),
)
_index("retell_answer_session", answers.c.blueprint, answers.c.session)
_index("retell_answer_expiry", answers.c.blueprint, answers.c.expires_at)
_index(
    "retell_delivery_unfinished",
    _d.status,
    _d.receiver,
    where=_d.status != DeliveryStatus.DONE.value,
)


def find_version(connection: Connection) -> int | None:
    """The version of the tables that are there."""
    if not inspect(connection).has_table(schema_version.name):
        return None
    version: int | None = connection.execute(select(func.max(schema_version.c.version))).scalar()
    return version


def check_version(found: int) -> None:
    """Raise ``InboxError`` for tables of another release."""
    if found != VERSION:
        raise InboxError(
            f"The inbox's tables are of version {found}, and this release wants "
            f"{VERSION}: "
            + ("upgrade retell-flask here." if found > VERSION else "run flask retell init-db.")
        )


def ensure(connection: Connection) -> bool:
    """Make what is missing of the tables. False if they were there in this version."""
    if connection.dialect.name == "postgresql":
        # Two releases of two hosts may begin at the same moment.
        connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    found = find_version(connection)
    if found is not None and found >= VERSION:
        check_version(found)
        return False
    metadata.create_all(connection)  # so far, each version has only added tables
    connection.execute(schema_version.delete())
    connection.execute(schema_version.insert(), {"version": VERSION})
    return True
