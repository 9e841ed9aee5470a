"""Troubles of the delivering: what failed, what waits, and for what."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from ..inbox.entry import Delivery, DeliveryStatus, Entry, EntryStatus, Stage, stage_of
from .advice import command, how_it_runs, is_connected, renaming, run_once
from .hints import Case, Hint
from .text import age, counted, moment

_PATIENCE = timedelta(minutes=1)  # after which something else than a busy moment is the cause
_UNFINISHED = (EntryStatus.PENDING, EntryStatus.RUNNING)


def _dead(case: Case) -> Iterator[Hint]:
    for entry, deliveries, *_ in case.all_seen:
        dead = [
            delivery
            for delivery in deliveries
            if delivery.status is DeliveryStatus.DEAD and is_connected(case.state, delivery)
        ]
        if dead and entry.status is not EntryStatus.FORGOTTEN:
            yield Hint(
                "delivery dead",
                entry.event_id,
                "; ".join(map(_last_words, dead)),
                "Mend what failed, and let it run again:",
                command(f"replay {shlex.quote(case.name)}", case.state),
            )


def _last_words(delivery: Delivery) -> str:
    error = f": {delivery.error}" if delivery.error else ""
    return f"{delivery.receiver} failed for good at attempt {delivery.attempts}{error}"


def _not_connected(case: Case) -> Iterator[Hint]:
    for entry, deliveries, *_ in case.all_seen:
        for delivery in deliveries:
            is_open = delivery.status is not DeliveryStatus.DONE
            if (
                is_open
                and entry.status is not EntryStatus.FORGOTTEN
                and not is_connected(case.state, delivery)
            ):
                yield Hint(
                    "receiver not connected here",
                    entry.event_id,
                    f"{delivery.receiver} has to hear it, and is not connected to "
                    f"{delivery.signal} here.",
                    "Is the module that it is in imported? If it was renamed:",
                    renaming(delivery.receiver, case.state),
                )


def _waiting_for_turn(case: Case) -> Iterator[Hint]:
    for entry, *_ in case.all_seen:
        if entry.status is EntryStatus.PENDING and entry.next_attempt_at <= case.now:
            others = [seen.entry for seen in case.beside(entry)]
            yield from _held_up(case, entry, others) or _left_lying(case, entry)


def _held_up(case: Case, entry: Entry, others: list[Entry]) -> list[Hint]:
    running = [other for other in others if other.status is EntryStatus.RUNNING]
    if running:
        (first, *_) = running
        found = f"{first.type} ({first.event_id}) of the same call runs, and it is one at a time."
        return [_turn(entry, found, "Wait: it is next when that one is through.")]
    deadline = entry.received_at + case.inbox.settings.order_wait
    if deadline <= case.now:
        return []
    option = f"{case.state.blueprint.config_prefix}_ORDER_WAIT"
    check = f"Wait: until {moment(deadline)} UTC at the latest ({option})."
    return [_turn(entry, found, check) for found in _reasons_to_wait(entry, others)][:1]


def _reasons_to_wait(entry: Entry, others: list[Entry]) -> Iterator[str]:
    for other in others:
        if other.status in _UNFINISHED and _place(other) < _place(entry):
            yield f"{other.type} ({other.event_id}) comes first, and is {other.status.value}."
    stages = {stage_of(other.type) for other in others}
    if stage_of(entry.type) is Stage.ANALYZED and Stage.ENDED not in stages:
        yield f"{entry.type.replace('analyzed', 'ended')} comes first, and is not here yet."


def _place(entry: Entry) -> tuple[int, int]:
    return stage_of(entry.type).value, entry.id


def _turn(entry: Entry, found: str, check: str) -> Hint:
    return Hint("waiting for its turn", entry.event_id, found, check)


def _left_lying(case: Case, entry: Entry) -> list[Hint]:
    overdue = case.now - entry.next_attempt_at
    if overdue < _PATIENCE:
        return []
    found = f"It has been due for {age(overdue)}, and nothing takes it up."
    advice, once = how_it_runs(case.state), run_once(case.state)
    return [Hint("not delivered", entry.event_id, found, advice, once)]


def _abandoned(case: Case) -> Iterator[Hint]:
    for entry, *_ in case.all_seen:
        expires = entry.lease_expires_at
        if entry.status is EntryStatus.RUNNING and expires and expires < case.now:
            yield Hint(
                "not delivered",
                entry.event_id,
                f"Its lease ran out {age(case.now - expires)} ago: the process that ran it ended "
                "or stands still.",
                how_it_runs(case.state),
                run_once(case.state),
            )


def _invalid(case: Case) -> Iterator[Hint]:
    for entry, _, _, fault in case.all_seen:
        if entry.status is EntryStatus.INVALID:
            yield Hint(
                "invalid",
                entry.event_id,
                f"Rightly signed, and no event. {fault}".strip(),
                "Once a newer release reads it, replay it. To look at it:",
                command(f"show {entry.event_id} --body", case.state),
            )


def _superseded(case: Case) -> Iterator[Hint]:
    replaced = [
        seen.entry for seen in case.all_seen if seen.entry.status is EntryStatus.SUPERSEDED
    ]
    for entry in _last_of_each_session(replaced):
        count = sum(other.session == entry.session for other in replaced)
        option = f"{case.state.blueprint.config_prefix}_TRANSCRIPTS"
        yield Hint(
            "superseded",
            entry.event_id,
            f"{counted(count, 'snapshot')} of the transcript had not reached every receiver when "
            "a newer one came.",
            f'Nothing: the newer one has all of it. {option} = "all" delivers each.',
        )


def _last_of_each_session(entries: Iterable[Entry]) -> list[Entry]:
    return list({entry.session: entry for entry in entries}.values())


DELIVERY_LOOKS: tuple[Callable[[Case], Iterator[Hint]], ...] = (
    _dead,
    _not_connected,
    _waiting_for_turn,
    _abandoned,
    _invalid,
    _superseded,
)
