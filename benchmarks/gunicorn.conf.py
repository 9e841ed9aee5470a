"""For every gunicorn that is measured: they would share one control socket."""

from __future__ import annotations

control_socket_disable = True
