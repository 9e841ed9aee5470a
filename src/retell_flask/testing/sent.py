"""What became of what a test sent, and whether that is as it should be."""

from __future__ import annotations

from dataclasses import dataclass, field

from werkzeug.test import TestResponse

from ..errors import PayloadError
from ..events import Event, parse_event
from ..inbox.entry import Delivery
from .observer import Run


@dataclass(frozen=True)
class Sent:
    """What became of one delivery: the answer, and the receivers that ran.

    ``response`` is Flask's: ``status_code``, ``json``. ``event`` is None where it was none.
    """

    response: TestResponse
    event: Event | None
    runs: list[Run] = field(default_factory=list)

    @property
    def is_duplicate(self) -> bool:
        """Whether it was seen before."""
        answer = self.response.get_json(silent=True)
        return isinstance(answer, dict) and answer.get("duplicate") is True


def sent_as(body: bytes, response: TestResponse, runs: list[Run]) -> Sent:
    """With the event as the receivers had it, if any ran."""
    return Sent(response, runs[0].event if runs else _read(body), runs)


def _read(body: bytes) -> Event | None:
    try:
        return parse_event(body, quiet=True)
    except PayloadError:
        return None


def check_answer(response: TestResponse) -> None:
    """Raise ``AssertionError`` for an answer with which Retell would not be content."""
    if not 200 <= response.status_code < 300:
        answer = response.get_data(as_text=True)[:200].strip()
        raise AssertionError(f"The answer was {response.status}: {answer}")


def cause_of_death(delivery: Delivery, runs: list[Run]) -> BaseException:
    """What its receiver raised last."""
    for run in reversed(runs):
        if run.receiver == delivery.receiver and run.signal == delivery.signal and run.error:
            return run.error
    return AssertionError(f"{delivery.receiver} is dead: {delivery.error}")
