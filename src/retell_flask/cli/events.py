"""``events``: what came."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from ..inbox.entry import Entry, EntryStatus
from ..inbox.maintenance import Query, search
from ..state import State
from .common import as_json, by_time, check_times, find_inbox, for_blueprint, stored_name
from .text import moment, plain, say, say_json, table, terminal_width, until

_HEADER = ("RECEIVED (UTC)", "EVENT", "TYPE", "STATUS", "NEXT", "CALL OR CHAT")
_FLEXIBLE = (5, 2)  # the columns that a narrow terminal cuts


@click.command("events", short_help="List events, the newest first.")
@click.option(
    "--status",
    type=click.Choice([status.value for status in EntryStatus]),
    help="In this status, see above.",
)
@click.option(
    "--type", "type_", type=stored_name, metavar="TYPE", help="Of this type, such as call_ended."
)
@click.option("--call", type=stored_name, metavar="ID", help="Of this call or chat.")
@by_time
@click.option(
    "--limit",
    type=click.IntRange(1, 10**9),
    metavar="COUNT",
    default=50,
    show_default=True,
    help="At most so many.",
)
@as_json
@for_blueprint
def events(
    state: State,
    *,
    status: str | None,
    type_: str | None,
    call: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """List events, the newest first, without what they say.

    \b
      flask retell events --status dead --since 24h
      flask retell events --type call_ended --limit 5
      flask retell events --call call_0123 --json | jq .id

    \b
    pending     a receiver has to run: now, or at its next attempt
    running     a receiver runs
    done        every receiver ran to success, or there was none
    dead        a receiver failed for the last time: see show, then replay
    invalid     rightly signed, but no event
    superseded  a snapshot of a transcript; a newer one came before it was delivered
    forgotten   emptied by forget

    With --json there is one object on each line.
    """
    check_times(since, until)
    query = Query(
        names=[call] if call is not None else [],
        status=EntryStatus(status) if status else None,
        type=type_,
        since=since,
        until=until,
    )
    inbox = find_inbox(state)
    found = search(inbox, query, limit=limit + 1)
    if as_json:
        for entry in found[:limit]:
            say_json(entry_values(entry))
    else:
        say(*entries_table(found[:limit], inbox.clock()) if found else ["No such events."])
    if len(found) > limit:
        click.echo(f"These are the newest {limit}; there are more: --limit.", err=True)


def entry_values(entry: Entry) -> dict[str, Any]:
    """An entry for JSON, without its body."""
    return {
        "id": entry.event_id,
        "type": entry.type,
        "session_id": entry.session,
        "status": entry.status.value,
        "received_at": entry.received_at,
        "next_attempt_at": entry.next_attempt_at if entry.status is EntryStatus.PENDING else None,
        "revision": entry.revision,
        "synthetic": entry.synthetic,
    }


def entries_table(entries: list[Entry], now: datetime) -> list[str]:
    """The lines of a table of entries."""
    rows = [
        (
            moment(entry.received_at),
            entry.event_id,
            described_type(entry),
            entry.status.value,
            until(entry.next_attempt_at, now) if entry.status is EntryStatus.PENDING else "",
            plain(entry.session or ""),
        )
        for entry in entries
    ]
    return table(_HEADER, rows, flexible=_FLEXIBLE, width=terminal_width())


def described_type(entry: Entry) -> str:
    """The type as it was sent, and which version of the event it is."""
    type_ = plain(entry.type, 60) or "(no type)"
    return f"{type_} (revision {entry.revision})" if entry.revision else type_
