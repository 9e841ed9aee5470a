"""A gunicorn.conf.py with the hook."""

from __future__ import annotations

from retell_flask.gunicorn import post_worker_init

control_socket_disable = True

__all__ = ["control_socket_disable", "post_worker_init"]
