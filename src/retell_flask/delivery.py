"""One event to its receivers, each with a record of its own, and whether to try again."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import Enum

from msgspec.structs import replace

from .errors import GiveUp, InboxError, PayloadError, Retry
from .events import Event
from .identity import Receiver, signal_name
from .inbox.entry import (
    Claim,
    Delivery,
    DeliveryStatus,
    EntryStatus,
    Result,
    Target,
    once_key,
    storable,
)
from .inbox.pruning import Pruner
from .inbox.store import Inbox
from .invocation import Invoker, Outcome, log_outcome, loggable, text_of
from .leases import LeaseKeeper
from .signals import OUTCOMES, SIGNALS, delivery_dead, delivery_failed, signals_for
from .throttle import Throttle, withheld_note

_logger = logging.getLogger(__name__)
_random = random.SystemRandom()  # processes that were forked must not draw alike

_FIRST_RETRY = timedelta(seconds=5)
_LAST_RETRY = timedelta(hours=1)
_LONGEST_RETRY_ASKED = timedelta(days=365)
_LONGEST_ERROR = 1000
_OUTAGE_PAUSE_SECONDS = 0.5
# What is left of Retell's 10 seconds is short: better 503 than no answer.
INLINE_PATIENCE_SECONDS = 5.0


class Verdict(Enum):
    """What became of an entry that was to be delivered at once."""

    FINISHED = "finished"  # each receiver is done, or dead
    FAILED = "failed"  # one is to be tried again
    BUSY = "busy"  # it, or another of its call, runs elsewhere


class NotConnected(Exception):
    """A receiver that the entry was given and that this process does not have."""

    def __init__(self, receiver: str) -> None:
        super().__init__(
            f"{receiver} is not connected here. If it was renamed: flask retell replay "
            f"--receiver {receiver} --as NEW"
        )


def deliver_directly(invoker: Invoker, event: Event) -> list[Outcome]:
    """Call all receivers, also behind one that raised, and keep no record."""
    # No local holds the outcomes: their errors' tracebacks hold this frame, and the circle
    # would keep the body until the next garbage collection.
    return [
        _deliver_one(invoker, event, signal_name(signal), identity, receiver)
        for signal in signals_for(event)
        for identity, receiver in invoker.hearing(signal)
    ] or _log_nobody(event)


def _deliver_one(
    invoker: Invoker, event: Event, signal: str, identity: str, receiver: Receiver
) -> Outcome:
    outcome = invoker.invoke(event, signal, identity, receiver)
    try:
        log_outcome(outcome, event)
        if outcome.failed:
            _report(invoker, event, outcome, Result(DeliveryStatus.PENDING))
        return outcome
    finally:
        del outcome


class UnknownEntry(Exception):
    """There is no entry of this id in this inbox."""


class Deliverer:
    """Delivers what is in the inbox to the receivers that are connected in this process."""

    def __init__(self, invoker: Invoker, inbox: Inbox) -> None:
        self.inbox = inbox
        self.stopping: threading.Event = threading.Event()
        self._invoker = invoker
        self._keeper = LeaseKeeper(inbox)
        self._pruner = Pruner(inbox)
        self._throttle = Throttle()
        self._types_without_receivers: set[str] = set()

    def deliver_next(self, on_claim: Callable[[], None] = lambda: None) -> bool:
        """Run what is due of one entry. False if none is. Raises ``InboxError``.

        ``on_claim`` is called before the receivers are.
        """
        claim = self.inbox.claim_due(self.targets)
        if claim is None:
            self.prune_some()
            return False
        on_claim()
        self._run(claim)
        self.prune_some()
        return True

    def deliver_due(self, entry_id: int, as_of: datetime | None = None) -> int | None:
        """Run what is due of an entry whose turn it is, and say which of its call's is next.

        ``as_of``: when, by the clock of a host that says that it is due. Raises ``InboxError``,
        and ``UnknownEntry``.
        """
        claim = self.inbox.claim_due_entry(entry_id, self.targets, as_of)
        if claim is None:
            if not self.inbox.has_entry(entry_id):
                raise UnknownEntry
            return None
        self._run(claim)
        session = claim.entry.session
        return None if session is None else self.inbox.find_next(session)

    def prune_some(self) -> None:
        """Delete a few of the entries that are too old. Raises ``InboxError``."""
        self._pruner.prune_some()

    def deliver_entry(self, entry_id: int) -> Verdict:
        """Run what is not done of one entry, now. Raises ``InboxError``."""
        claim = self.inbox.claim_entry(entry_id, self.targets)
        if isinstance(claim, EntryStatus):
            is_open = claim in (EntryStatus.PENDING, EntryStatus.RUNNING)
            return Verdict.BUSY if is_open else Verdict.FINISHED
        failed = self._run(claim, INLINE_PATIENCE_SECONDS)
        if claim.lost:
            return Verdict.BUSY
        self.prune_some()
        return Verdict.FAILED if failed else Verdict.FINISHED

    def targets(self, event: Event) -> list[Target]:
        """Who has to hear an event, of those that are connected in this process."""
        return [
            Target(name, identity, self._once(event, name, identity))
            for signal in signals_for(event)
            for name in [signal_name(signal)]
            for identity, _ in self._invoker.hearing(signal)
        ]

    def _once(self, event: Event, signal: str, identity: str) -> bytes | None:
        if signal not in OUTCOMES or event.session_id is None:
            return None
        return once_key(self.inbox.blueprint, event.session_id, signal, identity)

    def _run(self, claim: Claim, patience: float | None = None) -> bool:
        """Run the claim's deliveries one by one; whether one has to be tried again."""
        if claim.event is None:
            fault = type(claim.fault).__name__
            _logger.error("%s cannot be delivered: %s", claim.entry.event_id, fault)
            return not isinstance(claim.fault, PayloadError)
        if claim.is_unheard:
            self._log_nobody_once(claim.event)
        failed = False
        try:
            with self._keeper.keeping(claim):
                for delivery in claim.exhausted:
                    self._bury(claim.event, delivery)
                while claim.current is not None:
                    failed |= self._attempt(claim, claim.event, claim.current, patience)
        except BaseException:  # an interrupt, or a fault of ours: the rest is for later
            self._give_back(claim)
            raise
        return failed

    def _give_back(self, claim: Claim) -> None:
        if claim.current is not None:
            with contextlib.suppress(InboxError):
                self.inbox.release(claim)

    def _attempt(
        self, claim: Claim, event: Event, delivery: Delivery, patience: float | None
    ) -> bool:
        event = replace(event, attempt=delivery.attempts) if delivery.attempts > 1 else event
        process = os.getpid()
        outcome = self._invoke(event, delivery)
        if os.getpid() != process:  # the receiver forked, and this is its child
            os._exit(int(outcome.error is not None))
        try:
            result = decide(outcome.error, delivery.attempts, self.inbox)
            # Before anything that could fail: a result that is lost makes the receiver run again.
            self._record(claim, result, patience)
            log_outcome(outcome, event, _outlook(result, delivery, self.inbox))
            if not claim.lost:
                _report(self._invoker, event, outcome, result)
            return result.status is DeliveryStatus.PENDING
        finally:
            del outcome  # its traceback holds this frame

    def _invoke(self, event: Event, delivery: Delivery) -> Outcome:
        signal = SIGNALS.get(delivery.signal)
        # Muting keeps a signal from new entries, and takes no delivery back.
        hearing = dict(self._invoker.all_hearing(signal)) if signal else {}
        receiver = hearing.get(delivery.receiver)
        if receiver is None:
            missing = NotConnected(delivery.receiver)
            return Outcome(delivery.signal, delivery.receiver, missing, 0.0)
        return self._invoker.invoke(event, delivery.signal, delivery.receiver, receiver)

    def _record(self, claim: Claim, result: Result, patience: float | None) -> None:
        """A result that is lost would make its receiver run again: wait for the inbox."""
        began = time.monotonic()
        while True:
            try:
                self.inbox.advance(claim, result, stop=self.stopping.is_set())
                return
            except InboxError as error:
                withheld = self._throttle.admit("record")
                if withheld is not None:
                    note = withheld_note(withheld)
                    _logger.warning("%s A result waits to be recorded%s", error, note)
                waited = time.monotonic() - began
                if self.stopping.is_set() or (patience is not None and waited > patience):
                    claim.current = None
                    raise
            self.stopping.wait(_OUTAGE_PAUSE_SECONDS)

    def _bury(self, event: Event, delivery: Delivery) -> None:
        error = RuntimeError("The process ended each time while this receiver ran.")
        outcome = Outcome(delivery.signal, delivery.receiver, error, 0.0)
        event = replace(event, attempt=delivery.attempts)
        result = Result(DeliveryStatus.DEAD)
        log_outcome(outcome, event, _outlook(result, delivery, self.inbox))
        _report(self._invoker, event, outcome, result)

    def _log_nobody_once(self, event: Event) -> None:
        if event.type not in self._types_without_receivers:
            self._types_without_receivers.add(event.type)
            _log_nobody(event)


def decide(error: BaseException | None, attempts: int, inbox: Inbox) -> Result:
    """What becomes of a delivery after an attempt, its ``attempts``-th."""
    if error is None:
        return Result(DeliveryStatus.DONE)
    text = _describe(error)
    if isinstance(error, GiveUp) or attempts >= inbox.settings.max_attempts:
        return Result(DeliveryStatus.DEAD, text)
    after = getattr(error, "after", None) if isinstance(error, Retry) else None
    return Result(DeliveryStatus.PENDING, text, inbox.clock() + _pause(after, attempts))


def _pause(asked: timedelta | None, attempts: int) -> timedelta:
    if isinstance(asked, timedelta):
        return max(timedelta(0), min(asked, _LONGEST_RETRY_ASKED))
    return backoff(attempts)


def backoff(attempts: int) -> timedelta:
    """Exponential with full jitter: from 5 s to 10 s, 20 s, 40 s … and at most an hour."""
    longest = min(_FIRST_RETRY * 2 ** min(attempts, 20), _LAST_RETRY)
    return _random.uniform(1, longest / _FIRST_RETRY) * _FIRST_RETRY


def _describe(error: BaseException) -> str:
    name = "" if isinstance(error, GiveUp) else f"{type(error).__name__}: "
    return storable(name + text_of(error), _LONGEST_ERROR)


def _outlook(result: Result, delivery: Delivery, inbox: Inbox) -> str:
    attempt = f"attempt {delivery.attempts} of {inbox.settings.max_attempts}"
    if result.status is DeliveryStatus.DONE:
        return ""
    if result.retry_at is None:
        return f"{attempt}: dead, until flask retell replay"
    return f"{attempt}, next in {_seconds(result.retry_at, inbox.clock()):.0f} s"


def _seconds(later: datetime, now: datetime) -> float:
    return max(0.0, (later - now).total_seconds())


def _report(invoker: Invoker, event: Event, outcome: Outcome, result: Result) -> None:
    if result.status is DeliveryStatus.DONE:
        return
    about = {
        "event": event,
        "receiver": outcome.receiver,
        "error": outcome.error,
        "attempt": event.attempt,
    }
    try:
        if result.status is DeliveryStatus.DEAD:
            invoker.report(delivery_dead, **about)
        else:
            invoker.report(delivery_failed, **about, retry_at=result.retry_at)
    finally:
        del about, outcome  # the error's traceback holds a frame that holds these


def _log_nobody(event: Event) -> list[Outcome]:
    _logger.info(
        "Nobody listens to %s%s of %s",
        "a revision of " if event.revision else "",
        loggable(event.type),
        loggable(event.session_id or event.id),
    )
    return []
