"""What the call centre keeps: calls, what was agreed in them, and what was sent where."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    TypeDecorator,
    UniqueConstraint,
    case,
    delete,
    func,
    or_,
    select,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    column_property,
    mapped_column,
    registry,
    relationship,
)
from sqlalchemy.schema import CreateIndex, CreateTable

_LOCK = 0x63616C6C  # "call"

OUTCOMES = ("running", "completed", "transferred", "voicemail", "failed")
UNFINISHED = "not finished"
LONGEST_SENDING = timedelta(minutes=2)
SENTIMENTS = ("positive", "neutral", "negative", "unknown")


class Moment(TypeDecorator[datetime]):
    """An aware datetime in UTC; SQLite keeps no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, _: Dialect) -> datetime | None:
        if value is None:
            return None
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return aware.astimezone(timezone.utc)  # PostgreSQL's are in the zone of its server


class Base(DeclarativeBase):
    registry = registry(
        type_annotation_map={datetime: Moment, dict[str, Any]: JSON, list[dict[str, Any]]: JSON}
    )


# What was read stays readable after a commit: reading it again would begin a transaction, which
# would then wait for a service.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})


def now() -> datetime:
    return datetime.now(timezone.utc)


def new_id() -> str:
    return str(uuid.uuid4())


def caller_of(call: Any) -> str | None:
    """The person's number, whoever of the two dialled; of a call of ours, or of Retell's."""
    number: str | None = call.to_number if call.direction == "outbound" else call.from_number
    return number


def create_tables() -> None:
    """Make those that are not there; several processes may do so at once."""
    with db.engine.begin() as connection:
        if connection.dialect.name == "postgresql":  # whose IF NOT EXISTS may still collide
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
        for table in db.metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


def delete_call(call_id: str) -> None:
    """Delete a call, and all rows that point to it."""
    items = select(ActionItem.id).filter_by(call_id=call_id)
    db.session.execute(delete(Task).where(Task.item_id.in_(items)))
    for model in (ActionItem, Extraction, Sending, Activity, ContactClaim, Call):
        db.session.execute(delete(model).filter_by(call_id=call_id))
    db.session.commit()


class Call(db.Model):
    """One call, as far as its events told of it. ``records`` writes it."""

    __tablename__ = "call"

    call_id: Mapped[str] = mapped_column(primary_key=True)
    direction: Mapped[str | None]
    from_number: Mapped[str | None]
    to_number: Mapped[str | None]
    agent_id: Mapped[str | None]
    agent_name: Mapped[str | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    duration_ms: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str | None]  # Retell's disconnection_reason
    transcript: Mapped[str | None]
    turns: Mapped[list[dict[str, Any]]] = mapped_column(default=list)  # role, content, start in s
    turn_count: Mapped[int] = mapped_column(default=0)
    recording_url: Mapped[str | None]
    sentiment: Mapped[str | None]  # in lower case
    summary: Mapped[str | None]
    cost_cents: Mapped[float | None]
    has_ended: Mapped[bool] = mapped_column(default=False)
    transfer: Mapped[str | None]  # "started", "cancelled" or "done"
    transferred_to: Mapped[str | None]
    voicemail: Mapped[bool | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    ranks: Mapped[dict[str, Any]] = mapped_column(default=dict)  # of who told what: see records
    noted_at: Mapped[datetime] = mapped_column(default=now)

    extraction: Mapped[Extraction | None] = relationship(viewonly=True)
    items: Mapped[list[ActionItem]] = relationship(order_by="ActionItem.position", viewonly=True)
    sendings: Mapped[list[Sending]] = relationship(order_by="Sending.sent_at", viewonly=True)

    @property
    def duration(self) -> timedelta | None:
        return None if self.duration_ms is None else timedelta(milliseconds=self.duration_ms)

    @property
    def caller(self) -> str | None:
        return caller_of(self)


# Facts are kept and not the outcome, so that it comes out alike in whatever order they came.
Call.outcome = column_property(
    case(
        (~Call.has_ended, "running"),
        (Call.error_code.is_not(None), "failed"),
        (or_(Call.reason == "voicemail_reached", Call.voicemail), "voicemail"),
        (or_(Call.reason == "call_transfer", Call.transfer == "done"), "transferred"),
        else_="completed",
    )
)
_happened_at = func.coalesce(Call.started_at, Call.ended_at, Call.noted_at)
Call.happened_at = column_property(_happened_at)
Index("call_newest", _happened_at.desc(), Call.call_id)


class Extraction(db.Model):
    """That a call's action items were stored: they are not made again, otherwise worded."""

    __tablename__ = "extraction"

    call_id: Mapped[str] = mapped_column(ForeignKey(Call.call_id), primary_key=True)
    extractor: Mapped[str]  # the model's name, or "rules"
    made_at: Mapped[datetime] = mapped_column(default=now)


class ActionItem(db.Model):
    """Something that somebody promised in a call."""

    __tablename__ = "action_item"
    __table_args__ = (UniqueConstraint("call_id", "position"),)

    id: Mapped[str] = mapped_column(primary_key=True, default=new_id)
    call_id: Mapped[str] = mapped_column(ForeignKey(Call.call_id))
    position: Mapped[int]
    text: Mapped[str]
    due: Mapped[str | None]  # as it was said: "tomorrow at 3"
    extractor: Mapped[str]

    task: Mapped[Task | None] = relationship(back_populates="item")


class Task(db.Model):
    """What became of an action item: a row of ours, or a task in Todoist."""

    __tablename__ = "task"

    item_id: Mapped[str] = mapped_column(ForeignKey(ActionItem.id), primary_key=True)
    source: Mapped[str]  # "Call: <call_id>"
    text: Mapped[str]
    place: Mapped[str]  # "here" or "todoist"
    url: Mapped[str | None]
    done_at: Mapped[datetime | None]
    made_at: Mapped[datetime] = mapped_column(default=now)

    item: Mapped[ActionItem] = relationship(back_populates="task")


class Sending(db.Model):
    """What was sent to another service, and whether it worked. ``sendings`` writes it."""

    __tablename__ = "sending"

    call_id: Mapped[str] = mapped_column(ForeignKey(Call.call_id), primary_key=True)
    service: Mapped[str] = mapped_column(primary_key=True)  # "slack"
    what: Mapped[str] = mapped_column(primary_key=True)  # "alarm"
    worked: Mapped[bool]
    detail: Mapped[str | None]  # what went wrong, or the service's own id
    attempts: Mapped[int] = mapped_column(default=1)
    sent_at: Mapped[datetime] = mapped_column(default=now)

    @property
    def state(self) -> str:
        """``sent``, ``failed``, ``sending``; or ``unknown``, where the process ended meanwhile."""
        if self.worked or self.detail != UNFINISHED:
            return "sent" if self.worked else "failed"
        return "sending" if now() - self.sent_at < LONGEST_SENDING else "unknown"


class Activity(db.Model):
    """A call in the CRM's place, where no HubSpot is configured."""

    __tablename__ = "activity"

    call_id: Mapped[str] = mapped_column(ForeignKey(Call.call_id), primary_key=True)
    contact: Mapped[str]
    note: Mapped[str]
    made_at: Mapped[datetime] = mapped_column(default=now)


class ContactClaim(db.Model):
    """That a call makes the contact for a number in the CRM, and no other call does meanwhile."""

    __tablename__ = "contact_claim"

    number: Mapped[str] = mapped_column(primary_key=True)
    call_id: Mapped[str]
    claimed_at: Mapped[datetime] = mapped_column(default=now)
