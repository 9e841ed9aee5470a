"""Sends events to a server over connections that stay open, one request on each at a time.

A process of its own, so that it shares no interpreter with what it measures. All requests
are made and signed before the first is sent, each of a call of its own. Prints JSON:
requests per second, and percentiles of the time from a request's first byte to its
answer's last, in milliseconds; and how many were sent, with those that found out which
connections lead to which process of the server.

    python benchmarks/load.py --port 8000 [--requests 5000] [--connections 16] [--size 4000]
"""

from __future__ import annotations

import argparse
import gc
import json
import select
import socket
import sys
import time
from collections import defaultdict, deque

from bodies import KEY, PATH, call_ended, of_fresh_calls
from retell_flask.testing import HEADER, sign

PATIENCE_SECONDS = 20.0
MOST_TO_CONNECT = 2_000
WORKER = b"x-worker"


def make_requests(count: int, size: int) -> deque[bytes]:
    return deque(make_request(body) for body in of_fresh_calls(call_ended(size), count))


def make_request(body: bytes) -> bytes:
    lines = (
        f"POST {PATH} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"{HEADER}: {sign(body, KEY)}",
    )
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """A socket and the answer that is coming in on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._began = 0.0
        self._answer = b""

    def send(self, request: bytes) -> None:
        self._answer = b""
        self._began = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> float | None:
        """The seconds that the request took, if its answer is complete."""
        chunk = self.socket.recv(65536)
        if not chunk:
            raise SystemExit("The server closed a connection")
        self._answer += chunk
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator or len(body) < int(_header(head, b"content-length")):
            return None
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"The server answered {self._answer[:300]!r}")
        return time.perf_counter() - self._began

    def find_worker(self, request: bytes) -> bytes:
        """The process that serves this connection, as the application names it."""
        self.send(request)
        while self.receive() is None:
            pass
        return _header(self._answer.partition(b"\r\n\r\n")[0], WORKER)


def _header(head: bytes, name: bytes) -> bytes:
    _, found, rest = head.lower().partition(b"\r\n" + name + b":")
    if not found:
        raise SystemExit(f"The server sent no {name.decode()}: {head!r}")
    return rest.split(b"\r\n", 1)[0].strip()


def connect_evenly(
    port: int, requests: deque[bytes], connections: int, workers: int
) -> list[Connection]:
    """As many connections to each process of the server.

    The one of gunicorn's that happens to be awake takes most of those that come together,
    and all figures would depend on that.
    """
    share, kept = connections // workers, defaultdict[bytes, list[Connection]](list)
    while sum(map(len, kept.values())) < share * workers:
        for each in [Connection(port) for _ in range(connections)]:
            if not requests:
                raise SystemExit(f"Not all of {workers} processes take connections")
            of_worker = kept[each.find_worker(requests.popleft())]
            if len(of_worker) < share:
                of_worker.append(each)
            else:
                each.socket.close()
        time.sleep(0.02)  # one of the processes may have to start yet
    return [each for of_worker in kept.values() for each in of_worker]


def run(opened: list[Connection], requests: deque[bytes]) -> dict[str, float]:
    """Send all of ``requests``, and say how long they took."""
    by_descriptor = {each.socket.fileno(): each for each in opened}
    poll = select.poll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    times: list[float] = []
    under_way = 0
    began = time.perf_counter()
    for each in opened[: len(requests)]:
        each.send(requests.popleft())
        under_way += 1
    while under_way:
        ready = poll.poll(PATIENCE_SECONDS * 1000)
        if not ready:
            raise SystemExit(f"The server was silent for {PATIENCE_SECONDS:.0f} s")
        for descriptor, _ in ready:
            seconds = by_descriptor[descriptor].receive()
            if seconds is None:
                continue
            times.append(seconds)
            if requests:
                by_descriptor[descriptor].send(requests.popleft())
            else:
                under_way -= 1
    return summary(times, time.perf_counter() - began)


def summary(times: list[float], elapsed: float) -> dict[str, float]:
    times.sort()
    of_rank = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    figures = {
        name: times[min(len(times) - 1, int(len(times) * rank))] * 1000
        for name, rank in of_rank.items()
    }
    return {"rate": len(times) / elapsed, **figures}


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--port", type=int, required=True)
    arguments.add_argument("--requests", type=int, default=5_000)
    arguments.add_argument("--connections", type=int, default=16)
    arguments.add_argument("--workers", type=int, default=2, help="processes of the server")
    arguments.add_argument("--size", type=int, default=4_000, help="bytes of a body")
    options = arguments.parse_args()
    first = make_requests(MOST_TO_CONNECT, options.size)
    requests = make_requests(options.requests, options.size)
    gc.collect()
    gc.disable()
    opened = connect_evenly(options.port, first, options.connections, options.workers)
    figures = run(opened, requests)
    json.dump({**figures, "stored": options.requests + MOST_TO_CONNECT - len(first)}, sys.stdout)


if __name__ == "__main__":
    main()
