"""``sweep``: tells Celery's workers what is due."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from ..errors import ConfigurationError, InboxError
from ..state import State
from .common import find_inbox, for_blueprint, span
from .text import counted, duration, plain, say

if TYPE_CHECKING:
    from ..dispatch.celery import CeleryDispatcher

_EVERY = "10s"
_OURS = (ConfigurationError, InboxError)


@click.command("sweep", short_help="Tell Celery's workers what is due.")
@click.option("--once", is_flag=True, help="Sweep, say how many messages were sent, and stop.")
@click.option(
    "--every",
    type=span,
    default=_EVERY,
    show_default=True,
    metavar="SPAN",
    help="How long a retry, or an event that waits for its turn, may be late.",
)
@for_blueprint
def sweep(state: State, *, once: bool, every: timedelta) -> None:
    """Send messages for what is due and has none, until Ctrl-C. For RETELL_DISPATCH=celery.

    \b
      flask retell sweep

    Retries, events that wait for their turn, and what was lost with a worker or with the broker
    are found by this alone. Run one of it, or have Celery's beat do the same:

    \b
      CELERY = {"beat_schedule": {"retell": {
          "task": "retell_flask.sweep", "schedule": 10, "options": {"expires": 30}}}}

    A database or a broker that is down is waited for.
    """
    dispatcher = _find(state)
    if once:
        find_inbox(state, make=True)
        try:
            say(f"{counted(dispatcher.sweep(), 'message')} sent.")
        except _OURS:
            raise
        except Exception as error:  # the broker's, in each client's own words
            raise click.ClickException(plain(f"No message was sent: {error}", 500)) from None
        return
    say(f"Sweeping every {duration(every)}. Ctrl-C stops.")
    while True:
        try:
            dispatcher.sweep()
        except ConfigurationError:
            raise
        except Exception as error:  # the broker's, in each client's own words
            say(plain(f"Not this time: {error}", 500))
        time.sleep(every.total_seconds())


def _find(state: State) -> CeleryDispatcher:
    if state.settings.dispatch != "celery":
        raise click.UsageError(
            f"{state.blueprint.config_prefix}_DISPATCH is not 'celery': threads and flask retell "
            "worker look for themselves what is due."
        )
    from ..dispatch.celery import CeleryDispatcher

    dispatcher = state.dispatcher
    if not isinstance(dispatcher, CeleryDispatcher):
        raise click.UsageError("With TESTING on there is nothing to sweep.")
    return dispatcher
