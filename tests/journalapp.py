"""A host application whose receivers write a journal, and take their time or fail if told to.

``seconds`` beside an event is how long ``store`` takes. ``JOURNAL_PAUSE`` is the most that
each receiver takes, ``JOURNAL_FAILURES`` how often ``react`` fails, from 0 to 1.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import time
from pathlib import Path
from typing import Any

from flask import Flask

from journal import Journal
from retell_flask import Event, RetellBlueprint, Retry, event_received
from retell_flask.events import SUBJECTS
from retell_flask.signals import OUTCOMES

retell = RetellBlueprint()
journal = Journal(Path(os.environ["JOURNAL"]))
_pause = float(os.environ.get("JOURNAL_PAUSE", "0"))
_failures = float(os.environ.get("JOURNAL_FAILURES", "0"))
_seed = os.environ.get("JOURNAL_SEED", "")


@retell.on(event_received, name="store")
def store(sender: Any, event: Event, **extra: Any) -> None:
    with journal.noted(event, "event_received", "store"):
        _take_time()
        time.sleep(event.payload.get("seconds", 0))


@retell.on(*SUBJECTS.keys() - OUTCOMES, "unknown_event", name="react")
def react(sender: Any, event: Event, **extra: Any) -> None:
    with journal.noted(event, own_signal(event.type), "react"):
        _take_time()
        if _draw(event) < _failures:
            raise Retry(after=0.05)


@retell.on("agent_transfer", name="announce")
def announce(sender: Any, event: Event, **extra: Any) -> None:
    with journal.noted(event, "agent_transfer", "announce"):
        _take_time()


def own_signal(type_: str) -> str:
    return type_ if type_ in SUBJECTS else "unknown_event"


def _take_time() -> None:
    if _pause:
        time.sleep(random.uniform(0, _pause))


def _draw(event: Event) -> float:
    """The same for the same attempt, whichever process makes it."""
    digest = hashlib.sha256(f"{_seed} {event.id} {event.attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32


def create_app() -> Flask:
    logging.basicConfig(level=os.environ.get("JOURNAL_LOG", "INFO"))
    app = Flask("journalapp")
    app.register_blueprint(retell)

    @app.get("/greeting")
    def greet() -> str:
        return "hello"

    if os.environ.get("JOURNAL_WARM"):
        # Some hosts try themselves out: then the threads begin where the app is made.
        app.test_client().get("/greeting")
    print("journalapp was made", os.getpid(), flush=True)
    return app
