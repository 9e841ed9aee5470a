"""Read by gunicorn, which looks for it in the directory that it is started in.

It listens on ``0.0.0.0:$PORT`` where that is set, else on 127.0.0.1:8000.
"""

import logging

# What an earlier process left is delivered at once, and not with the first request.
from retell_flask.gunicorn import post_worker_init  # noqa: F401

# Warnings and errors with time and level; and a line for each handler that is done.
logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
logging.getLogger("retell_flask").setLevel(logging.INFO)

# A request waits: for a commit of PostgreSQL's, or for Retell's API. Threads wait well, and a
# second process uses a second core. A thread holds a connection to each database at most, and so
# do the four of RETELL_WORKERS: together fewer than the 15 that SQLAlchemy opens in a process.
worker_class = "gthread"
workers = 2
threads = 8

# On SIGTERM and SIGHUP requests are answered first: Retell waits for 10 s, the page of outbound
# calls for up to four tries of RETELL_API_TIMEOUT. Then the handlers that run have 5 s to finish.
# Whoever stops the container has to wait for longer.
graceful_timeout = 50

# A proxy keeps connections open, Caddy for 2 minutes. It must not use one that is being closed.
keepalive = 125

# The heartbeat's file in memory, since a container's disk may stall.
worker_tmp_dir = "/dev/shm"

# Nobody's X-Forwarded-… is believed here: CALL_CENTER_PROXIES says how many proxies there are.
forwarded_allow_ips = ""

# A line for each request, to the standard output, with the address that CALL_CENTER_PROXIES found.
accesslog = "-"

# Signals control it well enough: no socket in a home directory, which a container's user lacks.
control_socket_disable = True
