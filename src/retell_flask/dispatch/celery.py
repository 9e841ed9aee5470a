"""Celery's workers run the receivers; a message only says that something is due.

The inbox is the truth: a message that is lost, doubled or late changes nothing. Messages are
acknowledged before a receiver runs, carry no time and are never retried by Celery; what is due
and was not run is found by the sweep, every few seconds.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, shared_task
from celery.exceptions import QueueNotFound
from flask import Flask, current_app, has_app_context
from kombu.exceptions import OperationalError
from kombu.serialization import prepare_accept_content

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
_SWEPT_TOGETHER = 2_000
_MOST_BATCHES = 5
_PAUSE_SECONDS = 1.0
_IDLE_SECONDS = 60.0  # after which a connection is made anew: it may be gone without a word
_PATIENCE_SECONDS = 5
_ANSWER_SECONDS = 2.0
_JSON = "application/json"
# Acknowledged first, since the inbox and not the broker knows what has still to be run.
_OF_A_TASK: dict[str, Any] = {
    "ignore_result": True,
    "store_errors_even_if_ignored": False,
    "acks_late": False,
    "max_retries": 0,
    "serializer": "json",
}
# Without these, a broker that is silent is waited for without an end.
_TIME_OUTS = {
    "redis": {"socket_timeout": _PATIENCE_SECONDS, "socket_connect_timeout": _PATIENCE_SECONDS},
    "amqp": {"read_timeout": _PATIENCE_SECONDS, "write_timeout": _PATIENCE_SECONDS},
}
# RabbitMQ says nothing of a message that it could not take, unless asked; others ignore it.
_CONFIRMED = {"confirm_publish": True}


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
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

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
        queue = celery.amqp.router.route(self._options(), DELIVER)["queue"].name
        with self._connected(celery) as connection:
            answers = celery.control.inspect(
                timeout=_ANSWER_SECONDS, connection=connection
            ).active_queues()
        return sorted(
            worker
            for worker, queues in (answers or {}).items()
            if queue in (each["name"] for each in queues)
        )

    def start(self) -> None:
        """Nothing to begin: Celery's workers are processes of their own."""

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
        except queue.Full:
            message.is_over.set()
            self._complain("The broker takes no messages: the sweep will send them")
        if self._thread is None or not self._thread.is_alive():
            self._start_thread()
        return message.is_over

    def deliver(self, entry_id: int) -> None:
        """In a worker: run what is due of an entry, and have its call's next one sent."""
        try:
            following = self._deliverer.deliver_due(entry_id)
        except InboxError as error:
            self._complain(f"Deliveries stand still: {error}")
            return
        if following is not None:
            self.send(following).wait(_PATIENCE_SECONDS)  # this process may end with its task

    def sweep(self) -> int:
        """Send messages for what is due and has none; how many.

        Raises ``InboxError``, ``ConfigurationError``, and kombu's ``OperationalError`` where the
        broker is down.
        """
        sent = 0
        with self._producing() as send:
            for _ in range(_MOST_BATCHES):
                unsent = self._inbox.mark_unsent(_SWEPT_TOGETHER)
                for entry_id in unsent:
                    send(entry_id)
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
        with self._connected(celery) as connection, celery.amqp.Producer(connection) as producer:

            def send(entry_id: int) -> None:
                celery.tasks[DELIVER].apply_async(
                    (self._inbox.blueprint, entry_id),
                    producer=producer,
                    retry=False,
                    expires=self._lease,  # after which a sweep sends another
                    **self._options(),
                )

            yield send

    @contextmanager
    def _connected(self, celery: Celery) -> Iterator[Any]:
        with celery.connection_for_write() as connection:
            connection.transport_options = {
                **_TIME_OUTS.get(connection.transport.driver_type, {}),
                **(connection.transport_options or {}),
                **_CONFIRMED,
            }
            connection.ensure_connection(max_retries=1, timeout=_PATIENCE_SECONDS)
            yield connection

    def _start_thread(self) -> None:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._work, name="retell-celery", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    self._complain("No thread can be started: the sweep will send the messages")
                    return
                self._thread = thread

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
                self._complain(f"No message is sent: {error}. The sweep will, once it can")
                threading.Event().wait(_PAUSE_SECONDS)

    def _complain(self, text: str) -> None:
        withheld = self._throttle.admit("celery")
        if withheld is not None:
            _logger.warning("%s%s", text, withheld_note(withheld))


def find_celery(app: Flask, prefix: str, options: dict[str, Any]) -> Celery:
    """The application's own Celery app. Raises ``ConfigurationError``."""
    found = app.extensions.get("celery")
    if not isinstance(found, Celery):
        raise ConfigurationError(
            f"{prefix}_DISPATCH is 'celery', and app.extensions['celery'] is no Celery app. Set "
            "one up as Flask's documentation does (Background Tasks with Celery)."
        )
    accepted = found.conf.accept_content
    if accepted is not None and _JSON not in (prepare_accept_content(accepted) or ()):
        raise ConfigurationError(
            "Celery's accept_content leaves 'json' out, so its workers would refuse the messages "
            f"that {prefix}_DISPATCH = 'celery' sends. Add it."
        )
    try:
        found.connection_for_write().transport  # noqa: B018
    except Exception as error:  # of whatever is imported for it; its text may hold the address
        raise ConfigurationError(
            f"Celery's broker_url cannot be used here ({type(error).__name__}). Look at it, and "
            'install what its kind needs, such as pip install "celery[redis]".'
        ) from None
    try:
        routed = found.amqp.router.route(dict(options), DELIVER)
    except QueueNotFound:
        raise ConfigurationError(
            f"{prefix}_CELERY_QUEUE names a queue that Celery's task_queues lack, and "
            "task_create_missing_queues is off. Add it there."
        ) from None
    if "queue" not in routed:
        raise ConfigurationError(
            f"Celery's task_routes send {DELIVER} to no queue by name. Route it by 'queue', or "
            f"set {prefix}_CELERY_QUEUE."
        )
    return found


@shared_task(name=DELIVER, **_OF_A_TASK)
def deliver(blueprint: str, entry_id: int) -> None:
    """Run what is due of an entry of the inbox."""
    _dispatcher(blueprint).deliver(entry_id)


@shared_task(name=SWEEP, **_OF_A_TASK)
def sweep() -> None:
    """Send what is due of all blueprints; a line in Celery's ``beat_schedule`` runs it."""
    _check_context()
    for name, state in current_app.extensions.get("retell", {}).items():
        if state.settings.dispatch == "celery":
            try:
                _dispatcher(name).sweep()
            except (InboxError, OperationalError) as error:
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
