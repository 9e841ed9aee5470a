"""``rehearse``: a whole call, sent to a server as Retell would send it."""

from __future__ import annotations

import shlex
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click

from ..inbox.maintenance import Query, search
from ..inbox.sqlite import MemoryDatabase
from ..inbox.store import Inbox
from ..state import State
from ..values import Place
from .advice import command
from .common import find_inbox, for_blueprint
from .replies import Asked, is_stored, say_hints
from .target import at_url, changing, find_key, setting, target, with_key
from .text import paragraph, plain, say

if TYPE_CHECKING:
    from ..testing.rehearsal import Rehearsal, Step
    from ..testing.sending import Reply, Sender

_LONGEST_NAME = 32
_SETTLED_SECONDS = 30.0
_POLL_SECONDS = 0.1


@click.command("rehearse", short_help="Play a whole call to a server, as Retell would.")
@click.argument("scenario", required=False)
@at_url
@changing
@with_key
@click.option(
    "--pace",
    type=click.FloatRange(min=0),
    default=0.1,
    show_default=True,
    metavar="FACTOR",
    help="How long the pauses are: 1 as in a real call, 0.1 a tenth of it, 0 none.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Wait until the receivers are done, and fail unless the inbox then stands as the "
    "scenario says. For a server that uses the same inbox as this command.",
)
@click.option("--list", "only_list", is_flag=True, help="List the scenarios.")
@for_blueprint
def rehearse(
    state: State,
    *,
    scenario: str | None,
    url: str,
    settings: tuple[str, ...],
    key: str | None,
    pace: float,
    check: bool,
    only_list: bool,
) -> None:
    """Send all the events of one call in time, rightly signed, to a server that runs.

    \b
      flask retell rehearse --list
      flask retell rehearse completed
      flask retell rehearse transfer_failed --pace 1
      flask retell rehearse voicemail --set metadata.order=7 --pace 0 --check

    Each is a new call that ends now. --set changes the call in each of its events. The answer to
    an inbound call changes what follows, as it does at Retell: the agent, the variables, or
    nothing at all where the call is rejected. A scenario of your own is a JSON file (a path that
    ends in .json); docs/testing.md has its form.

    The exit code is 0 if every answer was 2xx and, with --check, the inbox stands as it should.
    """
    from ..testing.rehearsal import Rehearsal, read_scenario, scenario_names
    from ..testing.sending import Sender, signer

    if only_list:
        width = max(map(len, scenario_names()))
        say(*(f"{each:{width}}  {read_scenario(each).about}" for each in scenario_names()))
        return
    if scenario is None:
        raise click.UsageError("Which scenario? flask retell rehearse --list has their names.")
    inbox = _find_inbox(state) if check else None
    try:
        played = read_scenario(scenario)
        began = datetime.now(timezone.utc) - timedelta(seconds=(1 - pace) * played.seconds)
        rehearsal = Rehearsal(played, dict(map(setting, settings)), started_at=began)
        rehearsal.posting(played.steps[0])
    except (ValueError, OSError) as error:
        raise click.UsageError(plain(str(error), 2000)) from None
    where = target(url, state.url_prefix)
    say(paragraph(f"{scenario}: {played.about}"), f"To {plain(where)}", "")
    sender = Sender(where, signer(find_key(state, key)))
    replies = _play(rehearsal, sender, pace)
    say("")
    say_hints(Asked(where, state.blueprint.config_prefix), replies)
    if any(is_stored(reply) for reply in replies) and state.settings.inbox_url is not Place.NONE:
        show = command(f"show {shlex.quote(str(rehearsal.session_id))}", state)
        say(f"How your receivers took it: {plain(show)}")
    is_right = inbox is None or _is_as_expected(inbox, rehearsal)
    if not (is_right and all(reply.is_good for reply in replies)):
        raise click.exceptions.Exit(1)


def _find_inbox(state: State) -> Inbox:
    inbox = find_inbox(state, make=True)
    if isinstance(inbox.database, MemoryDatabase):
        raise click.UsageError("--check looks into the inbox, which is the server's own memory.")
    return inbox


def _play(rehearsal: Rehearsal, sender: Sender, pace: float) -> list[Reply]:
    """Send each step at its time, and say how it was answered."""
    replies: list[Reply] = []
    began, first = time.monotonic(), rehearsal.scenario.steps[0].at
    for step in rehearsal.steps():
        time.sleep(max(0.0, began + (step.at - first) * pace - time.monotonic()))
        answered = _send(rehearsal, step, sender)
        say(f"{step.at:7.1f} s  {step.name:{_LONGEST_NAME}} {_line(step, answered)}")
        rehearsal.heed(step, answered[0].body)
        replies += answered
        if not any(reply.status for reply in replies):
            break  # nothing is there
    return replies


def _send(rehearsal: Rehearsal, step: Step, sender: Sender) -> list[Reply]:
    from ..testing.payloads import encode
    from ..testing.sending import Load

    posting = rehearsal.posting(step)
    body = encode(posting.payload)
    load = Load(sender, lambda: body, posting.path, twins=step.twins)
    return [sent.reply for sent in load.run()]


def _line(step: Step, replies: list[Reply]) -> str:
    first = max(replies, key=lambda reply: reply.seconds)
    line = f"{', '.join(reply.name for reply in replies)} in {first.seconds * 1000:,.0f} ms"
    is_asked = step.function or (step.send or "").endswith("_inbound")
    if first.status is None or (first.is_good and not is_asked):
        return line
    return f"{line}: {plain(first.body.decode('utf-8', 'replace').strip())}"


def _is_as_expected(inbox: Inbox, rehearsal: Rehearsal) -> bool:
    expected = {} if rehearsal.is_rejected else rehearsal.scenario.inbox
    deadline = time.monotonic() + _SETTLED_SECONDS
    while _is_open(found := _statuses(inbox, rehearsal)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if _fits(found, expected):
        say("The inbox stands as the scenario says.")
        return True
    say("", "The inbox does not stand as the scenario says.")
    for type_ in dict.fromkeys((*expected, *found)):
        wanted, got = expected.get(type_, []), found.get(type_, [])
        if not _fits({type_: got}, {type_: wanted}):
            say(f"  {plain(type_)}: {', '.join(got) or 'none'}, not {', '.join(wanted) or 'any'}")
    return False


def _statuses(inbox: Inbox, rehearsal: Rehearsal) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    entries = search(inbox, Query(names=[str(rehearsal.session_id)]))
    for entry in sorted(entries, key=lambda each: each.id):
        found.setdefault(entry.type, []).append(entry.status.value)
    return found


def _is_open(found: dict[str, list[str]]) -> bool:
    return any(status in ("pending", "running") for each in found.values() for status in each)


def _fits(found: dict[str, list[str]], expected: dict[str, list[str]]) -> bool:
    def fits_one(got: list[str], wanted: list[str]) -> bool:
        pairs: Any = zip(got, wanted, strict=False)
        return len(got) == len(wanted) and all(one in these.split("|") for one, these in pairs)

    names = {*found, *expected}
    return all(fits_one(found.get(name, []), expected.get(name, [])) for name in names)
