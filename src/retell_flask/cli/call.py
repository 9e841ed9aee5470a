"""``call``: starts a phone call, and shows what comes of it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import click

from ..errors import PayloadError, Unreachable
from ..events import Event
from ..inbox.entry import Entry, EntryStatus
from ..inbox.maintenance import Query, search, timeline
from ..inbox.sqlite import MemoryDatabase
from ..inbox.store import Inbox
from ..state import State
from .advice import command
from .common import find_inbox, for_blueprint
from .text import plain, say
from .text import took as show_span

_POLL_SECONDS = 0.5
_SILENCE_SECONDS = 30.0
_LONGEST_CALL_SECONDS = 3 * 3600.0
_ANALYSIS_SECONDS = 600.0
_ANALYSIS_OF_NOTHING_SECONDS = 60.0


@click.command("call", short_help="Start a phone call.")
@click.argument("from_number", metavar="FROM")
@click.argument("to_number", metavar="TO")
@click.option("--agent", metavar="ID", help="Instead of the agent that FROM is bound to.")
@click.option(
    "--var",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    help="A dynamic variable for the agent's prompt; give it once for each.",
)
@click.option("--metadata", metavar="JSON", help="An object to be kept with the call.")
@click.option("--follow", is_flag=True, help="Show the call's events as they come in here.")
@for_blueprint
def call(
    state: State,
    *,
    from_number: str,
    to_number: str,
    agent: str | None,
    variables: tuple[str, ...],
    metadata: str | None,
    follow: bool,
) -> None:
    """Have an agent call TO from FROM, a number of yours at Retell. Both are in E.164 form.

    \b
      flask retell call +14155550100 +14155550142 --follow
      flask retell call +14155550100 +14155550142 --agent agent_0123 --var name=Ada

    The phone really rings, and the call costs what a call costs. With --follow its events are
    shown as they reach this application's inbox, until it is analyzed; Ctrl-C ends the watching
    and not the call.
    """
    fields = _fields(agent, variables, metadata)
    inbox = _followable(state) if follow else None
    try:
        started = state.client.create_phone_call(from_number, to_number, **fields)
    except ValueError as error:
        text = str(error).partition(" check_e164")[0]
        raise click.UsageError(
            text.replace("from_number", "FROM").replace("to_number", "TO")
        ) from None
    except Unreachable as error:
        what = _MAYBE_STARTED if error.may_have_arrived else _NOT_STARTED
        text = plain(str(error), 1000)
        raise click.ClickException(f"{text}{'' if text.endswith('?') else '.'} {what}") from None
    say(f"{plain(started.call_id)} is {plain(started.call_status or 'registered')}.")
    if inbox is not None:
        _follow(state, inbox, started.call_id)


_MAYBE_STARTED = "The call may have been started all the same: look before you try again."
_NOT_STARTED = "No call was started."


def _fields(agent: str | None, variables: tuple[str, ...], metadata: str | None) -> dict[str, Any]:
    fields = {
        "override_agent_id": agent,
        "retell_llm_dynamic_variables": dict(map(_variable, variables)) or None,
        "metadata": _metadata(metadata),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{plain(text)!r} is not NAME=VALUE.", param_hint="--var")
    return name, value


def _metadata(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text, parse_constant=_refuse)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter(
            'It must be a JSON object, such as {"order": 7}.', param_hint="--metadata"
        )
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _followable(state: State) -> Inbox:
    """An inbox that other processes write to; asked for before the phone rings."""
    inbox = find_inbox(state, make=True)
    if isinstance(inbox.database, MemoryDatabase):
        raise click.UsageError(
            "--follow looks for events in the inbox, which is in the memory of each process here."
        )
    return inbox


def _follow(state: State, inbox: Inbox, call_id: str) -> None:
    try:
        for entry, event in _arrivals(inbox, call_id):
            say(f"{entry.received_at:%H:%M:%S}  {plain(entry.type)}{_details(event)}")
            if entry.type == "call_analyzed":
                break
        else:
            say("It was not analyzed in time. The events that come later are in the inbox, too.")
    except KeyboardInterrupt:
        say("", "The call goes on.")
    say("", f"How your receivers took it: {plain(command(f'show {call_id}', state))}")


def _arrivals(inbox: Inbox, call_id: str) -> Iterator[tuple[Entry, Event | None]]:
    """The call's events in the order of arrival, as long as one may be expected."""
    seen: set[int] = set()
    began = time.monotonic()
    deadline, hint_at = began + _LONGEST_CALL_SECONDS, began + _SILENCE_SECONDS
    while time.monotonic() < deadline:
        found = search(inbox, Query(names=[call_id]))  # without the bodies
        for entry in sorted(found, key=lambda each: each.id):
            if entry.id in seen:
                continue
            seen.add(entry.id)
            event = _read(inbox, entry)
            if entry.type == "call_ended":
                deadline = time.monotonic() + _longest_analysis(event)
            if entry.status is not EntryStatus.SUPERSEDED:
                yield entry, event
        if not seen and time.monotonic() > hint_at:
            say("Nothing has come yet. Does the webhook URL of the agent, or else the account's,")
            say("lead to this application, and does it use this inbox? Waiting on; Ctrl-C stops.")
            hint_at = math.inf
        time.sleep(_POLL_SECONDS)


def _read(inbox: Inbox, entry: Entry) -> Event | None:
    try:
        bodies = [record.entry for record in timeline(inbox, entry.event_id)]
        return bodies[0].event() if bodies and bodies[0].body is not None else None
    except PayloadError:
        return None


def _longest_analysis(ended: Event | None) -> float:
    """Seconds. Calls that did not connect are often not analyzed at all."""
    has_talked = ended is None or ended.call is None or ended.call.call_status == "ended"
    return _ANALYSIS_SECONDS if has_talked else _ANALYSIS_OF_NOTHING_SECONDS


def _details(event: Event | None) -> str:
    """What is said of a call without what was said in it."""
    if event is None or event.call is None:
        return ""
    subject = event.call
    analysis = subject.analysis if event.type == "call_analyzed" else None
    details = [
        subject.disconnection_reason if event.type == "call_ended" else None,
        show_span(subject.duration) if event.type == "call_ended" and subject.duration else None,
        analysis.sentiment if analysis else None,
        _success(analysis.call_successful) if analysis else None,
    ]
    shown = ", ".join(plain(each, 80) for each in details if each)
    return f": {shown}" if shown else ""


def _success(value: bool | None) -> str | None:
    return None if value is None else ("successful" if value else "not successful")
