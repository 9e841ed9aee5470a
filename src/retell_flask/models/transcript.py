"""Transcript items of calls and chats, one class for each role.

Fields as in ``retell-sdk``'s ``PhoneCallResponse`` and ``ChatResponse``. Calls send
``words`` and ``metadata``, chats send ``message_id``, ``created_timestamp`` and
``multimedia``; the other side's fields are None.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from ..decoding import FAULTS, Decoder, warn_of_odd
from .base import Model, moment


class Word(Model, frozen=True, kw_only=True):
    """A spoken word; ``start`` and ``end`` are seconds of audio time, approximate."""

    word: str | None = None
    start: float | None = None
    end: float | None = None


class BackupModelUsed(Model, frozen=True, kw_only=True):
    """Why another language model than the agent's own wrote this turn; times in ms."""

    model: str | None = None
    primary_model: str | None = None
    backup_model: str | None = None
    reason: str | None = None
    selection_latency_ms: float | None = None
    primary_ready_ms: float | None = None
    backup_ready_ms: float | None = None


class ItemMetadata(Model, frozen=True, kw_only=True):
    """What Retell notes about a turn."""

    response_id: int | None = None
    interrupt_id: int | None = None
    is_backchannel: bool | None = None
    backup_model_used: BackupModelUsed | None = None


class Multimedia(Model, frozen=True, kw_only=True):
    """A picture or file of a text message."""

    url: str | None = None
    summary: str | None = None


class Item(Model, frozen=True, kw_only=True, tag_field="role"):
    """What every item has. ``role`` is Retell's name of its kind."""

    message_id: str | None = None
    created_timestamp: int | None = None

    @property
    def role(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def created_at(self) -> datetime | None:
        """``created_timestamp`` (ms) as an aware UTC datetime; chats only."""
        return moment(self.created_timestamp)


class Utterance(Item, frozen=True, kw_only=True):
    """Something that was said or written, by whoever the subclass names."""

    content: str | None = None
    words: tuple[Word, ...] | None = None
    metadata: ItemMetadata | None = None
    multimedia: tuple[Multimedia, ...] | None = None


class AgentUtterance(Utterance, frozen=True, kw_only=True, tag="agent"):
    """The AI agent spoke."""


class UserUtterance(Utterance, frozen=True, kw_only=True, tag="user"):
    """The person on the line spoke."""


class TransferTargetUtterance(Utterance, frozen=True, kw_only=True, tag="transfer_target"):
    """Whoever the call was transferred to spoke."""


class ToolCallInvocation(Item, frozen=True, kw_only=True, tag="tool_call_invocation"):
    """The agent calls a tool; ``arguments`` is JSON in a string."""

    tool_call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    type: str | None = None
    thought_signature: str | None = None
    metadata: ItemMetadata | None = None


class ToolCallResult(Item, frozen=True, kw_only=True, tag="tool_call_result"):
    """What the tool answered."""

    tool_call_id: str | None = None
    content: str | None = None
    successful: bool | None = None


class NodeTransition(Item, frozen=True, kw_only=True, tag="node_transition"):
    """The conversation flow moved from one node to another."""

    former_node_id: str | None = None
    former_node_name: str | None = None
    new_node_id: str | None = None
    new_node_name: str | None = None
    transition_type: str | None = None


class StateTransition(Item, frozen=True, kw_only=True, tag="state_transition"):
    """A chat agent moved from one state to another."""

    former_state_name: str | None = None
    new_state_name: str | None = None


class Dtmf(Item, frozen=True, kw_only=True, tag="dtmf"):
    """A key was pressed on the phone."""

    digit: str | None = None


class Sms(Item, frozen=True, kw_only=True, tag="sms"):
    """A text message; ``time_sec`` is seconds of audio time."""

    content: str | None = None
    time_sec: float | None = None
    multimedia: tuple[Multimedia, ...] | None = None


class Injected(Item, frozen=True, kw_only=True, tag="injected"):
    """Text that was put into the conversation from outside; ``time_sec`` in seconds."""

    content: str | None = None
    time_sec: float | None = None


class UnknownItem(Item, frozen=True, kw_only=True):
    """An item of a role that this version does not know, as it was sent."""

    payload: dict[str, Any]

    @property
    def role(self) -> str:
        return str(self.payload.get("role"))


KnownItem: TypeAlias = (
    AgentUtterance
    | UserUtterance
    | TransferTargetUtterance
    | ToolCallInvocation
    | ToolCallResult
    | NodeTransition
    | StateTransition
    | Dtmf
    | Sms
    | Injected
)
TranscriptItem: TypeAlias = KnownItem | UnknownItem

_ITEMS: Decoder[tuple[TranscriptItem, ...] | None] = Decoder(
    tuple[KnownItem, ...] | None,
    unknown=lambda sent: UnknownItem(payload=sent),
)


def read_items(raw: msgspec.Raw, path: str) -> tuple[TranscriptItem, ...] | None:
    """Decode an array of items; ``path`` is where it stands, for the warning."""
    if not bytes(raw):
        return None
    odd: list[str] = []
    try:
        return _ITEMS.decode(raw, odd, path)
    except FAULTS:
        return None
    finally:
        warn_of_odd(odd)
