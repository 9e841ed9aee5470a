"""What happens for each event. Every function here is tried again by itself until it succeeds."""

from __future__ import annotations

from typing import Any

from retell_flask import CallEvent, GiveUp, RetellBlueprint

from . import alarm, crm, records, tasks
from .action_items import items_of
from .models import Call, db

retell = RetellBlueprint()


@retell.on("event_received", name="record")
def record(sender: Any, event: CallEvent, **extra: Any) -> None:
    """Each event of a call tells something of it, also one that is told again otherwise."""
    if event.call:  # and not a chat, or an alert
        records.save_event(event)


@retell.on("call_ended", "event_revised", name="make_tasks")
def make_tasks(sender: Any, event: CallEvent, **extra: Any) -> None:
    """The items are stored before the first task is made, so that a retry makes no others.

    The transcript may come only when the end of a call is told again. That a voicemail answered
    may be known only from the analysis, which comes too late for this.
    """
    if event.type != "call_ended":
        return
    call = db.session.get(Call, event.call.call_id)
    if event.voicemail or (call and call.voicemail):  # its greeting is a machine's
        return
    refused = None
    for item in items_of(event.call.call_id, event.call.transcript):
        try:
            tasks.make_task(item)
        except GiveUp as error:  # of this item; the others may be taken
            refused = error
    if refused:
        raise refused


@retell.on("call_analyzed", "event_revised", name="raise_alarm")
def raise_alarm(sender: Any, event: CallEvent, **extra: Any) -> None:
    """Also where the analysis was negative only when it was made again; once for a call."""
    if event.call and event.call.analysis and event.call.analysis.sentiment == "negative":
        alarm.raise_alarm(event.call)


@retell.on("call_analyzed", name="log_in_crm")
def log_in_crm(sender: Any, event: CallEvent, **extra: Any) -> None:
    crm.log_call(event.call)
