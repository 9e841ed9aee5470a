"""Celery's workers run the receivers; a message only says that something is due.

The inbox is the truth: a message that is lost, doubled or late changes nothing. Messages are
acknowledged before a receiver runs, carry no time and are never retried by Celery; what is due
and was not run is found by the sweep, every few seconds.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any

from celery import Celery, shared_task
from flask import Flask, current_app
from kombu.exceptions import OperationalError

from ..delivery import Deliverer
from ..errors import ConfigurationError, InboxError
from ..forks import ProcessBound, bind_to_process
from ..inbox.entry import Receipt
from ..throttle import Throttle, withheld_note
from . import Answer

_logger = logging.getLogger(__name__)

DELIVER = "retell_flask.deliver"
SWEEP = "retell_flask.sweep"
_MOST_WAITING = 1_000  # for the broker, in one process: what is more, the sweep sends
_MOST_SWEPT = 500
_PAUSE_SECONDS = 1.0
# Acknowledged first, since the inbox and not the broker knows what has still to be run.
_OF_A_TASK: dict[str, Any] = {
    "ignore_result": True,
    "store_errors_even_if_ignored": False,
    "acks_late": False,
    "max_retries": 0,
    "serializer": "json",
}


class CeleryDispatcher(ProcessBound):
    """Sends a message for each event, from a thread of its own: a request never waits."""

    def __init__(self, app: Flask, deliverer: Deliverer, prefix: str) -> None:
        self._deliverer = deliverer
        self._inbox = deliverer.inbox
        self._celery = find_celery(app, prefix)
        self._queue = deliverer.inbox.settings.celery_queue
        self._throttle = Throttle()
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """Leave the parent's thread and connection to it, after a fork."""
        self._waiting: queue.Queue[int] = queue.Queue(_MOST_WAITING)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Nothing to begin: Celery's workers are processes of their own."""

    def dispatch(self, receipt: Receipt) -> Answer:
        """Have a message sent, if the broker takes it; else the sweep sends one."""
        if receipt.duplicate:
            return Answer.DUPLICATE
        if receipt.entry_id is not None:
            self.send(receipt.entry_id)
        return Answer.RECEIVED

    def send(self, entry_id: int) -> None:
        """Hand a message to the thread that sends them."""
        try:
            self._waiting.put_nowait(entry_id)
        except queue.Full:
            self._complain("The broker takes no messages: the sweep will send them")
        if self._thread is None or not self._thread.is_alive():
            self._start_thread()

    def deliver(self, entry_id: int) -> None:
        """In a worker: run what is due of an entry, and have its call's next one sent."""
        try:
            following = self._deliverer.deliver_due(entry_id)
        except InboxError as error:
            self._complain(f"Deliveries stand still: {error}")
            return
        if following is not None:
            self.send(following)

    def sweep(self) -> int:
        """Send messages for what is due, as far as the queue lacks them; how many.

        Raises ``InboxError``, and kombu's ``OperationalError`` where the broker is down.
        """
        due = self._inbox.find_runnable(_MOST_SWEPT)
        if not due:
            return 0
        with self._celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
            lacking = due[: max(0, len(due) - self._count_messages(connection))]
            with self._celery.amqp.Producer(connection) as producer:
                for entry_id in lacking:
                    self._publish(entry_id, producer)
        return len(lacking)

    def _count_messages(self, connection: Any) -> int:
        """How many wait in the queue; none where it is not there yet."""
        named = {"queue": self._queue} if self._queue else {}
        target = self._celery.amqp.router.route(named, DELIVER)["queue"].name
        try:
            with connection.channel() as channel:
                return int(channel.queue_declare(target, passive=True).message_count)
        except connection.channel_errors + connection.connection_errors:
            return 0

    def _publish(self, entry_id: int, producer: Any) -> None:
        options: dict[str, Any] = {} if self._queue is None else {"queue": self._queue}
        self._celery.tasks[DELIVER].apply_async(
            (self._inbox.blueprint, entry_id), producer=producer, retry=False, **options
        )

    def _start_thread(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._work, name="retell-celery", daemon=True
                )
                self._thread.start()

    def _work(self) -> None:
        while True:
            try:
                with self._celery.connection_for_write() as connection:
                    connection.ensure_connection(max_retries=1, timeout=5)
                    producer = self._celery.amqp.Producer(connection)
                    while True:
                        self._publish(self._waiting.get(), producer)
            except Exception as error:  # the broker's, in each client's own words
                self._complain(f"No message can be sent ({type(error).__name__}): the sweep will")
                threading.Event().wait(_PAUSE_SECONDS)

    def _complain(self, text: str) -> None:
        withheld = self._throttle.admit("celery")
        if withheld is not None:
            _logger.warning("%s%s", text, withheld_note(withheld))


def find_celery(app: Flask, prefix: str) -> Celery:
    """The application's own Celery app. Raises ``ConfigurationError``."""
    found = app.extensions.get("celery")
    if not isinstance(found, Celery):
        raise ConfigurationError(
            f"{prefix}_DISPATCH is 'celery', and app.extensions['celery'] is no Celery app. Set "
            "one up as Flask's documentation does (Background Tasks with Celery)."
        )
    if "json" not in found.conf.accept_content:
        raise ConfigurationError(
            "Celery's accept_content leaves 'json' out, so its workers would refuse the messages "
            f"that {prefix}_DISPATCH = 'celery' sends. Add it."
        )
    return found


@shared_task(name=DELIVER, **_OF_A_TASK)
def deliver(blueprint: str, entry_id: int) -> None:
    """Run what is due of an entry of the inbox."""
    _dispatcher(blueprint).deliver(entry_id)


@shared_task(name=SWEEP, **_OF_A_TASK)
def sweep(blueprint: str = "retell") -> None:
    """Send what is due; a line in Celery's ``beat_schedule`` runs it."""
    try:
        _dispatcher(blueprint).sweep()
    except (InboxError, OperationalError) as error:
        _logger.warning("The sweep could not look or send: %s", error)


def _dispatcher(blueprint: str) -> CeleryDispatcher:
    """Of the app in whose context the task runs, as Flask's documentation has it."""
    state = current_app.extensions.get("retell", {}).get(blueprint)
    dispatcher = getattr(state, "dispatcher", None)
    if not isinstance(dispatcher, CeleryDispatcher):
        raise ConfigurationError(
            f"This Celery worker's application has no blueprint {blueprint!r} whose DISPATCH is "
            "'celery'. Give the worker the options that the web servers have."
        )
    return dispatcher
