"""Whoever posts events as Retell does: in time, again when refused, twice at times."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from retell_flask import parse_event
from retell_flask.testing import encode, sending, sign
from support import KEY, PATH

# Retell sends up to three times more; it does not say when.
RETRY_SECONDS = (0.5, 1.5, 4.0)
CONCURRENT = 24
BETWEEN = ("transcript_updated", "transcript_updated", "transfer_bridged", "noted_by_nobody")


@dataclass
class Posting:
    """One event, and what was answered. ``at`` is when it is sent, from the beginning."""

    at: float
    body: bytes
    has_twin: bool = False
    sent_at: int = 0
    acknowledged_at: int = 0
    answers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        event = parse_event(self.body)
        self.id, self.type, self.session = event.id, event.type, event.session_id


def make_calls(draw: random.Random, count: int, seconds: float) -> list[Posting]:
    """At least ``count`` events of calls that begin within ``seconds``, some out of order."""
    postings: list[Posting] = []
    for number in itertools.count():
        if len(postings) >= count:
            break
        postings += _make_call(draw, f"call_{number}", draw.uniform(0, seconds))
        if number % 20 == 0:
            alert = {"event": "alert_triggered", "alert": {"alert_incident_id": f"a_{number}"}}
            postings.append(Posting(draw.uniform(0, seconds), encode(alert)))
    return postings


def _make_call(draw: random.Random, call_id: str, begins: float) -> Iterator[Posting]:
    is_transferred = draw.random() < 0.25
    between = [draw.choice(BETWEEN) for _ in range(draw.randrange(1, 6))]
    types = ["call_started", *between, *["transfer_started"] * is_transferred]
    types += ["call_ended", "call_analyzed"]
    reason = "call_transfer" if is_transferred else "user_hangup"
    for number, type_ in enumerate(types):
        late = draw.uniform(0, 1) if draw.random() < 0.25 else 0
        call: dict[str, Any] = {"call_id": call_id, "metadata": {"number": number}}
        if type_ in ("call_ended", "call_analyzed"):
            call["disconnection_reason"] = reason
        yield Posting(
            begins + number * 0.1 + late,
            encode({"event": type_, "call": call}),
            has_twin=draw.random() < 0.1,
        )


class Sender:
    """Posts all of it from several threads, each post with as long as Retell waits."""

    def __init__(self, port: int, postings: Iterable[Posting], draw: random.Random) -> None:
        self.figures: Counter[str] = Counter()
        url = f"http://127.0.0.1:{port}{PATH}"
        self._http = sending.Sender(url, lambda body: sign(body, KEY))
        self._draw = draw
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._began = time.monotonic()
        self._waiting: list[tuple[float, int, int, Posting]] = []
        for posting in postings:
            self._put(posting.at, 0, posting)
            if posting.has_twin:
                self._put(posting.at + draw.uniform(0, 0.003), 0, posting)
        self._unfinished = len(self._waiting)
        self._threads = [
            threading.Thread(target=self._work, daemon=True) for _ in range(CONCURRENT)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_finished(self) -> bool:
        return self._unfinished == 0

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()

    def _put(self, at: float, attempt: int, posting: Posting) -> None:
        heapq.heappush(self._waiting, (at, next(self._order), attempt, posting))

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            attempt, posting = taken
            answer = self._post(posting)
            with self._changed:
                self._note(posting, attempt, answer)
                self._changed.notify_all()

    def _take(self) -> tuple[int, Posting] | None:
        """The next one, in time."""
        with self._changed:
            while self._unfinished:
                pause = self._waiting[0][0] - self._now() if self._waiting else 1.0
                if pause <= 0:
                    _, _, attempt, posting = heapq.heappop(self._waiting)
                    return attempt, posting
                self._changed.wait(pause)
        return None

    def _note(self, posting: Posting, attempt: int, answer: str) -> None:
        self.figures["posts"] += 1
        self.figures[answer] += 1
        posting.answers.append(answer)
        if answer.startswith("200"):
            posting.acknowledged_at = posting.acknowledged_at or time.monotonic_ns()
        elif attempt < len(RETRY_SECONDS):
            self.figures["retries"] += 1
            pause = RETRY_SECONDS[attempt] * self._draw.uniform(0.5, 1.5)
            self._put(self._now() + pause, attempt + 1, posting)
            return
        else:
            self.figures["given up"] += 1
        self._unfinished -= 1

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _post(self, posting: Posting) -> str:
        posting.sent_at = posting.sent_at or time.monotonic_ns()
        return self._http.post(posting.body).name
