"""What commands share: the group, their blueprint and inbox, and the kinds of their options."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any, BinaryIO

import click
from flask import current_app
from flask.cli import AppGroup, with_appcontext

from .. import values
from ..errors import ApiError, ConfigurationError, InboxError, KeyRefused
from ..inbox.entry import storable
from ..inbox.sqlite import FileDatabase, MemoryDatabase
from ..inbox.store import Inbox, utc_now
from ..state import State
from .place import describe_place
from .text import plain, size

_KEY_HINT = ". See RETELL_API_KEY: of several keys, Retell's API is called with the first."

_LONGEST_BODY = 100_000_000

Run = Callable[..., None]


class RetellGroup(AppGroup):
    """The commands; what is wrong with an inbox, an option or Retell's API is exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (InboxError, ApiError, ConfigurationError) as error:
            hint = _KEY_HINT if isinstance(error, KeyRefused) else ""
            raise click.ClickException(plain(str(error), 1000) + hint) from None


def for_blueprint(run: Run) -> Run:
    """Give ``run`` the ``State`` of the blueprint that ``--blueprint`` names, or the only one."""

    @click.option(
        "--blueprint", metavar="NAME", help="Which blueprint, where several are registered."
    )
    @with_appcontext
    @functools.wraps(run)
    def find_and_run(blueprint: str | None, **options: Any) -> None:
        run(find_state(blueprint), **options)

    return find_and_run


def find_state(name: str | None) -> State:
    """The state of a blueprint of the current app; of the only one without a name."""
    states = all_states()
    if name is None and len(states) == 1:
        return next(iter(states.values()))
    if name is not None and name in states:
        return states[name]
    names = ", ".join(states)
    if name is None:
        raise click.UsageError(f"Several blueprints are registered: add --blueprint, of {names}.")
    raise click.UsageError(f"There is no blueprint {plain(name)!r}. Registered: {names}.")


def all_states() -> dict[str, State]:
    """By name, in the order in which the blueprints were registered."""
    states: dict[str, State] = current_app.extensions["retell"]
    return states


def find_inbox(state: State, *, make: bool = False) -> Inbox:
    """The inbox of a blueprint, where there is one to look at; or one that is made first."""
    inbox = state.inbox
    prefix = state.blueprint.config_prefix
    if inbox is None:
        raise click.ClickException(
            f"{state.blueprint.name} has no inbox ({prefix}_INBOX_URL is none), so nothing is "
            "kept that this command could work on."
        )
    if not make and not is_made(inbox):
        raise click.ClickException(
            f"There is no inbox yet in {describe_place(state)}. It is made with the first event, "
            f"or by flask retell init-db. If events came already, the application has its file "
            f"elsewhere ({prefix}_INBOX_URL)."
        )
    if make:
        inbox.check()
    note_memory(inbox)
    return inbox


def note_memory(inbox: Inbox) -> None:
    """Say that an inbox in memory is that of this process alone."""
    if isinstance(inbox.database, MemoryDatabase):
        click.echo("The inbox is in memory, and that of other processes not seen here.", err=True)


def is_made(inbox: Inbox) -> bool:
    """False for a SQLite file that is not there; a look at it would make it."""
    database = inbox.database
    return not isinstance(database, FileDatabase) or database.path.exists()


def stored_name(value: str) -> str:
    """The type of an option: an id or a type of event, as it is stored."""
    return storable(value)


def receiver_name(value: str) -> str:
    """The type of an option: a receiver's identity, which is stored in full."""
    return storable(value, len(value))


def span_or_zero(value: str) -> timedelta:
    """``span``, or ``0``."""
    return timedelta(0) if value.strip().rstrip("smhd") == "0" else span(value)


def span(value: str) -> timedelta:
    """The type of an option: a duration with its unit.

    A bare number would be seconds where days were meant.
    """
    try:
        found = _read_span(value)
        utc_now() - found
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is no duration: 90s, 15m, 24h or 30d.") from None
    return found


def moment(value: str) -> datetime:
    """The type of an option: how long ago, or a date and time."""
    for read in (_read_ago, _read_iso):
        try:
            return read(value)
        except (ValueError, OverflowError):
            continue
    raise click.BadParameter(
        f"{value!r} is no time: 15m, 24h or 30d (ago), 2026-01-31 or 2026-01-31T14:05 (UTC, or "
        "with an offset such as +02:00)."
    )


def _read_span(text: str) -> timedelta:
    if not re.search(r"[a-z]", text):
        raise ValueError
    return values.duration(text)


def _read_ago(text: str) -> datetime:
    return utc_now() - _read_span(text)


def _read_iso(text: str) -> datetime:
    if text.isdigit():  # which newer Pythons take for a date
        raise ValueError
    time = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
    if time.tzinfo is None:
        return time.replace(tzinfo=timezone.utc)
    return time.astimezone(timezone.utc)


def read_body(file: BinaryIO) -> bytes:
    """What a file holds, byte for byte. Raises ``UsageError`` for what is no body of a webhook."""
    body = file.read(_LONGEST_BODY + 1)
    if len(body) > _LONGEST_BODY:
        raise click.UsageError(f"{plain(file.name)} has more than {size(_LONGEST_BODY)}.")
    return body


as_json: Callable[[Run], Run] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead."
)


def by_time(run: Run) -> Run:
    """The options ``--since`` and ``--until``."""
    since = click.option(
        "--since",
        type=moment,
        metavar="TIME",
        help='Received at this time or later: "24h" or "15m" ago, or a date and time '
        "(2026-01-31T14:05; UTC, unless it has an offset).",
    )
    until = click.option("--until", type=moment, metavar="TIME", help="Received before this time.")
    return since(until(run))


def check_times(since: datetime | None, until: datetime | None) -> None:
    """Refuse a time span that nothing could be in."""
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until, so nothing could be in between.")


@contextmanager
def progress(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """A bar that is moved by what it yields, where somebody watches."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update
