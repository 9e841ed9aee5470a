"""gunicorn's configuration for tests that read times in its access log."""

from __future__ import annotations

from gunicorn.glogging import Logger

control_socket_disable = True


class TimedLogger(Logger):
    """Begins each line with the time at which the request was done, as a Unix timestamp."""

    access_fmt = "%(created).6f %(message)s"


logger_class = TimedLogger
accesslog = "access.log"
access_log_format = "%(m)s %(s)s %(D)s %({x-retell-signature}i)s"
