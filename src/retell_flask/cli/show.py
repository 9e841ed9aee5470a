"""``show``: one event, or all of a call or chat, and what may be wrong with it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import click

from ..inbox.entry import Delivery, DeliveryStatus, Entry, EntryStatus
from ..inbox.maintenance import Record, timeline
from ..inbox.store import Inbox
from ..state import State
from .call_hints import CALL_LOOKS
from .common import as_json, find_inbox, for_blueprint, stored_name
from .delivery_hints import DELIVERY_LOOKS
from .events import described_type, entry_values
from .hints import Case
from .text import (
    counted,
    moment,
    paragraph,
    plain,
    say,
    say_json,
    table,
    terminal_width,
    took,
    until,
)

_HEADER = ("SIGNAL", "RECEIVER", "STATUS", "ATTEMPTS", "LAST BEGUN", "TOOK", "NEXT")
_WITHOUT_RECEIVERS = {
    EntryStatus.PENDING: "not begun: who hears it is settled when it is",
    EntryStatus.RUNNING: "begun just now",
    EntryStatus.DONE: "nobody was connected to its signals",
}


@click.command("show", short_help="Show an event or a whole call, its receivers, and hints.")
@click.argument("name", type=stored_name, metavar="ID|CALL_ID")
@click.option("--body", is_flag=True, help="Print the exact bytes of one event, and nothing else.")
@as_json
@for_blueprint
def show(state: State, *, name: str, body: bool, as_json: bool) -> None:
    """Show one event by its id, or all events of a call or chat by its id.

    For each event: where it stands and, for each receiver, how often it was tried, when,
    how long it took, when it is tried next and what it raised. Where one of the known
    troubles shows, a hint says what to check.

    \b
      flask retell show call_0123
      flask retell show evt_0123 --json
      flask retell show evt_0123 --body | python -m json.tool

    What --body prints is personal data: the transcript, phone numbers, and whatever else
    Retell sent.
    """
    inbox = find_inbox(state)
    records = timeline(inbox, name)
    if not records:
        raise click.ClickException(
            f"There is no event, call or chat {plain(name)} in the inbox of "
            f"{state.blueprint.name}. Done events are deleted after a while "
            f"({state.blueprint.config_prefix}_RETENTION), and what was forgotten "
            "belongs to no call any more; flask retell events lists what is here."
        )
    if body:
        _print_body(name, records)
        return
    case = Case(name, state, inbox, _whole_sessions(inbox, name, records))
    hints = _find_hints(case, records)
    if as_json:
        say_json(_values(name, records, hints))
        return
    _print_records(name, records, inbox)
    _print_hints(hints)


class _Hint(NamedTuple):
    """A hint, and all events that it is about."""

    trouble: str
    found: str
    check: str
    run: str
    event_ids: list[str]


def _find_hints(case: Case, shown: list[Record]) -> list[_Hint]:
    ids = {record.entry.event_id for record in shown}
    together: dict[tuple[str, str, str, str], list[str]] = {}
    for look in (*CALL_LOOKS, *DELIVERY_LOOKS):
        for hint in look(case):
            if hint.event_id in ids:
                key = (hint.trouble, hint.found, hint.check, hint.run)
                together.setdefault(key, []).append(hint.event_id)
    return [_Hint(*key, event_ids) for key, event_ids in together.items()]


def _whole_sessions(inbox: Inbox, name: str, records: list[Record]) -> list[Record]:
    """All events of the calls that are shown: a hint may need those that are not."""
    known = {record.entry.id: record for record in records}
    for session in {record.entry.session for record in records} - {None, name}:
        known.update({record.entry.id: record for record in timeline(inbox, str(session))})
    return [known[key] for key in sorted(known)]


def _print_body(name: str, records: list[Record]) -> None:
    entries = [record.entry for record in records]
    chosen = [entry for entry in entries if entry.event_id == name] or entries
    if len(chosen) > 1:
        listed = "".join(f"\n  {entry.event_id}  {described_type(entry)}" for entry in chosen)
        raise click.ClickException(
            f"{plain(name)} has {len(chosen)} events. Choose one of them:{listed}"
        )
    if chosen[0].body is None:
        raise click.ClickException(
            f"The body of {plain(name)} is no longer kept: it is {chosen[0].status.value}."
        )
    sys.stdout.buffer.write(chosen[0].body)


def _values(name: str, records: list[Record], hints: list[_Hint]) -> dict[str, Any]:
    return {
        "name": name,
        "events": [
            {
                **entry_values(entry),
                "deliveries": [_delivery_values(delivery) for delivery in deliveries],
            }
            for entry, deliveries in records
        ],
        "hints": [hint._asdict() for hint in hints],
    }


def _delivery_values(delivery: Delivery) -> dict[str, Any]:
    is_pending = delivery.status is DeliveryStatus.PENDING
    ran = _time_it_took(delivery)
    return {
        "signal": delivery.signal,
        "receiver": delivery.receiver,
        "status": delivery.status.value,
        "attempts": delivery.attempts,
        "started_at": delivery.started_at,
        "finished_at": delivery.finished_at,
        "seconds": None if ran is None else ran.total_seconds(),
        "next_attempt_at": delivery.next_attempt_at if is_pending else None,
        "error": delivery.error,
    }


def _time_it_took(delivery: Delivery) -> timedelta | None:
    if delivery.started_at is None or delivery.finished_at is None:
        return None
    return delivery.finished_at - delivery.started_at


def _print_records(name: str, records: list[Record], inbox: Inbox) -> None:
    if len(records) > 1:
        say(f"{plain(name)}: {counted(len(records), 'event')}, in the order of arrival", "")
    now = inbox.clock()
    for entry, deliveries in records:
        say(f"{described_type(entry)}  {entry.status.value}{_state_of(entry, now)}")
        say(f"  {entry.event_id}  received {moment(entry.received_at)} UTC{_about(name, entry)}")
        if deliveries:
            _print_deliveries(entry, deliveries, inbox.settings.max_attempts, now)
        elif entry.status in _WITHOUT_RECEIVERS:
            say(f"  {_WITHOUT_RECEIVERS[entry.status]}")
        say("")


def _state_of(entry: Entry, now: datetime) -> str:
    if entry.status is EntryStatus.PENDING:
        return f", due {until(entry.next_attempt_at, now)}"
    if entry.status is EntryStatus.RUNNING and entry.lease_expires_at is not None:
        return f", leased until {moment(entry.lease_expires_at)}"
    return ""


def _about(name: str, entry: Entry) -> str:
    session = f", of {plain(entry.session)}" if entry.session not in (None, name) else ""
    return session + (", made by backfill" if entry.synthetic else "")


def _print_deliveries(
    entry: Entry, deliveries: Sequence[Delivery], most: int, now: datetime
) -> None:
    rows = [_row(entry, delivery, most, now) for delivery in deliveries]
    width = terminal_width()
    header, *lines = table(_HEADER, rows, flexible=(1, 0), width=width and width - 2)
    say(f"  {header}")
    for line, delivery in zip(lines, deliveries, strict=True):
        say(f"  {line}")
        if delivery.error:
            say(paragraph(plain(delivery.error, 500), "      "))


def _row(entry: Entry, delivery: Delivery, most: int, now: datetime) -> tuple[str, ...]:
    is_pending = delivery.status is DeliveryStatus.PENDING
    ran = _time_it_took(delivery)
    runs = is_pending and entry.status is EntryStatus.RUNNING and ran is None
    begun = delivery.started_at
    return (
        plain(delivery.signal),
        plain(delivery.receiver),
        "running" if runs and begun else delivery.status.value,
        f"{delivery.attempts} of {most}",
        moment(begun) if begun else "",
        took(ran) if ran is not None else "",
        until(delivery.next_attempt_at, now) if is_pending and not (runs and begun) else "",
    )


def _print_hints(hints: Iterable[_Hint]) -> None:
    for hint in hints:
        say(f"{hint.trouble.capitalize()} ({', '.join(hint.event_ids)})")
        say(paragraph(plain(hint.found, 2000), "  "))
        say(paragraph(plain(hint.check, 2000), "  "))
        say(*([f"    {plain(hint.run, 1000)}", ""] if hint.run else [""]))
