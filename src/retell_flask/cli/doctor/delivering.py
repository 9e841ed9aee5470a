"""Who runs the receivers, which there are, and what they have left lying."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from ...dispatch.inline import Direct, Inline
from ...dispatch.threads import Threads
from ...errors import ConfigurationError
from ...events import INBOUND_TYPES, SUBJECTS
from ...inbox import maintenance
from ...inbox.entry import DeliveryStatus, EntryStatus
from ...inbox.schema import entries
from ...inbox.sqlite import FileDatabase
from ...inbox.statements import is_
from ...inbox.store import Inbox
from ...signals import OUTCOMES, SIGNALS
from ..advice import (
    command,
    connected_receivers,
    describe_dispatch,
    how_it_runs,
    not_connected,
    renaming,
    run_once,
)
from ..text import age, counted
from .finding import Finding, Findings, note, ok, problem
from .options import BADGE
from .set_up import SetUp

_e = entries.c

_SENT_TYPES = tuple(type_ for type_ in SUBJECTS if type_ not in OUTCOMES)
_FOR_EVENTS = (*SUBJECTS, "event_received", "unknown_event", "event_revised")
# Longer than a worker takes to look, and longer than an outage of moments.
_LATE = timedelta(minutes=1)
_TOO_LATE = timedelta(minutes=5)
_LONG_PENDING = timedelta(minutes=15)


def check_dispatch(set_up: SetUp) -> Findings:
    """Who runs the receivers, and what has to run for that."""
    dispatcher = set_up.state.dispatcher
    known = [find(set_up) for kind, find in _DISPATCHERS if isinstance(dispatcher, kind)]
    yield from known or _celery(set_up)


def _threads(set_up: SetUp) -> Finding:
    how = describe_dispatch(set_up.state)
    if not set_up.state.settings.workers:
        worker = command("worker", set_up.state)
        return ok("dispatch", f"By {how}, so {worker} has to run beside it.")
    return ok(
        "dispatch",
        f"By {how}, from its first request on; post_worker_init of retell_flask.gunicorn starts "
        "them at once.",
    )


def _inline(set_up: SetUp) -> Finding:
    return note(
        "dispatch",
        "Inline: the request runs the receivers, all of them within Retell's 10 seconds.",
        f"Have cron take up what Retell gave up: {run_once(set_up.state)}",
    )


def _direct(set_up: SetUp) -> Finding:
    return ok("dispatch", f"By {describe_dispatch(set_up.state)}.")


def _celery(set_up: SetUp) -> Findings:
    """Its module may be imported only where Celery is installed."""
    dispatcher: Any = set_up.state.dispatcher
    how = describe_dispatch(set_up.state)
    if set_up.inbox and isinstance(set_up.inbox.database, FileDatabase):
        yield note(
            "dispatch",
            "The inbox is a SQLite file, so all servers and workers have to be on this host.",
            f"Several hosts need PostgreSQL: {set_up.prefix}_INBOX_URL.",
        )
    try:
        workers, lost_sweeps = dispatcher.find_workers(), dispatcher.find_lost_sweeps()
    except ConfigurationError as error:
        yield problem("dispatch", str(error), "Until then, events are kept and not delivered.")
    except Exception as error:  # the broker's, in each client's own words
        yield problem(
            "dispatch",
            f"By {how}, whose broker does not answer ({type(error).__name__}).",
            "Events are kept, and a sweep sends what is due once it is back.",
        )
    else:
        sweep = command("sweep", set_up.state)
        yield ok(
            "dispatch",
            f"By {how}. A sweep has to run: retell_flask.sweep in Celery's beat, or {sweep}.",
        )
        for lost in sorted(lost_sweeps) if workers else ():
            yield problem(
                "dispatch",
                f"Celery's schedule sends the sweeps to the queue {lost}, from which no worker "
                "takes messages.",
                'Name another in its options: {"queue": …}.',
            )
        if not workers:
            queue = set_up.state.settings.celery_queue
            start = "celery -A … worker" + (f" -Q {queue}" if queue else "")
            yield note(
                "dispatch",
                "No worker of Celery's that takes messages from there has answered.",
                f"Start one: {start}. One of the solo pool does not answer while it runs a task.",
            )


_DISPATCHERS: tuple[tuple[type, Callable[[SetUp], Finding]], ...] = (
    (Threads, _threads),
    (Inline, _inline),
    (Direct, _direct),
)


def check_receivers(set_up: SetUp) -> Findings:
    """Who hears what is sent, and who is missing."""
    connected = connected_receivers(set_up.state)
    heard = {name: len(connected[name]) for name in _FOR_EVENTS if connected[name]}
    yield _count_receivers(set_up, heard)
    for name in heard:
        if SIGNALS[name].is_muted:
            yield note(
                "receivers",
                f"{name} is muted: no new event reaches its receivers.",
                "Leave the block that mutes it: with signal.muted().",
            )
    if set_up.inbox is None:
        return
    counts = [maintenance.waiting(set_up.inbox, each) for each in _UNFINISHED]
    for signal, receiver in not_connected(connected, *counts):
        count = sum(each.get((signal, receiver), 0) for each in counts)
        yield problem(
            "receivers",
            f"{receiver} is not connected to {signal} here, though "
            f"{counted(count, 'delivery to it is', 'deliveries to it are')} unfinished.",
            "Import the module that it is in where the application is made. If it was renamed: "
            + renaming(receiver, set_up.state),
        )


_UNFINISHED = (DeliveryStatus.PENDING, DeliveryStatus.DEAD)


def _count_receivers(set_up: SetUp, heard: dict[str, int]) -> Finding:
    if not heard:
        blueprint = set_up.state.blueprint
        answers = bool(list(blueprint.functions)) or any(
            blueprint.inbound_handlers.get(each) for each in INBOUND_TYPES
        )
        return (note if answers else problem)(
            "receivers",
            "Nobody is connected to any signal of an event: what is sent is done with at once.",
            "Import the module that the receivers are in where the application is made, and "
            "connect them: @call_ended.connect_via(retell)",
        )
    found = ", ".join(f"{count} to {name}" for name, count in heard.items())
    others = ", ".join(type_ for type_ in _SENT_TYPES if type_ not in heard) or "none"
    return ok("receivers", f"Connected are {found}. Types without one of their own: {others}.")


def check_deliveries(set_up: SetUp) -> Findings:
    """What failed for good, what came that is no event, and what waits for too long."""
    inbox = set_up.inbox
    if inbox is None:
        return
    found = [*_failed(set_up, inbox), *_waiting(set_up, inbox)]
    yield from found or [ok("deliveries", "None is dead, and nothing waits for long.")]


def _failed(set_up: SetUp, inbox: Inbox) -> Findings:
    dead = sum(maintenance.waiting(inbox, DeliveryStatus.DEAD).values())
    if dead:
        listing = command("events --status dead", set_up.state)
        yield problem(
            "deliveries",
            f"{counted(dead, 'delivery is', 'deliveries are')} dead: a receiver failed for the "
            "last time.",
            f"See which: {listing}. Once the cause is mended: " + command("replay", set_up.state),
        )
    invalid = len(maintenance.ids(inbox, maintenance.Query(status=EntryStatus.INVALID)))
    if invalid:
        yield note(
            "deliveries",
            f"{counted(invalid, 'body was', 'bodies were')} rightly signed and no event.",
            f"See them: {command('events --status invalid', set_up.state)}, and show --body.",
        )


_OPEN = (EntryStatus.PENDING, EntryStatus.RUNNING)


def _waiting(set_up: SetUp, inbox: Inbox) -> Findings:
    now, mine = inbox.clock(), _e.blueprint == inbox.blueprint
    pending, running = (is_(_e.status, each) for each in _OPEN)
    asked = (
        select(func.max(_e.received_at)).where(mine),
        select(func.min(_e.received_at)).where(mine, pending),
        select(func.min(_e.next_attempt_at)).where(mine, pending),
        select(func.min(_e.lease_expires_at)).where(mine, running),
    )

    def look(connection: Connection) -> list[timedelta | None]:
        times = [connection.execute(each).scalar() for each in asked]
        return [time and now - time for time in times]

    quiet_for, pending_for, *due_for = inbox.database.read(look)
    late = max(filter(None, due_for), default=timedelta(0)) - inbox.settings.order_wait
    if quiet_for is None:
        yield note(
            "deliveries",
            "Nothing has come yet.",
            f"Where Retell's webhooks are refused with 401, another key signs. {BADGE}",
        )
    elif late > _LATE:
        yield (problem if late > _TOO_LATE else note)(
            "deliveries",
            f"An event is late by {age(late)}: nothing takes up what is due, or too slowly.",
            f"{how_it_runs(set_up.state)} {run_once(set_up.state)}",
        )
    elif pending_for is not None and pending_for > _LONG_PENDING:
        yield note(
            "deliveries",
            f"An event that came {age(pending_for)} ago is pending: a receiver fails, and is "
            "tried again.",
            f"See which, and why: {command('events --status pending', set_up.state)}",
        )
