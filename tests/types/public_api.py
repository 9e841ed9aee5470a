"""Never run: mypy reads it, and fails where the public types are not these."""

from __future__ import annotations

from collections.abc import Iterator
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
    InboundAnswer,
    InboundCall,
    InboundMessage,
    RetellBlueprint,
    RetellClient,
    Transfer,
    WebCall,
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


@retell.inbound("call", default=InboundAnswer(override_agent_id="agent_1"))
def answer_call(inbound: InboundCall) -> InboundAnswer:
    return InboundAnswer(dynamic_variables={"number": inbound.from_number})


@retell.inbound("message")
def answer_message(inbound: InboundMessage) -> InboundAnswer | None:
    assert_type(inbound.chat_id, str | None)
    return None


@retell.function
def add(one: int, another: int = 1, *, call: Call) -> int:
    return one + another


@retell.function("hang-up", description="Hang up.")
async def hang_up(*, call: Call | None) -> None:
    assert_type(add(1), int)  # type: ignore[call-arg]


def call_somebody() -> None:
    client = retell.client
    assert_type(client, RetellClient)
    assert_type(client.create_phone_call("+14155550100", "+14155550142", metadata={}), Call)
    assert_type(client.create_web_call("agent_1"), WebCall)
    assert_type(client.get_call("call_1"), Call)
    assert_type(client.list_calls(call_status="ended", limit=3), Iterator[Call])
    assert_type(retell.backfill(timedelta(hours=1)).events, int)
