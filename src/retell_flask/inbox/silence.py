"""Nobody waits without end for a PostgreSQL server that has fallen silent.

The server's own time-outs do not help where it stands still, and TCP's do not where its kernel
goes on. So a thread hangs up on a server that has not answered in time: that is an outage.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import InvalidatePoolError

from ..forks import ProcessBound, bind_to_process

_LOOK_SECONDS = 0.25
_IDLE_SECONDS = 60.0
_SHORTEST_CONNECT_SECONDS = 2  # of libpq's
_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)  # monotonic


@contextlib.contextmanager
def patient_for(seconds: float) -> Iterator[None]:
    """Within, a connection that was taken is hung up on when the time is over; within another,
    when the first of both is.
    """
    mine, other = time.monotonic() + seconds, _deadline.get()
    token = _deadline.set(mine if other is None else min(mine, other))
    try:
        yield
    finally:
        _deadline.reset(token)


class Watch(ProcessBound):
    """Over the connections of an engine that are in use by those who have a deadline."""

    def __init__(self) -> None:
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """The parent's thread is not here after a fork."""
        self._lock = threading.RLock()  # a connection may be given back while garbage is collected
        self._deadlines: dict[Any, tuple[float, Any]] = {}
        self._is_watching = False

    def begin(self, record: Any, connection: Any, deadline: float) -> None:
        """Hang up on this connection of the pool's ``record``, unless ``end`` comes in time."""
        with self._lock:
            self._deadlines[record] = deadline, connection
            if not self._is_watching:
                watcher = threading.Thread(target=self._work, name="retell-watch", daemon=True)
                with contextlib.suppress(RuntimeError):  # no more threads here: the next one tries
                    watcher.start()
                    self._is_watching = True

    def end(self, record: Any) -> None:
        """It is given back, or was closed."""
        with self._lock:
            self._deadlines.pop(record, None)

    def _work(self) -> None:
        idle_since = time.monotonic()
        while True:
            time.sleep(_LOOK_SECONDS)  # and nobody who takes a connection has to wake us
            now = time.monotonic()
            with self._lock:
                if self._deadlines:
                    idle_since = now
                elif now - idle_since > _IDLE_SECONDS:
                    self._is_watching = False
                    return
                for record, (deadline, connection) in list(self._deadlines.items()):
                    if deadline <= now:
                        self._deadlines.pop(record, None)
                        _hang_up(connection)


def _hang_up(connection: Any) -> None:
    """Whoever waits for the server is told at once that it is gone."""
    with (
        contextlib.suppress(Exception),  # it may be closed at this moment
        socket.socket(fileno=os.dup(connection.fileno())) as its_socket,
    ):
        if not connection.closed:
            its_socket.shutdown(socket.SHUT_RDWR)


def watch(engine: Engine, ping_seconds: float) -> None:
    """Test each connection that is taken again, as ``pool_pre_ping`` does, but for so long at the
    most; then watch those who have a deadline, from when they connect.
    """
    watch = Watch()

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        deadline = _deadline.get()
        if deadline is None:
            return None  # as usual
        left = max(_SHORTEST_CONNECT_SECONDS, round(deadline - time.monotonic()))
        wanted = str(options.get("connect_timeout"))
        longest = int(wanted) if wanted.isdecimal() else 0  # which is without end
        limited = {**options, "connect_timeout": min(longest, left) if longest else left}
        connection = dialect.connect(*arguments, **limited)
        watch.begin(record, connection, deadline)  # it is not ready yet: more is asked for
        return connection

    @event.listens_for(engine, "checkout")
    def take(connection: Any, record: Any, _: Any) -> None:
        deadline = _deadline.get()
        if "was used" in record.info:
            if deadline is not None:
                ping_until = time.monotonic() + ping_seconds
                watch.begin(record, connection, min(deadline, ping_until))
            if not _is_alive(engine, connection):
                watch.end(record)
                raise InvalidatePoolError
        if deadline is not None:
            watch.begin(record, connection, deadline)

    @event.listens_for(engine, "checkin")
    def give_back(_: Any, record: Any) -> None:
        watch.end(record)
        record.info["was used"] = True


def _is_alive(engine: Engine, connection: Any) -> bool:
    try:
        return engine.dialect.do_ping(connection)
    except engine.dialect.loaded_dbapi.Error:
        return False
