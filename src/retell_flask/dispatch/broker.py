"""The application's Celery app and its broker: whether messages get through, and to whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.exceptions import QueueNotFound
from flask import Flask
from kombu.exceptions import SerializerNotInstalled
from kombu.serialization import prepare_accept_content

from ..errors import ConfigurationError

DELIVER = "retell_flask.deliver"
SWEEP = "retell_flask.sweep"
PATIENCE_SECONDS = 5
_ANSWER_SECONDS = 2.0
_SIGNED = "auth"
# Without these, a broker that is silent is waited for without an end.
_TIME_OUTS = {
    "redis": {"socket_timeout": PATIENCE_SECONDS, "socket_connect_timeout": PATIENCE_SECONDS},
    "amqp": {"read_timeout": PATIENCE_SECONDS, "write_timeout": PATIENCE_SECONDS},
}
# RabbitMQ says nothing of a message that it could not take, unless asked; others ignore it.
_CONFIRMED = {"confirm_publish": True}


def find_celery(app: Flask, prefix: str, options: dict[str, Any]) -> Celery:
    """The application's own Celery app. Raises ``ConfigurationError``."""
    found = app.extensions.get("celery")
    if not isinstance(found, Celery):
        raise ConfigurationError(
            f"{prefix}_DISPATCH is 'celery', and app.extensions['celery'] is no Celery app. Set "
            "one up as Flask's documentation does (Background Tasks with Celery)."
        )
    if found.conf.task_always_eager:
        raise ConfigurationError(
            "With Celery's task_always_eager the web server would run the tasks itself. Use "
            f"{prefix}_DISPATCH = 'inline' for that."
        )
    _check_serializer(found, prefix)
    try:
        found.connection_for_write().transport  # noqa: B018
    except Exception as error:  # of whatever is imported for it; its text may hold the address
        raise ConfigurationError(
            f"Celery's broker_url cannot be used here ({type(error).__name__}). Look at it, and "
            'install what its kind needs, such as pip install "celery[redis]".'
        ) from None
    try:
        found.backend  # noqa: B018
    except Exception as error:  # when a message is sent already, which then seems not to be
        raise ConfigurationError(
            f"Celery's result_backend cannot be used here ({type(error).__name__}). Look at it, "
            "and install what its kind needs: the web servers need it, too."
        ) from None
    try:
        routed = found.amqp.router.route(dict(options), DELIVER)
    except QueueNotFound:
        raise ConfigurationError(
            f"{prefix}_CELERY_QUEUE names a queue that Celery's task_queues lack, and "
            "task_create_missing_queues is off. Add it there."
        ) from None
    except Exception as error:  # of the host's own functions
        raise ConfigurationError(
            f"Celery's task_routes cannot route {DELIVER}: {type(error).__name__}."
        ) from None
    if "queue" not in routed:
        raise ConfigurationError(
            f"Celery's task_routes send {DELIVER} to no queue by name. Route it by 'queue', or "
            f"set {prefix}_CELERY_QUEUE."
        )
    return found


def serializer_of(celery: Celery) -> str:
    """JSON, or Celery's signed JSON where all messages are signed."""
    return _SIGNED if celery.conf.task_serializer == _SIGNED else "json"


def _types(serializers: Any) -> set[str]:
    return prepare_accept_content(serializers) or set()


def _check_serializer(celery: Celery, prefix: str) -> None:
    name, accepted = serializer_of(celery), celery.conf.accept_content
    try:
        if accepted is None or _types([name]) <= _types(accepted):
            return
    except SerializerNotInstalled as error:
        raise ConfigurationError(f"Celery's accept_content or task_serializer: {error}.") from None
    raise ConfigurationError(
        f"Celery's accept_content leaves {name!r} out, so its workers would refuse the messages "
        f"that {prefix}_DISPATCH = 'celery' sends. Add it."
    )


def queue_of(celery: Celery, task: str, options: dict[str, Any]) -> str:
    """Where a task's messages go."""
    name: str = celery.amqp.router.route(dict(options), task)["queue"].name
    return name


@contextmanager
def connected(celery: Celery) -> Iterator[Any]:
    """A connection to the broker that waits for nobody for long."""
    with celery.connection_for_write() as connection:
        connection.transport_options = {
            **_TIME_OUTS.get(connection.transport.driver_type, {}),
            **(connection.transport_options or {}),
            **_CONFIRMED,
        }
        brokers = max(1, len(connection.alt))
        connection.ensure_connection(max_retries=brokers, timeout=brokers * PATIENCE_SECONDS)
        yield connection


def find_takers(celery: Celery, queue: str) -> list[str]:
    """The workers that take messages from a queue and answered within a moment."""
    with connected(celery) as connection:
        answers = celery.control.inspect(
            timeout=_ANSWER_SECONDS, connection=connection
        ).active_queues()
    return sorted(
        worker
        for worker, queues in (answers or {}).items()
        if queue in (each["name"] for each in queues)
    )
