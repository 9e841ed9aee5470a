"""Starts the delivering threads with each gunicorn worker, and not with its first request.

In ``gunicorn.conf.py``::

    from retell_flask.gunicorn import post_worker_init

A ``post_worker_init`` of your own calls ``retell_flask.gunicorn.start(worker)``.
"""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask

from .state import State

_logger = logging.getLogger(__name__)

_MOST_WRAPPERS = 20
_WRAPPED_AS = ("app", "wsgi_app", "application", "__self__")  # the last: Flask.wsgi_app itself


def post_worker_init(worker: Any) -> None:
    """Gunicorn calls it in each worker, once the application is loaded."""
    start(worker)


def start(worker: Any) -> None:
    """Start the threads of all blueprints of the worker's application."""
    app = _find_flask(worker.wsgi)
    if app is None:
        _logger.warning(
            "No Flask application was found behind %s: deliveries start with the first request",
            type(worker.wsgi).__name__,
        )
        return
    states: dict[str, State] = app.extensions.get("retell", {})
    for state in states.values():
        state.start()


def _find_flask(application: Any) -> Flask | None:
    """Through the middleware, which by custom keeps what it wraps under one of some names."""
    for _ in range(_MOST_WRAPPERS):
        if isinstance(application, Flask):
            return application
        application = next(
            (getattr(application, name) for name in _WRAPPED_AS if hasattr(application, name)),
            None,
        )
    return None
