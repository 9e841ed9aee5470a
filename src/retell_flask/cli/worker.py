"""``worker``: what the threads of an application do, as a process of its own."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from ..delivery import Deliverer
from ..dispatch.threads import Threads
from ..inbox import maintenance
from ..inbox.entry import DeliveryStatus
from ..settings import OPTIONS
from ..state import State
from .advice import command
from .common import for_blueprint, note_memory
from .place import describe_place
from .text import counted, duration, say

_DRAIN_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_DEFAULT_WORKERS: int = next(option.default for option in OPTIONS if option.name == "WORKERS")


@click.command("worker", short_help="Deliver events, in a process of its own.")
@click.option("--once", is_flag=True, help="Run what is due, say how much it was, and stop.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Threads, each running one receiver at a time. By default the option RETELL_WORKERS; "
    f"{_DEFAULT_WORKERS} where that is 0.",
)
@for_blueprint
def worker(state: State, *, once: bool, workers: int | None) -> None:
    """Deliver events to the receivers until SIGTERM or Ctrl-C, beside the web server.

    It shares the work with the threads of the application; RETELL_WORKERS = 0 there leaves
    all of it to this command. On SIGTERM what runs is finished, for 30 seconds at most, and
    nothing is begun; a second one ends it at once, and what ran then runs again after
    RETELL_LEASE. A database that is down is waited for. What is delivered is logged at INFO
    by the loggers below retell_flask.

    \b
      flask retell worker --workers 8

    With --once, for cron and with RETELL_DISPATCH = "inline":

    \b
      * * * * *  flask --app shop retell worker --once
    """
    if once and workers is not None:
        raise click.UsageError("--once runs one event after the other: leave --workers out.")
    deliverer = state.deliverer
    if deliverer is None:
        raise click.ClickException(
            f"{state.blueprint.name} has no inbox ({state.blueprint.config_prefix}_INBOX_URL is "
            "none), so there is nothing for a worker: receivers run in the requests."
        )
    note_memory(deliverer.inbox)
    with _listening() as stop:
        if once:
            _run_what_is_due(state, deliverer, stop)
        else:
            threads = workers or state.settings.workers or _DEFAULT_WORKERS
            _run_until_stopped(state, deliverer, threads, stop)


class _Stop:
    """What a signal asked for. A plain attribute: a handler must not wait for a lock."""

    asked = False


@contextmanager
def _listening() -> Iterator[_Stop]:
    """The first signal sets ``asked``; the next one ends the process."""
    stop = _Stop()

    def note(_: int, __: FrameType | None) -> None:
        stop.asked = True
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _run_until_stopped(state: State, deliverer: Deliverer, workers: int, stop: _Stop) -> None:
    threads = Threads(deliverer, workers)
    threads.start()
    say(
        f"{counted(workers, 'thread')} deliver{'' if workers > 1 else 's'} what "
        f"{state.blueprint.name} keeps in {describe_place(state)}. Ctrl-C or SIGTERM stops."
    )
    while not stop.asked:
        time.sleep(_LOOK_SECONDS)
    say("Stopping: what runs is finished first.")
    if not threads.stop(_DRAIN_SECONDS):
        raise click.ClickException(
            f"A receiver still ran after {_DRAIN_SECONDS:.0f} s. It will run again, "
            f"{duration(state.settings.lease)} after its lease was last renewed."
        )
    say("Stopped. Nothing was left running.")


def _run_what_is_due(state: State, deliverer: Deliverer, stop: _Stop) -> None:
    count = 0
    while not stop.asked and deliverer.deliver_next():
        count += 1
    say(f"Ran what was due of {counted(count, 'event')}." if count else "Nothing was due.")
    for status, advice in _LEFT.items():
        left = sum(maintenance.waiting(deliverer.inbox, status).values())
        if left:
            deliveries = counted(left, "delivery", "deliveries")
            say(f"{deliveries} {status.value}: {command(advice, state)}")


_LEFT = {
    DeliveryStatus.PENDING: "events --status pending",
    DeliveryStatus.DEAD: "events --status dead",
}
