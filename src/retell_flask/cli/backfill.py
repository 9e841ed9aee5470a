"""``backfill``: makes up for events that never came."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import click

from ..backfill import DEFAULT_GRACE, BackfillReport, Progress
from ..state import State
from .common import find_inbox, for_blueprint, moment, progress, span
from .text import counted, duration, plain, say
from .text import moment as show_moment


@click.command("backfill", short_help="Make up for events that never came.")
@click.option(
    "--since",
    type=moment,
    required=True,
    metavar="TIME",
    help='Of calls that ended at this time or later: "24h" ago, or a date and time (UTC).',
)
@click.option("--until", type=moment, metavar="TIME", help="Of calls that ended before this time.")
@click.option(
    "--grace",
    type=span,
    default=duration(DEFAULT_GRACE),
    metavar="SPAN",
    show_default=True,
    help="Leave calls alone that ended more recently: Retell may still send their events.",
)
@click.option(
    "--agent",
    "agents",
    multiple=True,
    metavar="ID",
    help="Of this agent; give it once for each. Without it: the agents that the inbox knows.",
)
@click.option("--all-agents", is_flag=True, help="Of all agents of the workspace.")
@click.option("--dry-run", is_flag=True, help="Only say what is missing.")
@for_blueprint
def backfill(
    state: State,
    *,
    since: datetime,
    until: datetime | None,
    grace: timedelta,
    agents: tuple[str, ...],
    all_agents: bool,
    dry_run: bool,
) -> None:
    """Ask Retell which calls ended, and deliver the events of them that never came here.

    \b
      flask retell backfill --since 24h --dry-run
      flask retell backfill --since 2026-01-31T14:00 --until 2026-01-31T16:30

    For after an outage that was longer than Retell's attempts. Missing call_ended and
    call_analyzed events are made of what Retell's API tells, and delivered to the same
    receivers, marked as synthetic. What is there already is left alone, so it can be run
    again, and goes on where it was broken off. Calls that you had forgotten stay forgotten.
    """
    if agents and all_agents:
        raise click.UsageError("--agent and --all-agents say two things: give one of them.")
    find_inbox(state)
    with _watching(since, until or datetime.now(since.tzinfo) - grace) as on_progress:
        try:
            report = state.blueprint.backfill(
                since,
                until,
                grace=grace,
                agents=agents or None,
                all_agents=all_agents,
                dry_run=dry_run,
                on_progress=on_progress,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    _say_report(report, dry_run)


@contextmanager
def _watching(since: datetime, until: datetime) -> Any:
    """A bar over the time that is looked at, and a line for each call that something missed."""
    seconds = max(1, math.ceil((until - since).total_seconds()))
    done = 0
    with progress(seconds, "Calls that ended") as move:

        def on_progress(at: Progress) -> None:
            nonlocal done
            if at.missed is not None and not sys.stderr.isatty():
                ended = at.missed.call.ended_at
                when = show_moment(ended) if ended else "?"
                say(f"{when}  {plain(at.missed.call.call_id)}  {', '.join(at.missed.types)}")
            if at.reached is not None:
                now = min(seconds, int((at.reached - since).total_seconds()))
                move(max(0, now - done))
                done = max(done, now)

        yield on_progress


def _say_report(report: BackfillReport, dry_run: bool) -> None:
    looked_at = counted(report.looked_at, "call")
    if not report.calls:
        say(f"Looked at {looked_at}: nothing is missing.")
        return
    events, calls = counted(report.events, "event"), counted(report.calls, "call")
    made = "would be made" if dry_run else "were made, and are delivered like any other"
    say(f"Looked at {looked_at}: {events} of {calls} never came, and {made}.")
    if report.gone:
        say(f"{counted(report.gone, 'call')} of them Retell has no longer.")
    if report.failed:
        failed = counted(report.failed, "call")
        raise click.ClickException(
            f"{failed} could not be fetched: see the log, and run it again."
        )
