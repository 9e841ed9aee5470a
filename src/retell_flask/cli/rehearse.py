"""``rehearse``: a whole call, sent to a server as Retell would send it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import click
import msgspec

from ..inbox.sqlite import MemoryDatabase
from ..state import State
from ..values import Place
from .advice import command
from .common import find_inbox, for_blueprint
from .replies import Asked, is_stored, say_hints
from .target import at_url, changing, find_key, setting, target, with_key
from .text import paragraph, plain, say

if TYPE_CHECKING:
    from ..testing.inbox import InboxView
    from ..testing.rehearsal import Rehearsal, Step
    from ..testing.sending import Reply, Sender

_LONGEST_NAME = 32
_PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.1
_SLOWEST = 100
_PACES = {1: "its real pace", 0.1: "a tenth of its length", 0: "once, without pauses"}


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
    help="Wait until the receivers are done, for 30 s at most, and fail unless the inbox then "
    "stands as the scenario says. For a server that uses the same inbox as this command.",
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
    nothing at all where the call is rejected. A scenario of your own is a JSON file, whose form
    is in docs/testing.md. The times that are printed are those of the real call.

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
    if not pace <= _SLOWEST:  # nor is it a NaN
        raise click.UsageError(f"--pace is a number from 0 to {_SLOWEST}.")
    view = _find_view(state) if check else None
    try:
        played = read_scenario(scenario)
        began = datetime.now(timezone.utc) - timedelta(seconds=(1 - pace) * played.seconds)
        rehearsal = Rehearsal(played, dict(map(setting, settings)), started_at=began)
        rehearsal.payload(played.steps[0])
    except (ValueError, OSError) as error:
        raise click.UsageError(plain(str(error), 2000)) from None
    where = target(url, state.url_prefix)
    sender = Sender(where, signer(find_key(state, key)))
    say(paragraph(plain(f"{scenario}: {played.about}", 2000)))
    say(f"{rehearsal.session_id}, at {_PACES.get(pace, f'{pace:g} times the length')}")
    say(f"To {plain(where)}", "")
    answered = [*_play(rehearsal, sender, pace, Asked(where, state.blueprint.config_prefix))]
    say("")
    say_hints(answered)
    is_right = all(reply.is_good for _, reply in answered)
    if state.settings.inbox_url is not Place.NONE and any(is_stored(each) for _, each in answered):
        show = command(f"show {shlex.quote(str(rehearsal.session_id))}", state)
        say(f"What became of it: {plain(show)}")
        is_right &= view is None or _is_as_expected(view, rehearsal)
    elif view is not None and rehearsal.is_rejected:
        is_right &= _is_as_expected(view, rehearsal)
    if not is_right:
        raise click.exceptions.Exit(1)


def _find_view(state: State) -> InboxView:
    from ..testing.inbox import InboxView

    inbox = find_inbox(state, make=True)
    if isinstance(inbox.database, MemoryDatabase):
        raise click.UsageError("--check looks into the inbox, which is the server's own memory.")
    return InboxView(inbox)


def _play(
    rehearsal: Rehearsal, sender: Sender, pace: float, asked: Asked
) -> Iterator[tuple[Asked, Reply]]:
    """Send each step at its time, say how it was answered, and yield that."""
    began, first = time.monotonic(), rehearsal.scenario.steps[0].at
    is_there = False
    for step in rehearsal.steps():
        time.sleep(max(0.0, began + (step.at - first) * pace - time.monotonic()))
        replies = _send(rehearsal, step, sender)
        say(f"{step.at:7.1f} s  {plain(step.name):{_LONGEST_NAME}} {_line(step, replies)}")
        rehearsal.heed(step, replies[0].body)
        yield from ((asked._replace(is_event=step.is_event), reply) for reply in replies)
        is_there = is_there or any(reply.status for reply in replies)
        if not is_there:
            return


def _send(rehearsal: Rehearsal, step: Step, sender: Sender) -> list[Reply]:
    from ..testing.payloads import encode, path_of
    from ..testing.sending import Load

    payload = rehearsal.payload(step)
    body = encode(payload)
    load = Load(sender, lambda: body, path_of(payload), twins=step.twins)
    return [each.reply for each in load.run()]


def _line(step: Step, replies: list[Reply]) -> str:
    slowest = max(replies, key=lambda reply: reply.seconds)
    line = f"{', '.join(reply.name for reply in replies)} in {slowest.seconds * 1000:,.0f} ms"
    if slowest.status is None or (slowest.is_good and step.is_event):
        return line
    return f"{line}: {plain(slowest.body.decode('utf-8', 'replace').strip())}"


def _is_as_expected(view: InboxView, rehearsal: Rehearsal) -> bool:
    scenario, call_id = rehearsal.scenario, rehearsal.session_id
    if rehearsal.is_rejected:
        scenario = msgspec.structs.replace(scenario, inbox={})
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _is_open(found := view.statuses(call_id=call_id)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    differences = scenario.differs(found)
    if not differences:
        say("The inbox stands as the scenario says.")
        return True
    say("The inbox does not stand as the scenario says:")
    say(*(f"  {plain(type_)}: {got}, not {want}" for type_, (got, want) in differences.items()))
    if _is_open(found):
        say(f"After {_PATIENCE_SECONDS:.0f} s it was not waited for any longer.")
    elif not found:
        say("Nothing of the call is there. Does the server use another inbox?")
    return False


def _is_open(found: dict[str, list[str]]) -> bool:
    return any(status in ("pending", "running") for each in found.values() for status in each)
