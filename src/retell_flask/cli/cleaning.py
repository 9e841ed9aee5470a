"""``prune`` and ``forget``: what is deleted, by age and by call."""

from __future__ import annotations

import shlex
from datetime import timedelta

import click

from ..inbox import maintenance, pruning
from ..inbox.database import Database
from ..inbox.maintenance import Query
from ..inbox.sqlite import FileDatabase, MemoryDatabase
from ..inbox.store import Inbox
from ..state import State
from .advice import command
from .common import find_inbox, for_blueprint, progress, span, stored_name
from .text import counted, duration, paragraph, plain, say


@click.command("prune", short_help="Delete old events that are done.")
@click.option(
    "--older-than",
    type=span,
    metavar="DURATION",
    help="Received longer ago than this: 12h, 30d. By default the option RETELL_RETENTION.",
)
@click.option("--dry-run", is_flag=True, help="Only count them.")
@for_blueprint
def prune(state: State, *, older_than: timedelta | None, dry_run: bool) -> None:
    """Delete old events that are done or superseded, in small batches beside the receiving.

    What delivers does the same by the way, for events older than RETELL_RETENTION: this is
    for sooner, or for where nothing delivers. Results of custom functions whose day is over
    go, too. A backfill does not look at the time of what was deleted. Dead and invalid events
    stay, until they are replayed or forgotten.

    \b
      flask retell prune --older-than 7d
    """
    inbox = find_inbox(state)
    if not dry_run:
        while pruning.prune_results(inbox):
            pass
    age = state.settings.retention if older_than is None else older_than
    total = pruning.prunable(inbox, age)
    what = f"{counted(total, 'event')} older than {duration(age)}"
    if dry_run or not total:
        say(f"{what}: nothing was deleted.")
        return
    deleted = 0
    with progress(total, "Deleting") as move:
        for count in pruning.prune(inbox, age):
            deleted += count
            move(count)
    say(f"Deleted {counted(deleted, 'event')} older than {duration(age)}.")


@click.command("forget", short_help="Empty all events of one call or chat, for good.")
@click.argument("call_id", type=stored_name)
@click.option("--yes", is_flag=True, help="Do not ask.")
@for_blueprint
def forget(state: State, *, call_id: str, yes: bool) -> None:
    """Empty all events of one call or chat: what they say, whose they are, their errors.

    Results of custom functions that are kept for it are deleted.

    Digests stay, so that neither a repeat nor a backfill brings them back. What your
    receivers stored is yours to delete. Events that are invalid belong to no call: look for
    them with flask retell events --status invalid.

    \b
      flask retell forget call_0123
    """
    inbox = find_inbox(state)
    what = _what(_count(state, inbox, call_id), maintenance.count_results(inbox, call_id))
    if not yes:
        click.confirm(f"Empty {what} of {plain(call_id)} for good?", abort=True)
    emptied, deleted, is_erased = maintenance.forget(inbox, call_id)
    say(f"Emptied {_what(emptied, deleted)} of {plain(call_id)}.", "")
    say(paragraph(_LATER), paragraph(_traces(inbox.database) if is_erased else _IN_THE_LOG))


_IN_THE_LOG = (
    "What they held is still in SQLite's log, which another process is reading: it goes with the "
    "log's next turn, or run this again."
)
_LATER = "Other events of it that Retell sends from now on would be stored again."


def _what(events: int, results: int) -> str:
    functions = f" and {counted(results, 'result')} of functions" if results else ""
    return counted(events, "event") + functions


def _traces(database: Database) -> str:
    """Where what was emptied may still be found."""
    if isinstance(database, (FileDatabase, MemoryDatabase)):
        return "What they held was overwritten; copies and backups still have it."
    if database.dialect == "postgresql":
        return (
            "PostgreSQL keeps the old rows on its disk until they are vacuumed: run VACUUM FULL "
            "retell_event, retell_delivery, retell_answer. The write-ahead log and backups still "
            "have them."
        )
    return "The application's own SQLite file keeps the old bytes until VACUUM is run."


def _count(state: State, inbox: Inbox, call_id: str) -> int:
    found = maintenance.search(inbox, Query(names=[call_id]))
    count = sum(entry.session == call_id for entry in found)
    if count or maintenance.count_results(inbox, call_id):
        return count
    sessions = [entry.session for entry in found if entry.session]
    if sessions:
        raise click.ClickException(
            f"{plain(call_id)} is an event of {plain(sessions[0])}, and forget takes whole "
            f"calls:\n  {plain(command(f'forget {shlex.quote(sessions[0])}', state))}"
        )
    raise click.ClickException(f"There is no event of a call or chat {plain(call_id)}.")
