"""Celery's workers run the receivers; a message only says that something is due.

The inbox is the truth: a message that is lost, doubled or late changes nothing. Messages are
acknowledged before a receiver runs, are not to be run later, and are never retried by Celery; what
is due and was not run is found by the sweep, every few seconds.
"""

from __future__ import annotations

import atexit
import logging
import queue
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from celery import Celery, shared_task
from flask import Flask, current_app, has_app_context

from ..delivery import Deliverer, UnknownEntry
from ..errors import ConfigurationError, InboxError
from ..forks import ProcessBound, bind_to_process
from ..inbox.entry import Receipt
from ..inbox.schema import from_microseconds, microseconds
from ..throttle import Throttle, withheld_note
from . import Answer
from .broker import (
    DELIVER,
    PATIENCE_SECONDS,
    SWEEP,
    connected,
    find_celery,
    find_takers,
    queue_of,
    serializer_of,
)

_logger = logging.getLogger(__name__)
_random = random.SystemRandom()  # processes that were forked must not draw alike

_MOST_WAITING = 10_000  # for the broker, in one process: what is more, the sweep sends
_SWEPT_TOGETHER = 2_000
_MOST_BATCHES = 5
_PAUSE_SECONDS = 1.0
_SWEEP_SECONDS = 10.0
_IDLE_SECONDS = 60.0  # after which a connection is made anew: it may be gone without a word
# Acknowledged first, since the inbox and not the broker knows what has still to be run.
_OF_A_TASK: dict[str, Any] = {
    "ignore_result": True,
    "store_errors_even_if_ignored": False,
    "acks_late": False,
    "max_retries": 0,
    "serializer": "json",
}


class _Message:
    """One that the broker has not taken yet; ``is_over`` is set once it has, or never will."""

    def __init__(self, entry_id: int) -> None:
        self.entry_id = entry_id
        self.is_over = threading.Event()


class CeleryDispatcher(ProcessBound):
    """Sends a message for each event, from a thread of its own: a request never waits."""

    def __init__(self, app: Flask, deliverer: Deliverer, prefix: str) -> None:
        self._app = app
        self._prefix = prefix
        self._deliverer = deliverer
        self._inbox = deliverer.inbox
        self._queue = deliverer.inbox.settings.celery_queue
        self._lease = deliverer.inbox.settings.lease.total_seconds()
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """Leave the parent's thread and connection to it, after a fork."""
        self._throttle = Throttle()
        self._waiting: queue.Queue[_Message] = queue.Queue(_MOST_WAITING)
        self._last: _Message | None = None
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._swept_at = self._asked_at = time.monotonic()
        self._is_checked = False

    def check(self) -> Celery:
        """The application's Celery app, set up so that messages get through.

        Raises ``ConfigurationError``.
        """
        return find_celery(self._app, self._prefix, self._options())

    def find_workers(self) -> list[str]:
        """The names of Celery's workers that take our messages and answered within a moment.

        Raises ``ConfigurationError``, and what the broker's client raises where it is down.
        """
        celery = self.check()
        return find_takers(celery, queue_of(celery, DELIVER, self._options()))

    def find_lost_sweeps(self) -> set[str]:
        """The queues to which Celery's schedule sends sweeps, and from which nobody takes them.

        Raises what ``find_workers`` does.
        """
        celery = self.check()
        queues = {
            queue_of(celery, SWEEP, entry.get("options") or {})
            for entry in (celery.conf.beat_schedule or {}).values()
            if entry.get("task") == SWEEP
        }
        return {each for each in queues if not find_takers(celery, each)}

    def start(self) -> None:
        """Say at once what would keep messages from being sent. Celery's workers run elsewhere."""
        if self._is_checked:
            return
        try:
            self.check()
            self._is_checked = True
        except ConfigurationError as error:
            self._complain(f"Events are kept and not delivered: {error}", logging.ERROR)

    def dispatch(self, receipt: Receipt) -> Answer:
        """Have a message sent, if the broker takes it; else the sweep sends one."""
        if receipt.duplicate:
            return Answer.DUPLICATE
        if receipt.entry_id is not None:
            self.send(receipt.entry_id)
        return Answer.RECEIVED

    def send(self, entry_id: int) -> threading.Event:
        """Hand a message to the thread that sends them; set once it is sent, or given up."""
        message = _Message(entry_id)
        try:
            self._waiting.put_nowait(message)
            self._last = message
        except queue.Full:
            message.is_over.set()
            self._complain(
                "Events come faster than the broker takes messages of them: the sweep "
                "will send these"
            )
        if self._thread is None or not self._thread.is_alive():
            self._start_thread()
        return message.is_over

    def deliver(self, entry_id: int, as_of: datetime | None = None) -> None:
        """In a worker: run what is due of an entry, and have its call's next one sent.

        ``as_of``: when, by the clock of the host that sent the message.
        """
        try:
            following = self._deliverer.deliver_due(entry_id, as_of)
            if following is not None:
                self.send(following).wait(PATIENCE_SECONDS)  # this process may end with its task
            self._deliverer.prune_some()
        except UnknownEntry:
            self._complain(
                "A message came for an event that this inbox does not have. If another "
                f"application uses this broker, give each a {self._prefix}_CELERY_QUEUE of its own"
            )
        except InboxError as error:
            self._complain(f"Deliveries stand still: {error}")
        self._sweep_if_late()

    def _sweep_if_late(self) -> None:
        """Where workers are busy, a sweep that Celery's schedule sent waits behind all else.

        A process may end before it is late, after a single event even. So each takes its chance
        besides: such processes sweep as often together as one that lives on.
        """
        now = time.monotonic()
        since, self._asked_at = now - self._asked_at, now
        is_late = now - self._swept_at > _SWEEP_SECONDS
        if is_late or _random.uniform(0, _SWEEP_SECONDS) < since:
            try:
                self.sweep()
            except Exception as error:  # the broker's, in each client's own words
                self._complain(f"A sweep could not look or send: {error}")

    def sweep(self) -> int:
        """Send messages for what is due and has none; how many.

        Raises ``InboxError``, ``ConfigurationError``, and kombu's ``OperationalError`` where the
        broker is down.
        """
        sent = 0
        self._swept_at = time.monotonic()
        with self._producing() as send:
            for _ in range(_MOST_BATCHES):
                unsent = self._inbox.mark_unsent(_SWEPT_TOGETHER)
                for number, entry_id in enumerate(unsent):
                    try:
                        send(entry_id)
                    except Exception:
                        self._inbox.unmark(unsent[number:])
                        raise
                sent += len(unsent)
                if len(unsent) < _SWEPT_TOGETHER:
                    break
        return sent

    def _options(self) -> dict[str, Any]:
        return {} if self._queue is None else {"queue": self._queue}

    @contextmanager
    def _producing(self) -> Iterator[Any]:
        """A function that sends a message, over a connection that waits for nobody for long."""
        celery = self.check()
        with connected(celery) as connection, celery.amqp.Producer(connection) as producer:

            def send(entry_id: int) -> None:
                task: Any = celery.tasks[DELIVER]
                task.apply_async(
                    (self._inbox.blueprint, entry_id, microseconds(self._inbox.clock())),
                    producer=producer,
                    retry=False,
                    expires=self._lease,  # after which a sweep sends another
                    delivery_mode="transient",  # it is soon made up for, and three times as fast
                    serializer=serializer_of(celery),
                    ignore_result=True,
                    **self._options(),
                )

            yield send

    def _start_thread(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._work, name="retell-celery", daemon=True)
                try:
                    if self._thread is None:
                        atexit.register(self._drain)
                    thread.start()
                except RuntimeError:
                    self._complain("No thread can be started: the sweep will send the messages")
                    return
                self._thread = thread

    def _drain(self) -> None:
        """At the end of the process: what is waiting would be left to the sweep."""
        if self._last is not None and self._thread is not None and self._thread.is_alive():
            self._last.is_over.wait(PATIENCE_SECONDS)

    def _work(self) -> None:
        message: _Message | None = None
        while True:
            message = message or self._waiting.get()
            is_fresh = True
            try:
                with self._producing() as send:
                    while True:
                        send(message.entry_id)
                        message.is_over.set()
                        message, is_fresh = None, False
                        message = self._waiting.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                continue
            except Exception as error:  # the broker's, in each client's own words
                if message is not None and not is_fresh:
                    continue  # the broker was restarted since: once more, on a new connection
                if message is not None:
                    message.is_over.set()
                    message = None
                is_ours = isinstance(error, ConfigurationError)  # and the sweep's as well
                hope = "" if is_ours else ". The sweep will, once it can"
                why = str(error).rstrip(".")
                self._complain(f"No message is sent: {why}{hope}")
                threading.Event().wait(_PAUSE_SECONDS)

    def _complain(self, text: str, level: int = logging.WARNING) -> None:
        withheld = self._throttle.admit("celery")
        if withheld is not None:
            _logger.log(level, "%s%s", text, withheld_note(withheld))


@shared_task(name=DELIVER, **_OF_A_TASK)
def deliver(blueprint: str, entry_id: int, sent_at: int | None = None) -> None:
    """Run what is due of an entry of the inbox: now, or when the message was sent."""
    if not (isinstance(entry_id, int) and 0 < entry_id < 2**63):
        raise ValueError(f"A message of {DELIVER} has no number of an event. Who sent it?")
    as_of = None if sent_at is None else from_microseconds(sent_at)
    _dispatcher(blueprint).deliver(entry_id, as_of)


@shared_task(name=SWEEP, **_OF_A_TASK)
def sweep() -> None:
    """Send what is due of all blueprints; a line in Celery's ``beat_schedule`` runs it."""
    _check_context()
    for name, state in current_app.extensions.get("retell", {}).items():
        if state.settings.dispatch == "celery":
            try:
                _dispatcher(name).sweep()
            except Exception as error:  # the broker's, in each client's own words
                _logger.warning("The sweep of %s could not look or send: %s", name, error)


def _dispatcher(blueprint: str) -> CeleryDispatcher:
    """Of the app in whose context the task runs, as Flask's documentation has it."""
    _check_context()
    state = current_app.extensions.get("retell", {}).get(blueprint)
    dispatcher = getattr(state, "dispatcher", None)
    if not isinstance(dispatcher, CeleryDispatcher):
        raise ConfigurationError(
            f"This Celery worker's application has no blueprint {blueprint!r} whose DISPATCH is "
            "'celery'. Give the worker the options that the web servers have."
        )
    return dispatcher


def _check_context() -> None:
    if not has_app_context():
        raise ConfigurationError(
            "Celery's tasks run outside of an app context here. Give them one, as FlaskTask in "
            "Flask's documentation does."
        )
