"""``backfill``: makes up for events that never came."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import click

from ..backfill import DEFAULT_GRACE, BackfillReport, Missed, Progress
from ..dispatch.threads import Threads
from ..state import State
from .advice import how_it_runs, run_once
from .common import find_inbox, for_blueprint, moment, progress, span_or_zero
from .text import counted, duration, paragraph, plain, say
from .text import moment as show_moment

_MOST_AGENTS_NAMED = 3


@click.command("backfill", short_help="Make up for events that never came.")
@click.option(
    "--since",
    type=moment,
    required=True,
    metavar="TIME",
    help='Of calls that ended at this time or later: "24h" ago, or a date and time (UTC).',
)
@click.option(
    "--until", type=moment, metavar="TIME", help="Of calls that ended at this time at the latest."
)
@click.option(
    "--grace",
    type=span_or_zero,
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

    Receivers that ring or write to people will do so now, hours after the call: have them look
    at event.synthetic, and use --dry-run first.
    """
    if agents and all_agents:
        raise click.UsageError("--agent and --all-agents say two things: give one of them.")
    find_inbox(state, make=True)
    missed: list[Missed] | None = [] if dry_run else None
    with _watching(since, until or datetime.now(since.tzinfo) - grace, missed) as on_progress:
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
    say(*map(_line, missed or ()))
    _say_report(state, report, dry_run)


@contextmanager
def _watching(
    since: datetime, until: datetime, missed: list[Missed] | None
) -> Iterator[Callable[[Progress], None]]:
    """A bar over the time that is looked at; what is missing is added to ``missed``, if given."""
    seconds = max(1, math.ceil((until - since).total_seconds()))
    done = 0
    with progress(seconds, "Calls that ended") as move:

        def on_progress(at: Progress) -> None:
            nonlocal done
            if at.missed is not None and missed is not None:
                missed.append(at.missed)
            if at.reached is not None:
                now = min(seconds, int((at.reached - since).total_seconds()))
                move(max(0, now - done))
                done = max(done, now)

        yield on_progress
        move(seconds - done)


def _line(missed: Missed) -> str:
    ended = missed.call.ended_at
    when = show_moment(ended) if ended else "-"
    return f"{when}  {plain(missed.call.call_id)}  {', '.join(missed.types)}"


def _say_report(state: State, report: BackfillReport, dry_run: bool) -> None:
    whose = "all agents" if report.agents is None else _name_agents(report.agents)
    say(f"Looked at {counted(report.looked_at, 'call')} of {whose}. {_missing(report, dry_run)}")
    if not report.looked_at and report.agents is not None:
        say("If calls of other agents come here, too: --agent ID, or --all-agents.")
    if report.events and not dry_run and isinstance(state.dispatcher, Threads):
        say(paragraph(how_it_runs(state)), f"  {run_once(state)}")
    if report.gone:
        say(f"{counted(report.gone, 'call')} with missing events Retell has no longer.")
    if report.pending:
        events = counted(report.pending, "event")
        raise click.ClickException(
            f"Receivers of {events} failed, or could not run now. Run: {run_once(state)}"
        )
    if report.failed:
        failed = counted(report.failed, "call")
        raise click.ClickException(
            f"{failed} could not be fetched: see the log, and run it again."
        )


def _missing(report: BackfillReport, dry_run: bool) -> str:
    if not report.events:
        return "Nothing is missing." if not report.failed else "Nothing was made."
    events, calls = counted(report.events, "event"), counted(report.calls, "call")
    return f"{events} of {calls} never came, and {'would be' if dry_run else 'were'} made."


def _name_agents(agents: Sequence[str]) -> str:
    if len(agents) > _MOST_AGENTS_NAMED:
        return counted(len(agents), "agent")
    return f"{counted(len(agents), 'agent')} ({', '.join(map(plain, agents))})"
