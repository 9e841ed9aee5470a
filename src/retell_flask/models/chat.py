"""A chat. Fields as in ``retell-sdk``'s ``ChatResponse``; timestamps in ms, costs in cents.

There is no number of either side: correlate through ``metadata`` or the dynamic
variables that the answer to ``chat_inbound`` sets.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any

from msgspec import Raw, field

from .base import Model, moment, unite
from .call import Analysis, ProductCost
from .transcript import TranscriptItem, read_items


class ChatAnalysis(Analysis, frozen=True, kw_only=True):
    """The analysis of a chat; ``chat_summary`` is also ``summary``."""

    chat_summary: str | None = None
    chat_successful: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        unite(self, "chat_summary", "summary")


class ChatCost(Model, frozen=True, kw_only=True):
    """Cents."""

    product_costs: tuple[ProductCost, ...] | None = None
    combined_cost: float | None = None


class Chat(Model, frozen=True, kw_only=True, dict=True):
    """A chat by API or SMS. The message arrays are decoded when they are first read."""

    chat_id: str
    chat_type: str | None = None
    chat_status: str | None = None
    agent_id: str | None = None
    agent_tag: str | None = None
    version: int | None = None
    start_timestamp: int | None = None
    end_timestamp: int | None = None
    transcript: str | None = None
    metadata: dict[str, Any] | None = None
    custom_attributes: dict[str, str | float | bool] | None = None
    retell_llm_dynamic_variables: dict[str, str] | None = None
    collected_dynamic_variables: dict[str, str] | None = None
    chat_cost: ChatCost | None = None
    chat_analysis: ChatAnalysis | None = None

    _messages: Raw = field(default=Raw(), name="message_with_tool_calls")
    _transcript_with_tool_calls: Raw = field(default=Raw(), name="transcript_with_tool_calls")
    _pre_session: Raw = field(default=Raw(), name="pre_session_message_with_tool_calls")
    _post_session: Raw = field(default=Raw(), name="post_session_message_with_tool_calls")
    _scrubbed: Raw = field(default=Raw(), name="scrubbed_message_with_tool_calls")
    _scrubbed_pre_session: Raw = field(
        default=Raw(), name="scrubbed_pre_session_message_with_tool_calls"
    )
    _scrubbed_post_session: Raw = field(
        default=Raw(), name="scrubbed_post_session_message_with_tool_calls"
    )

    def __repr__(self) -> str:
        return f"<Chat {self.chat_id!a}>"

    @property
    def analysis(self) -> ChatAnalysis | None:
        """``chat_analysis`` by a shorter name."""
        return self.chat_analysis

    @property
    def started_at(self) -> datetime | None:
        """``start_timestamp`` as an aware UTC datetime."""
        return moment(self.start_timestamp)

    @property
    def ended_at(self) -> datetime | None:
        """``end_timestamp`` as an aware UTC datetime."""
        return moment(self.end_timestamp)

    @cached_property
    def message_with_tool_calls(self) -> tuple[TranscriptItem, ...] | None:
        """Messages, tool calls, transitions and whatever else happened, in order."""
        return read_items(self._messages, "chat.message_with_tool_calls")

    @cached_property
    def transcript_with_tool_calls(self) -> tuple[TranscriptItem, ...] | None:
        """What ``transcript_updated`` carries for a chat agent (Retell does not document it)."""
        return read_items(self._transcript_with_tool_calls, "chat.transcript_with_tool_calls")

    @cached_property
    def pre_session_message_with_tool_calls(self) -> tuple[TranscriptItem, ...] | None:
        """What ran before the first message."""
        return read_items(self._pre_session, "chat.pre_session_message_with_tool_calls")

    @cached_property
    def post_session_message_with_tool_calls(self) -> tuple[TranscriptItem, ...] | None:
        """What ran after the last message."""
        return read_items(self._post_session, "chat.post_session_message_with_tool_calls")

    @cached_property
    def scrubbed_message_with_tool_calls(self) -> tuple[TranscriptItem, ...] | None:
        """The messages without personal data, where the agent is set to scrub it."""
        return read_items(self._scrubbed, "chat.scrubbed_message_with_tool_calls")

    @cached_property
    def scrubbed_pre_session_message_with_tool_calls(self) -> tuple[TranscriptItem, ...] | None:
        """``pre_session_message_with_tool_calls`` without personal data."""
        return read_items(
            self._scrubbed_pre_session, "chat.scrubbed_pre_session_message_with_tool_calls"
        )

    @cached_property
    def scrubbed_post_session_message_with_tool_calls(
        self,
    ) -> tuple[TranscriptItem, ...] | None:
        """``post_session_message_with_tool_calls`` without personal data."""
        return read_items(
            self._scrubbed_post_session, "chat.scrubbed_post_session_message_with_tool_calls"
        )
