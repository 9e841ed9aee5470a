"""``send``: what Retell would send, to any server."""

from __future__ import annotations

import json
import math
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import click

from ..errors import PayloadError
from ..events import parse_event
from ..signatures import SCHEMES, Scheme
from ..state import State
from ..values import Place
from .advice import command
from .common import for_blueprint, progress, read_body
from .replies import Asked, is_stored, say_hints, say_summary, show
from .target import at_url, changing, find_key, setting, target, with_key
from .text import counted, plain, say

if TYPE_CHECKING:
    from ..testing.sending import Load

_LATE_MS = 600_000
_LEAST_RATE = 0.01


@click.command("send", short_help="Send an event to a server, as Retell would.")
@click.argument("event", required=False)
@at_url
@changing
@click.option(
    "--body-file",
    type=click.File("rb"),
    metavar="FILE",
    help="Send what is in this file, byte for byte, in place of a sample; - is standard input.",
)
@click.option(
    "--scheme",
    type=click.Choice(SCHEMES),
    default=SCHEMES[0],
    show_default=True,
    help="How it is signed: as Retell does, or as third-party guides have it.",
)
@with_key
@click.option(
    "--twins",
    type=click.IntRange(1, 64),
    default=1,
    metavar="COUNT",
    help="Send each event so many times at the same moment.",
)
@click.option("--late", is_flag=True, help="Sign with a timestamp older than is tolerated.")
@click.option(
    "--count",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="Send so many events, each of another call, and sum up the answers.",
)
@click.option(
    "--rate",
    type=float,
    metavar="NUMBER",
    help="With --count: so many a second, each at its time even where others have no answer "
    "yet. Without it a few at once, as fast as they are answered.",
)
@click.option("--list", "only_list", is_flag=True, help="List the names that EVENT can be.")
@for_blueprint
def send(
    state: State,
    *,
    event: str | None,
    url: str,
    settings: tuple[str, ...],
    body_file: BinaryIO | None,
    scheme: Scheme,
    key: str | None,
    twins: int,
    late: bool,
    count: int | None,
    rate: float | None,
    only_list: bool,
) -> None:
    """Send a sample of an event, rightly signed, to a server that runs.

    \b
      flask retell send --list
      flask retell send call_ended
      flask retell send call_ended --set call.duration_ms=90000 --set metadata.order=7

    A path begins at the top of the body, or else in its call, chat or alert. Each event is of
    a new call that ends now, unless --set call.call_id=... says which. An inbound webhook
    and a custom function go to their own URLs below the prefix, and their answer is shown.

    A delivery as you captured it, and what your application must withstand:

    \b
      flask retell send --body-file delivery.json
      flask retell send call_analyzed --twins 3
      flask retell send call_ended --late
      flask retell send call_ended --count 5000 --rate 200

    Another server, whose key is in the environment of this command:

    \b
      flask retell send call_started --url https://staging.example.com --key "$STAGING_KEY"

    Ctrl-C ends it with the summary, once what is under way is answered; a second one does not
    wait. The exit code is 0 if everything was sent and every answer was 2xx.
    """
    from ..testing.payloads import sample_names
    from ..testing.sending import Load, Sender, signer

    if only_list:
        say(*sample_names())
        return
    _check_usage(event, settings, body_file, scheme, late, count, rate)
    message = _read(body_file) if body_file else _make(event or "", dict(map(setting, settings)))
    late_ms = max(_LATE_MS, 2 * state.settings.tolerance_ms) if late else 0
    sign = signer(find_key(state, key, scheme), scheme, late_ms=late_ms)
    where = target(url, state.url_prefix, message.path)
    sender = Sender(where, sign)
    prefix = state.blueprint.config_prefix
    asked = Asked(where, prefix, not message.path, scheme == "plain", late)
    if count is not None:
        load = Load(sender, message.make, count=count, rate=rate, twins=twins)
        is_good = _send_many(load, asked)
    else:
        body = message.make()
        is_good = _send_one(Load(sender, lambda: body, twins=twins), body, asked, state)
    if not is_good:
        raise click.exceptions.Exit(1)


class _Message(NamedTuple):
    """What makes each body, and where below the prefix it belongs."""

    make: Callable[[], bytes]
    path: str


def _check_usage(
    event: str | None,
    settings: tuple[str, ...],
    body_file: BinaryIO | None,
    scheme: Scheme,
    late: bool,
    count: int | None,
    rate: float | None,
) -> None:
    faults = {
        "--body-file is sent in place of a sample: leave EVENT out.": event and body_file,
        "--body-file is sent as it is: leave --set out.": settings and body_file,
        "Which event? flask retell send --list has their names.": not (event or body_file),
        "The plain scheme has no timestamp that could be --late.": late and scheme == "plain",
        "--rate is for many events: add --count.": rate is not None and not count,
        f"--rate is a number of events a second, {_LEAST_RATE:g} at least.": rate is not None
        and not _LEAST_RATE <= rate < math.inf,
    }
    for text, is_fault in faults.items():
        if is_fault:
            raise click.UsageError(text)


def _make(event: str, changes: Mapping[str, Any]) -> _Message:
    from ..testing.payloads import change, encode, path_of, renew, sample

    try:
        payload = sample(event)
        changed = change(payload, changes)
    except ValueError as error:
        raise click.UsageError(plain(str(error), 2000)) from None

    def make() -> bytes:
        renewed = renew(payload)
        return encode(change(renewed, changes) if changes else renewed)

    # Bare arguments do not say whose they are.
    is_bare = "event" not in changed and "name" not in changed
    return _Message(make, path_of(sample("custom_function") if is_bare else changed))


def _read(file: BinaryIO) -> _Message:
    from ..testing.payloads import path_of

    body = read_body(file)
    return _Message(lambda: body, path_of(_payload(body)))


def _payload(body: bytes) -> dict[str, Any]:
    """What a body holds; nothing where it is no JSON object."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        payload = None
    return payload if isinstance(payload, dict) else {}


def _send_one(load: Load, body: bytes, asked: Asked, state: State) -> bool:
    """Show what is sent and each answer; whether all of them were good."""
    times = f", {load.total} times at the same moment" if load.total > 1 else ""
    say(f"Sent {_title(body)} ({counted(len(body), 'byte')}) to {plain(asked.url)}{times}")
    replies = [sent.reply for sent in load.run()]
    for reply in replies:
        show(reply, asked)
    say_hints((asked, reply) for reply in replies)
    stored_as = _id(body) if any(map(is_stored, replies)) else None
    if stored_as and state.settings.inbox_url is not Place.NONE:
        say("Look at it:", f"  {command(f'show {shlex.quote(plain(stored_as))}', state)}")
    return all(reply.is_good for reply in replies)


def _title(body: bytes) -> str:
    from ..testing.payloads import session_id_of

    payload = _payload(body)
    function = f"function {payload['name']}" if "name" in payload else "a body"
    session_id = session_id_of(payload)
    what = payload.get("event") or function
    return plain(f"{what} of {session_id}" if session_id else str(what))


def _id(body: bytes) -> str | None:
    """What ``show`` finds an event by."""
    try:
        event = parse_event(body, quiet=True)
    except PayloadError:
        return None
    return event.session_id or event.id


def _send_many(load: Load, asked: Asked) -> bool:
    """Sum up the answers; whether everything was sent, and all of them were good."""
    from ..testing.sending import Summary

    summary = Summary()
    watching = progress(load.total, "Sending")
    with suppress(KeyboardInterrupt), _until_ctrl_c(load.stop), watching as move:
        for sent in load.run():
            summary.add(sent)
            move(1)
    say_summary(summary, load, asked)
    say_hints((asked, reply) for reply in summary.examples.values())
    good = (reply.is_good for reply in summary.examples.values())
    return summary.total == load.total and all(good)


@contextmanager
def _until_ctrl_c(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C stops, and what is under way is still waited for; the next is as ever."""

    def note(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        stop()

    before = signal.signal(signal.SIGINT, note) or signal.SIG_DFL
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
