from __future__ import annotations

import msgspec
import pytest

from retell_flask import Chat, ChatEvent
from retell_flask.events import parse_event
from retell_flask.models import ToolCallResult, UserUtterance
from retell_flask.testing import encode, sample


def test_fields_of_a_whole_chat() -> None:
    event = parse_event(encode(sample("chat_analyzed")))
    assert isinstance(event, ChatEvent)
    chat = event.chat
    assert event.session_id == chat.chat_id
    assert chat.started_at is not None
    assert chat.ended_at is not None
    assert chat.ended_at > chat.started_at
    assert chat.analysis is not None
    assert (chat.analysis.sentiment, chat.analysis.user_sentiment) == ("neutral", "Neutral")
    assert chat.analysis.summary == chat.analysis.chat_summary is not None
    assert repr(chat) == f"<Chat '{chat.chat_id}'>"


def test_messages_are_typed_by_role() -> None:
    chat = parse_event(encode(sample("chat_analyzed"))).chat
    assert chat is not None
    messages = chat.message_with_tool_calls
    assert messages is not None
    assert isinstance(messages[0], UserUtterance)
    assert messages[0].created_at is not None
    assert messages[0].message_id == "msg_01"
    assert isinstance(messages[2], ToolCallResult)
    assert messages[2].successful is True


def test_transcript_updated_of_a_chat_agent_reads_the_top_level() -> None:
    items = [{"role": "user", "content": "Hello"}]
    body = {
        "event": "transcript_updated",
        "chat": {"chat_id": "chat_1"},
        "transcript_with_tool_calls": items,
    }
    chat = parse_event(encode(body)).chat
    assert chat is not None
    assert chat.transcript_with_tool_calls == (UserUtterance(content="Hello"),)


LAZY = [field.encode_name for field in msgspec.structs.fields(Chat) if field.type is msgspec.Raw]


@pytest.mark.parametrize("name", LAZY)
def test_every_array_of_items_is_read_from_its_own_field(name: str) -> None:
    items = {name: [{"role": "user", "content": name}]}
    chat = parse_event(encode({"event": "chat_ended", "chat": {"chat_id": "c", **items}})).chat
    assert len(LAZY) == 7
    assert {n: getattr(chat, n) for n in LAZY if getattr(chat, n)} == {
        name: (UserUtterance(content=name),)
    }
