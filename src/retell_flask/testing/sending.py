"""Real HTTP to a server, as Retell sends it: one request, or many in time."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, NamedTuple

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import parse_url

from ..signatures import HEADER, Scheme, sign, sign_plain
from ..values import Key

RETELL_WAITS_SECONDS = 10.0
"""How long Retell waits for an answer."""

_MOST_THREADS = 256
_LONGEST_ANSWER = 100_000
_PIECE = 16  # bytes: between two of them the time is looked at
_THREADS_WITHOUT_RATE = 4
# A connection for each: so the requests are spread over the server's processes as those of many
# senders are, and no server closes one under the request that it is used for.
_HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "retell-flask",
    "Connection": "close",
}
_FAILURES: tuple[tuple[type[Exception], str], ...] = (
    (NameResolutionError, "host not found"),
    (LocationParseError, "host not found"),
    (NewConnectionError, "no connection"),
    (ConnectTimeoutError, "no connection in time"),
    (ReadTimeoutError, "no answer in time"),
    (SSLError, "no TLS"),
    (ProtocolError, "connection broken off"),
)

Signer = Callable[[bytes], str]


def signer(key: Key, scheme: Scheme = "timestamped", *, late_ms: int = 0) -> Signer:
    """What makes the header of a body as it is sent, with a timestamp ``late_ms`` ago."""
    if scheme == "plain":
        return lambda body: sign_plain(body, key)
    return lambda body: sign(body, key, timestamp_ms=time.time_ns() // 1_000_000 - late_ms)


@dataclass(frozen=True)
class Reply:
    """The answer to a request and how long it took; without one, ``error`` says why."""

    status: int | None
    body: bytes = field(repr=False)
    seconds: float
    error: str = ""

    @property
    def is_good(self) -> bool:
        """Whether Retell would be content."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def json(self) -> Any:
        """What the body holds, None if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def name(self) -> str:
        """The answer in short: ``200``, ``200 duplicate``, or why there is none."""
        if self.status is None:
            return self.error
        answer = self.json if b"duplicate" in self.body else None
        is_duplicate = isinstance(answer, dict) and answer.get("duplicate") is True
        return f"{self.status} duplicate" if is_duplicate else str(self.status)


class Sender:
    """Posts bodies to the URL of a blueprint, each signed as it is sent. For many threads.

    Like Retell it follows no redirect; unlike Retell it sends nothing a second time. It knows
    no proxies. ``timeout`` is in seconds.
    """

    def __init__(self, url: str, sign: Signer, *, timeout: float = RETELL_WAITS_SECONDS) -> None:
        parts = parse_url(url)
        self._path = parts.path or ""
        self._query = f"?{parts.query}" if parts.query else ""
        self._sign = sign
        self._seconds = timeout
        self._timeout = urllib3.Timeout(total=timeout)
        self._connections = urllib3.connection_from_url(url, maxsize=_MOST_THREADS)

    def post(self, body: bytes, path: str = "", *, header: str | None = None) -> Reply:
        """Post to ``path`` below the URL; ``header`` in place of a signature (``""``: none)."""
        signature = self._sign(body) if header is None else header
        where = self._path.rstrip("/") + path if path else self._path
        began = time.perf_counter()
        try:
            answer = self._connections.urlopen(
                "POST",
                (where or "/") + self._query,
                body=body,
                headers={**_HEADERS, **({HEADER: signature} if signature else {})},
                retries=False,
                timeout=self._timeout,
                preload_content=False,
                decode_content=False,
            )
            try:
                content = self._read(answer, began)
            finally:
                answer.close()
        # OverflowError is http.client's, for lengths beyond reason.
        except (HTTPError, OSError, ValueError, OverflowError) as error:
            return Reply(None, b"", time.perf_counter() - began, _in_words(error))
        return Reply(answer.status, content, time.perf_counter() - began)

    def _read(self, answer: urllib3.BaseHTTPResponse, began: float) -> bytes:
        """No more than anybody shows, and no longer than Retell waits for all of it."""
        content = b""
        for part in answer.stream(_PIECE):
            content += part
            if time.perf_counter() - began > self._seconds:
                raise ReadTimeoutError(self._connections, "", "")
            if len(content) > _LONGEST_ANSWER:
                break
        return content


def _in_words(error: Exception) -> str:
    known = (words for kind, words in _FAILURES if isinstance(error, kind))
    return next(known, f"failed with {type(error).__name__}")


class Timed(NamedTuple):
    """A request that was made: its answer; when it began, and how long after its time."""

    reply: Reply
    began: float
    late: float


class Load:
    """Sends ``count`` events that ``make`` makes, each ``twins`` times at the same moment.

    With a ``rate`` each is sent at its time, whether those before it were answered or not, so
    that a slow server meets what it would meet in earnest; without one, a few at once, the
    next as soon as one is answered. ``make`` is called for each event, by one thread at a time.
    """

    def __init__(
        self,
        sender: Sender,
        make: Callable[[], bytes],
        path: str = "",
        *,
        count: int = 1,
        rate: float | None = None,
        twins: int = 1,
    ) -> None:
        self.total: int = count * twins
        self.rate: float | None = rate
        self._sender = sender
        self._make = make
        self._path = path
        self._count = count
        self._twins = twins
        most = max(_THREADS_WITHOUT_RATE, twins) if rate is None else _MOST_THREADS
        self._most_threads = min(most, _MOST_THREADS)
        self._plan = self._schedule()
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._threads = self._waiting = 0
        self._stopped = threading.Event()
        self._sent: SimpleQueue[Timed | None] = SimpleQueue()

    def run(self) -> Iterator[Timed]:
        """Send it all, and yield what was sent as it is answered. Once."""
        self._add_thread()
        return iter(self._sent.get, None)

    def stop(self) -> None:
        """Begin nothing more; ``run`` ends when what is under way is answered."""
        self._stopped.set()

    def _schedule(self) -> Iterator[tuple[bytes, float]]:
        """Bodies and their times, each yielded when it is time."""
        began = time.perf_counter()
        for number in range(self._count):
            body = self._make()
            due = began + number / self.rate if self.rate else time.perf_counter()
            if self._stopped.wait(max(0.0, due - time.perf_counter())):
                return
            for _ in range(self._twins):
                yield body, due

    def _work(self) -> None:
        try:
            while (taken := self._take()) is not None:
                body, due = taken
                began = time.perf_counter()
                reply = self._sender.post(body, self._path)
                self._sent.put(Timed(reply, began, began - due))
        finally:
            with self._counting:
                self._threads -= 1
                if not self._threads:
                    self._sent.put(None)

    def _take(self) -> tuple[bytes, float] | None:
        """Wait for the next one's time, as the only thread that does; another waits to follow."""
        with self._counting:
            self._waiting += 1
        with self._turn:
            taken = next(self._plan, None)
            with self._counting:
                self._waiting -= 1
                is_last = not self._waiting
            if taken is not None and is_last and self._threads < self._most_threads:
                self._add_thread()
        return taken

    def _add_thread(self) -> None:
        with self._counting:
            self._threads += 1
        try:
            threading.Thread(target=self._work, daemon=True).start()
        except RuntimeError:  # there can be no more of them: those that there are do the rest
            with self._counting:
                self._threads -= 1
                self._most_threads = self._threads
                if not self._threads:
                    raise


class Summary:
    """What became of a load: how many of each answer (``Reply.name``), rate and times."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.examples: dict[str, Reply] = {}
        self._seconds: list[float] = []
        self._began: list[float] = []
        self.late: float = 0.0

    def add(self, sent: Timed) -> None:
        """Count a request."""
        name = sent.reply.name
        self.answers[name] += 1
        self.examples.setdefault(name, sent.reply)
        self._began.append(sent.began)
        self.late = max(self.late, sent.late)
        if sent.reply.status is not None:
            self._seconds.append(sent.reply.seconds)

    @property
    def total(self) -> int:
        """How many requests were made."""
        return len(self._began)

    @property
    def seconds(self) -> float:
        """From the first request's beginning to the last one's."""
        return max(self._began) - min(self._began) if self._began else 0.0

    @property
    def rate(self) -> float | None:
        """How many requests were begun in a second; None where there are no two of them."""
        return (self.total - 1) / self.seconds if self.seconds else None

    @property
    def latency(self) -> dict[str, float]:
        """Percentiles in milliseconds over the requests that were answered, and the longest."""
        times = sorted(seconds * 1000 for seconds in self._seconds)
        if not times:
            return {}
        two_at_least = times if len(times) > 1 else times * 2
        cuts = statistics.quantiles(two_at_least, n=100, method="inclusive")
        return {**{f"p{each}": cuts[each - 1] for each in (50, 90, 95, 99)}, "max": times[-1]}
