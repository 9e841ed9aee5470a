"""A call, as webhooks, get-call and custom functions carry it.

Fields as in ``retell-sdk``'s ``PhoneCallResponse`` and ``WebCallResponse``. Timestamps
and latencies are milliseconds, costs are US cents.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from msgspec import Raw, field
from msgspec.structs import force_setattr

from .base import Model, moment, span, unite
from .transcript import TranscriptItem, read_items


class Analysis(Model, frozen=True, kw_only=True):
    """What the post-call analysis of calls and chats has in common.

    ``user_sentiment`` is as Retell sends it (``Positive``, ``Negative``, ``Neutral``,
    ``Unknown``), ``sentiment`` is the same in lower case. Older guides send
    ``sentiment`` and ``summary`` themselves; either spelling fills both.
    """

    user_sentiment: str | None = None
    sentiment: str | None = None
    summary: str | None = None
    custom_analysis_data: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        unite(self, "user_sentiment", "sentiment")
        if self.sentiment is not None:
            force_setattr(self, "sentiment", self.sentiment.lower())


class CallAnalysis(Analysis, frozen=True, kw_only=True):
    """The analysis of a call; ``call_summary`` is also ``summary``."""

    call_summary: str | None = None
    call_successful: bool | None = None
    in_voicemail: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        unite(self, "call_summary", "summary")


class ProductCost(Model, frozen=True, kw_only=True):
    """The share of one product; ``cost`` in cents, ``unit_price`` in cents a second."""

    product: str | None = None
    cost: float | None = None
    unit_price: float | None = None
    is_transfer_leg_cost: bool | None = None


class CallCost(Model, frozen=True, kw_only=True):
    """Cents, and cents a second. May be 0 or partial in ``call_ended``."""

    product_costs: tuple[ProductCost, ...] | None = None
    total_duration_seconds: float | None = None
    total_duration_unit_price: float | None = None
    combined_cost: float | None = None


class LatencyFigures(Model, frozen=True, kw_only=True):
    """Percentiles of one latency in milliseconds, over ``num`` measurements."""

    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    min: float | None = None
    num: float | None = None
    values: tuple[float, ...] | None = None


class Latency(Model, frozen=True, kw_only=True):
    """The latencies that Retell measures, end to end (``e2e``) and by part."""

    e2e: LatencyFigures | None = None
    asr: LatencyFigures | None = None
    llm: LatencyFigures | None = None
    llm_websocket_network_rtt: LatencyFigures | None = None
    tts: LatencyFigures | None = None
    knowledge_base: LatencyFigures | None = None
    s2s: LatencyFigures | None = None


class LlmTokenUsage(Model, frozen=True, kw_only=True):
    """Tokens of each request to the language model."""

    values: tuple[float, ...] | None = None
    average: float | None = None
    num_requests: float | None = None


class TelephonyIdentifier(Model, frozen=True, kw_only=True):
    """The call's name at the telephony provider."""

    twilio_call_sid: str | None = None


class Call(Model, frozen=True, kw_only=True, dict=True):
    """A phone or web call. Which fields are there depends on the event.

    The transcript arrays are decoded when they are first read. ``end_reason`` is an older
    name of ``disconnection_reason``, and either fills both; ``transfer_number`` and
    ``error…`` are older still, and best read as ``event.transfer`` and ``event.error``.
    """

    # In the order in which Retell sends them: that is where msgspec looks first.
    call_id: str
    call_type: str | None = None
    access_token: str | None = None
    agent_id: str | None = None
    agent_version: int | None = None
    agent_name: str | None = None
    agent_tag: str | None = None
    retell_llm_dynamic_variables: dict[str, str] | None = None
    metadata: dict[str, Any] | None = None
    collected_dynamic_variables: dict[str, str] | None = None
    custom_sip_headers: dict[str, str] | None = None
    data_storage_setting: str | None = None
    opt_in_signed_url: bool | None = None
    call_status: str | None = None
    start_timestamp: int | None = None
    from_number: str | None = None
    to_number: str | None = None
    direction: str | None = None
    telephony_identifier: TelephonyIdentifier | None = None
    end_timestamp: int | None = None
    duration_ms: int | None = None
    disconnection_reason: str | None = None
    transfer_destination: str | None = None
    transfer_end_timestamp: int | None = None
    transcript: str | None = None
    _transcript_object: Raw = field(default=Raw(), name="transcript_object")
    _transcript_with_tool_calls: Raw = field(default=Raw(), name="transcript_with_tool_calls")
    _pre_session: Raw = field(default=Raw(), name="pre_session_transcript_with_tool_calls")
    _post_session: Raw = field(default=Raw(), name="post_session_transcript_with_tool_calls")
    _scrubbed: Raw = field(default=Raw(), name="scrubbed_transcript_with_tool_calls")
    _scrubbed_pre_session: Raw = field(
        default=Raw(), name="scrubbed_pre_session_transcript_with_tool_calls"
    )
    _scrubbed_post_session: Raw = field(
        default=Raw(), name="scrubbed_post_session_transcript_with_tool_calls"
    )
    recording_url: str | None = None
    recording_multi_channel_url: str | None = None
    scrubbed_recording_url: str | None = None
    scrubbed_recording_multi_channel_url: str | None = None
    public_log_url: str | None = None
    knowledge_base_retrieved_contents_url: str | None = None
    latency: Latency | None = None
    call_cost: CallCost | None = None
    llm_token_usage: LlmTokenUsage | None = None
    call_analysis: CallAnalysis | None = None

    end_reason: str | None = None
    transfer_number: str | None = None
    error: str | dict[str, Any] | None = None
    error_code: str | int | None = None
    error_message: str | None = None

    def __post_init__(self) -> None:
        unite(self, "disconnection_reason", "end_reason")

    def __repr__(self) -> str:
        return f"<Call {self.call_id!a}>"

    @property
    def analysis(self) -> CallAnalysis | None:
        """``call_analysis`` by a shorter name."""
        return self.call_analysis

    @property
    def started_at(self) -> datetime | None:
        """``start_timestamp`` as an aware UTC datetime."""
        return moment(self.start_timestamp)

    @property
    def ended_at(self) -> datetime | None:
        """``end_timestamp`` as an aware UTC datetime."""
        return moment(self.end_timestamp)

    @property
    def transfer_ended_at(self) -> datetime | None:
        """``transfer_end_timestamp`` as an aware UTC datetime."""
        return moment(self.transfer_end_timestamp)

    @property
    def duration(self) -> timedelta | None:
        """``duration_ms`` as a timedelta."""
        return span(self.duration_ms)

    @cached_property
    def transcript_object(self) -> tuple[TranscriptItem, ...] | None:
        """The utterances alone, with word timings."""
        return read_items(self._transcript_object, "call.transcript_object")

    @cached_property
    def transcript_with_tool_calls(self) -> tuple[TranscriptItem, ...] | None:
        """Utterances, tool calls, transitions and whatever else happened, in order."""
        return read_items(self._transcript_with_tool_calls, "call.transcript_with_tool_calls")

    @cached_property
    def pre_session_transcript_with_tool_calls(self) -> tuple[TranscriptItem, ...] | None:
        """What ran before the first word."""
        return read_items(self._pre_session, "call.pre_session_transcript_with_tool_calls")

    @cached_property
    def post_session_transcript_with_tool_calls(self) -> tuple[TranscriptItem, ...] | None:
        """What ran after the last word."""
        return read_items(self._post_session, "call.post_session_transcript_with_tool_calls")

    @cached_property
    def scrubbed_transcript_with_tool_calls(self) -> tuple[TranscriptItem, ...] | None:
        """The same without personal data, where the agent is set to scrub it."""
        return read_items(self._scrubbed, "call.scrubbed_transcript_with_tool_calls")

    @cached_property
    def scrubbed_pre_session_transcript_with_tool_calls(
        self,
    ) -> tuple[TranscriptItem, ...] | None:
        """``pre_session_transcript_with_tool_calls`` without personal data."""
        return read_items(
            self._scrubbed_pre_session, "call.scrubbed_pre_session_transcript_with_tool_calls"
        )

    @cached_property
    def scrubbed_post_session_transcript_with_tool_calls(
        self,
    ) -> tuple[TranscriptItem, ...] | None:
        """``post_session_transcript_with_tool_calls`` without personal data."""
        return read_items(
            self._scrubbed_post_session, "call.scrubbed_post_session_transcript_with_tool_calls"
        )
