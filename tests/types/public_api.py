"""Never run: mypy reads it, and fails where the public types are not these."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from blinker import Signal
from flask import Flask
from typing_extensions import assert_type

from retell_flask import (
    Alert,
    AlertEvent,
    Call,
    CallEvent,
    CallFailure,
    Chat,
    ChatEvent,
    Event,
    RetellBlueprint,
    Transfer,
    call_ended,
    parse_event,
)
from retell_flask.models import AgentUtterance, CallAnalysis, ToolCallInvocation, TranscriptItem

retell = RetellBlueprint("retell", url_prefix="/hooks", config_prefix="RETELL")
Flask("host").register_blueprint(retell)
assert_type(call_ended, Signal)


@call_ended.connect_via(retell)
def store(sender: RetellBlueprint, event: CallEvent, **extra: object) -> None:
    assert_type(event.call, Call)
    assert_type(event.call.duration, timedelta | None)
    assert_type(event.call.started_at, datetime | None)
    assert_type(event.call.call_analysis, CallAnalysis | None)
    assert_type(event.transfer, Transfer | None)
    assert_type(event.error, CallFailure | None)
    assert_type(event.voicemail, bool)
    assert_type(event.payload, dict[str, Any])
    assert_type(event.raw, bytes)
    assert_type(event.call.transcript_object, tuple[TranscriptItem, ...] | None)
    for item in event.call.transcript_with_tool_calls or ():
        if isinstance(item, ToolCallInvocation):
            assert_type(item.arguments, str | None)
        elif isinstance(item, AgentUtterance):
            assert_type(item.content, str | None)


@retell.on("call_ended", call_ended, name="fixed")
async def asynchronous(sender: RetellBlueprint, event: Event, **extra: object) -> None:
    assert_type(event.call, Call | None)


def subjects(chat: ChatEvent, alert: AlertEvent) -> None:
    assert_type(chat.chat, Chat)
    assert_type(alert.alert, Alert)


assert_type(parse_event(b""), Event)
