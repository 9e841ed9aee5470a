"""``call``: starts a phone call, and shows what comes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import click

from ..errors import Unreachable
from ..events import Event
from ..inbox.entry import Entry, EntryStatus
from ..inbox.maintenance import timeline
from ..inbox.sqlite import MemoryDatabase
from ..inbox.store import Inbox
from ..state import State
from .advice import command
from .common import find_inbox, for_blueprint
from .text import plain, say
from .text import took as show_span

_POLL_SECONDS = 0.5
_ANALYSIS_WAIT = timedelta(minutes=10)
_LONGEST_CALL = timedelta(hours=3)


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
        raise click.UsageError(str(error).partition(" check_e164")[0]) from None
    except Unreachable as error:
        raise click.ClickException(
            f"{error} The call may have been started all the same: look before you try again."
        ) from None
    say(f"{plain(started.call_id)} is {plain(started.call_status or 'registered')}.")
    if inbox is not None:
        _follow(state, inbox, started.call_id)


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
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter('It is a JSON object: {"order": 7}.', param_hint="--metadata")
    return found


def _followable(state: State) -> Inbox:
    """An inbox that other processes write to; asked for before the phone rings."""
    inbox = find_inbox(state)
    if isinstance(inbox.database, MemoryDatabase):
        raise click.UsageError(
            "--follow looks for events in the inbox, which is in the memory of each process here."
        )
    inbox.check()
    return inbox


def _follow(state: State, inbox: Inbox, call_id: str) -> None:
    try:
        for entry, event in _arrivals(inbox, call_id):
            say(f"{entry.received_at:%H:%M:%S}  {entry.type}{_details(event)}")
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
    deadline = time.monotonic() + _LONGEST_CALL.total_seconds()
    while time.monotonic() < deadline:
        for entry, _ in timeline(inbox, call_id):
            if entry.id in seen:
                continue
            seen.add(entry.id)
            if entry.type == "call_ended":
                deadline = time.monotonic() + _ANALYSIS_WAIT.total_seconds()
            if entry.status is not EntryStatus.SUPERSEDED:
                yield entry, entry.event() if entry.body is not None else None
        time.sleep(_POLL_SECONDS)


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
