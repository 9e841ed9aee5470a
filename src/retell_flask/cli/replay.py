"""``replay``: run receivers again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

import click

from ..inbox import maintenance
from ..inbox.entry import DeliveryStatus, EntryStatus
from ..inbox.maintenance import Query
from ..inbox.replay import Replay, rehearse_entry, replay_entry
from ..inbox.store import Inbox
from ..state import State
from .advice import connected_receivers, how_it_runs, run_once
from .common import (
    by_time,
    check_times,
    find_inbox,
    for_blueprint,
    progress,
    receiver_name,
    stored_name,
)
from .events import entries_table
from .text import counted, paragraph, plain, say

_STATUSES = [EntryStatus.DEAD, EntryStatus.INVALID, EntryStatus.DONE, EntryStatus.PENDING]
_UNFINISHED = (DeliveryStatus.DEAD, DeliveryStatus.PENDING)
_MOST_LISTED = 20


@dataclass(frozen=True)
class _Wish:
    """What was asked for."""

    names: tuple[str, ...]
    status: EntryStatus | None
    type_: str | None
    receiver: str | None
    rename: str | None
    since: datetime | None
    until: datetime | None
    done_too: bool

    @property
    def is_open(self) -> bool:
        """Whether it says nothing of what the events are like."""
        return not self.names and self.status is None and not self.done_too

    def query(self) -> Query:
        """The entries that are meant: without any choice, those with a dead delivery."""
        wanted: tuple[DeliveryStatus, ...] = ()
        if self.is_open:
            wanted = _UNFINISHED if self.rename else (DeliveryStatus.DEAD,)
        return Query(
            names=self.names,
            status=self.status,
            type=self.type_,
            receiver=self.receiver if self.is_open or self.rename else None,
            deliveries=wanted,
            since=self.since,
            until=self.until,
        )


@click.command("replay", short_help="Run receivers again: dead ones, or more.")
@click.argument("ids", nargs=-1, type=stored_name, metavar="[ID|CALL_ID]...")
@click.option(
    "--status",
    type=click.Choice([status.value for status in _STATUSES]),
    help="Events in this status.",
)
@click.option("--type", "type_", type=stored_name, metavar="TYPE", help="Events of this type.")
@click.option(
    "--receiver",
    type=receiver_name,
    metavar="NAME",
    help="Only this receiver, by its name in flask retell receivers.",
)
@click.option(
    "--as", "rename", type=receiver_name, metavar="NEW", help="The name that --receiver has now."
)
@by_time
@click.option("--all", "done_too", is_flag=True, help="Deliveries that are done, too.")
@click.option("--dry-run", is_flag=True, help="Only list the events.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@for_blueprint
def replay(
    state: State,
    *,
    ids: tuple[str, ...],
    status: str | None,
    type_: str | None,
    receiver: str | None,
    rename: str | None,
    since: datetime | None,
    until: datetime | None,
    done_too: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Make deliveries pending again, with all their attempts before them.

    Without ids and --status: the dead ones, of all events. What is done is left alone, unless
    --all says otherwise: a receiver then runs a second time for its event. You are asked
    before more than one event is replayed.

    \b
      flask retell replay --dry-run
      flask retell replay call_0123
      flask retell replay --receiver shop:bill --since 24h --yes

    A receiver that was renamed or moved, for what waits for it under its old name:

    \b
      flask retell replay --receiver shop:bill --as shop.billing:bill

    A new receiver, for events from before it was connected:

    \b
      flask retell replay --receiver shop:welcome --status done --since 7d

    Events that were invalid, after an upgrade that reads them:

    \b
      flask retell replay --status invalid
    """
    check_times(since, until)
    if rename is not None and receiver is None:
        raise click.UsageError("--as is the new name of a receiver: add --receiver OLD.")
    of_status = EntryStatus(status) if status else None
    wish = _Wish(ids, of_status, type_, receiver, rename, since, until, done_too)
    inbox = find_inbox(state)
    _check_names(inbox, ids)
    _check_receiver(state, inbox, wish)
    keys = maintenance.ids(inbox, wish.query())
    if not keys:
        say(paragraph(_nothing(wish)))
        return
    wanted = _wanted(state, wish)
    chosen = keys
    if dry_run or (len(keys) > 1 and not yes):
        counts = _for_each("Looking", keys, lambda key: rehearse_entry(inbox, key, wanted))
        chosen = [key for key, count in zip(keys, counts, strict=True) if count]
    if dry_run or (len(chosen) > 1 and not yes):
        _list(inbox, chosen)
    if dry_run:
        _say_what_is_left_alone(len(keys) - len(chosen))
        say("", "Nothing was changed.")
        return
    if len(chosen) > 1 and not yes:
        click.confirm(f"Replay {counted(len(chosen), 'event')}?", abort=True)
    counts = _for_each("Replaying", chosen, lambda key: replay_entry(inbox, key, wanted))
    _report(state, [count for count in counts if count], len(keys))


def _check_names(inbox: Inbox, names: Iterable[str]) -> None:
    for name in names:
        if not maintenance.ids(inbox, Query(names=[name])):
            raise click.ClickException(
                f"There is no event, call or chat {plain(name)}. Nothing was changed."
            )


def _check_receiver(state: State, inbox: Inbox, wish: _Wish) -> None:
    """What runs it will most likely have the same receivers as this process."""
    receiver = wish.rename or wish.receiver
    if receiver is None:
        return
    connected = connected_receivers(state)
    known = sorted(set().union(*connected.values()))
    if receiver not in known:
        raise click.ClickException(
            f"{plain(receiver)} is not connected here, so it would not run. Nothing was changed. "
            f"If it was renamed: --receiver OLD --as NEW. Connected: "
            f"{', '.join(map(plain, known)) or 'none'}."
        )
    signals = {name for name, heard_by in connected.items() if receiver in heard_by}
    if wish.rename and (lacking := _signals_to_take_over(inbox, wish) - signals):
        raise click.ClickException(
            f"{plain(receiver)} is not connected to {', '.join(sorted(lacking))}, which "
            f"{plain(wish.receiver or '')} heard: it would not run there. Nothing was changed. "
            "--type chooses the events of one type."
        )


def _signals_to_take_over(inbox: Inbox, wish: _Wish) -> set[str]:
    statuses = DeliveryStatus if wish.done_too else _UNFINISHED
    return {
        signal
        for status in statuses
        for signal, receiver in maintenance.waiting(inbox, status, wish.query())
        if receiver == wish.receiver
    }


def _nothing(wish: _Wish) -> str:
    if not wish.is_open:
        return "There is nothing to replay: no such events."
    if wish.receiver is None:
        return "There is nothing to replay: no such delivery is dead."
    if wish.rename is not None:
        return f"Nothing waits for {plain(wish.receiver)}, and nothing of it is dead."
    return (
        f"{plain(wish.receiver)} has no dead deliveries. For events from before it was connected: "
        "add --status done."
    )


def _wanted(state: State, wish: _Wish) -> Replay:
    if state.deliverer is None:
        raise click.ClickException("There is no inbox.")
    return Replay(state.deliverer.targets, wish.receiver, wish.rename, wish.done_too)


def _for_each(label: str, keys: list[int], count: Callable[[int], int]) -> list[int]:
    """How many deliveries of each entry, under a bar."""
    counts = []
    with progress(len(keys), label) as move:
        for key in keys:
            counts.append(count(key))
            move(1)
    return counts


def _list(inbox: Inbox, keys: list[int]) -> None:
    if not keys:
        return
    say(*entries_table(maintenance.find(inbox, keys[-_MOST_LISTED:]), inbox.clock()))
    if len(keys) > _MOST_LISTED:
        say(f"and {len(keys) - _MOST_LISTED:,} older ones")


def _report(state: State, replayed: list[int], asked_for: int) -> None:
    if replayed:
        say(
            f"Replayed {counted(len(replayed), 'event')}: "
            f"{counted(sum(replayed), 'delivery', 'deliveries')} pending."
        )
        say(paragraph(how_it_runs(state)), f"  {run_once(state)}")
    _say_what_is_left_alone(asked_for - len(replayed))


def _say_what_is_left_alone(count: int) -> None:
    if count:
        say(
            paragraph(
                f"Left alone: {counted(count, 'event')} in which there is nothing to replay. What "
                "is done runs again only with --all; and what is still no event, has no body any "
                "more, or is not for this receiver cannot be replayed."
            )
        )
