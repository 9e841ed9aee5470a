"""``stats`` and ``receivers``: how the inbox stands, and who hears what."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import click

from ..inbox import maintenance
from ..inbox.entry import DeliveryStatus, EntryStatus
from ..inbox.maintenance import Stats
from ..signals import SIGNALS
from ..state import State
from .advice import Waiting, connected_receivers, not_connected, renaming
from .common import as_json, find_inbox, for_blueprint, is_made
from .text import (
    age,
    moment,
    plain,
    say,
    say_json,
    size,
    table,
    terminal_width,
)


@click.command("stats", short_help="Count events, deliveries and bytes.")
@as_json
@for_blueprint
def stats(state: State, *, as_json: bool) -> None:
    """Count events by type and status, and deliveries; reads the whole table.

    For monitoring, the two that matter: dead deliveries (above 0: somebody has to look), and
    the age of the oldest pending event (growing: nothing delivers, or too slowly).

    \b
      flask retell stats --json | jq '.deliveries.dead, .oldest_pending_seconds'
    """
    inbox = find_inbox(state)
    counts = maintenance.stats(inbox)
    if as_json:
        say_json(_stats_values(counts, inbox.clock()))
    else:
        say(*_stats_lines(counts, inbox.clock()))


def _stats_values(counts: Stats, now: datetime) -> dict[str, Any]:
    oldest = counts.oldest_pending
    return {
        "entries": [
            {"status": status, "type": type_, "count": count}
            for (status, type_), count in sorted(counts.entries.items())
        ],
        "deliveries": _deliveries(counts),
        "oldest_pending": oldest,
        "oldest_pending_seconds": (now - oldest).total_seconds() if oldest else None,
        "newest": counts.newest,
        "body_bytes": counts.body_bytes,
    }


def _stats_lines(counts: Stats, now: datetime) -> Iterable[str]:
    if not counts.entries:
        yield "The inbox is empty."
        return
    yield from _entries_lines(counts)
    yield ""
    deliveries = ", ".join(f"{count:,} {status}" for status, count in _deliveries(counts).items())
    yield f"Deliveries      {deliveries}"
    yield f"Oldest pending  {_with_age(counts.oldest_pending, now)}"
    yield f"Newest event    {_with_age(counts.newest, now)}"
    yield f"Bodies          {size(counts.body_bytes)}, as they are stored"


def _deliveries(counts: Stats) -> dict[str, int]:
    return {each.value: counts.deliveries.get(each.value, 0) for each in DeliveryStatus}


def _entries_lines(counts: Stats) -> list[str]:
    statuses = [each.value for each in EntryStatus if _total(counts, each.value)]
    rows = [
        [plain(type_, 60) or "(no type)"]
        + [_number(counts.entries.get((status, type_), 0)) for status in statuses]
        for type_ in sorted({type_ for _, type_ in counts.entries})
    ]
    total = ["all", *(_number(_total(counts, status)) for status in statuses)]
    return table(["EVENTS", *statuses], [*rows, total])


def _total(counts: Stats, status: str) -> int:
    return sum(count for (each, _), count in counts.entries.items() if each == status)


def _number(count: int) -> str:
    return f"{count:,}" if count else ""


def _with_age(time: datetime | None, now: datetime) -> str:
    return "none" if time is None else f"{moment(time)} UTC, {age(now - time)} ago"


@click.command("receivers", short_help="Show who is connected to what, and who is missing.")
@as_json
@for_blueprint
def receivers(state: State, *, as_json: bool) -> None:
    """Show the receivers of each signal, in the order in which they run.

    \b
      flask retell receivers

    These are the receivers that this process has, which should be those of the application:
    the modules that they are in were imported with it. WAITING and DEAD count their
    deliveries. A receiver that is not connected here, and for which deliveries wait, was
    probably renamed or removed:

    \b
      flask retell replay --receiver shop:old_name --as shop:new_name
    """
    pending, dead = _unfinished(state)
    connected = connected_receivers(state)
    if as_json:
        say_json(_receivers_values(connected, pending, dead))
    else:
        say(*_receivers_lines(state, connected, pending, dead))


def _unfinished(state: State) -> tuple[Waiting, Waiting]:
    if state.inbox is None or not is_made(state.inbox):
        return {}, {}
    inbox = find_inbox(state)
    return maintenance.waiting(inbox), maintenance.waiting(inbox, DeliveryStatus.DEAD)


def _receivers_values(
    connected: dict[str, list[str]], pending: Waiting, dead: Waiting
) -> dict[str, Any]:
    def values(signal: str, receiver: str) -> dict[str, Any]:
        key = (signal, receiver)
        return {
            "signal": signal,
            "receiver": receiver,
            "waiting": pending.get(key, 0),
            "dead": dead.get(key, 0),
        }

    return {
        "connected": [
            {**values(signal, each), "muted": SIGNALS[signal].is_muted}
            for signal, identities in connected.items()
            for each in identities
        ],
        "not_connected": [values(*key) for key in not_connected(connected, pending, dead)],
    }


def _receivers_lines(
    state: State, connected: dict[str, list[str]], pending: Waiting, dead: Waiting
) -> Iterable[str]:
    keys = [(signal, each) for signal, identities in connected.items() for each in identities]
    if keys:
        yield from _receivers_table(keys, pending, dead)
    else:
        yield "No receiver is connected here. Is the module that they are in imported?"
    missing = not_connected(connected, pending, dead)
    if not missing:
        return
    yield from ("", "Not connected here, though deliveries are kept for them:", "")
    yield from _receivers_table(missing, pending, dead)
    affected = dict.fromkeys(receiver for _, receiver in missing)
    yield from ("", "Is the module that it is in imported? If it was renamed:")
    yield from (f"  {plain(renaming(each, state), 1000)}" for each in affected)


def _receivers_table(keys: list[tuple[str, str]], pending: Waiting, dead: Waiting) -> list[str]:
    rows = [
        (
            signal + (" (muted)" if signal in SIGNALS and SIGNALS[signal].is_muted else ""),
            plain(receiver),
            _number(pending.get((signal, receiver), 0)),
            _number(dead.get((signal, receiver), 0)),
        )
        for signal, receiver in keys
    ]
    header = ("SIGNAL", "RECEIVER", "WAITING", "DEAD")
    return table(header, rows, flexible=(1,), width=terminal_width())
