"""What happens for each event. Every function here is tried again by itself until it succeeds."""

from __future__ import annotations

from typing import Any

from retell_flask import CallEvent, GiveUp, RetellBlueprint

from . import alarm, crm, records, tasks
from .action_items import items_of

retell = RetellBlueprint()


@retell.on("call_started", "call_ended", "call_analyzed", "event_revised", name="record")
def record(sender: Any, event: CallEvent, **extra: Any) -> None:
    if event.call:  # a revision may be a chat's
        records.save_event(event)


@retell.on("transcript_updated", name="record_transcript")
def record_transcript(sender: Any, event: CallEvent, **extra: Any) -> None:
    if event.call:
        records.save_snapshot(event)


@retell.on("agent_transfer", name="record_transfer")
def record_transfer(sender: Any, event: CallEvent, **extra: Any) -> None:
    records.save(event.call.call_id, transferred_to=event.transfer and event.transfer.destination)


@retell.on("transfer_bridged", name="record_bridged")
def record_bridged(sender: Any, event: CallEvent, **extra: Any) -> None:
    records.save(event.call.call_id, transfer_bridged=True)


@retell.on("transfer_cancelled", name="record_cancelled")
def record_cancelled(sender: Any, event: CallEvent, **extra: Any) -> None:
    records.save(event.call.call_id, transfer_cancelled=True)


@retell.on("voicemail_detected", name="record_voicemail")
def record_voicemail(sender: Any, event: CallEvent, **extra: Any) -> None:
    records.save(event.call.call_id, voicemail=True)


@retell.on("call_error", name="record_error")
def record_error(sender: Any, event: CallEvent, **extra: Any) -> None:
    if event.error:
        records.save(
            event.call.call_id, error_code=event.error.code, error_message=event.error.message
        )


@retell.on("call_ended", name="make_tasks")
def make_tasks(sender: Any, event: CallEvent, **extra: Any) -> None:
    """The items are stored before the first task is made, so that a retry makes no others."""
    if event.voicemail:  # its greeting is a machine's
        return
    refused = None
    for item in items_of(event.call.call_id, event.call.transcript):
        try:
            tasks.make_task(item)
        except GiveUp as error:  # of this item; the others may be taken
            refused = error
    if refused:
        raise refused


@retell.on("call_analyzed", name="raise_alarm")
def raise_alarm(sender: Any, event: CallEvent, **extra: Any) -> None:
    if event.call.analysis and event.call.analysis.sentiment == "negative":
        alarm.raise_alarm(event.call)


@retell.on("call_analyzed", name="log_in_crm")
def log_in_crm(sender: Any, event: CallEvent, **extra: Any) -> None:
    crm.log_call(event.call)
