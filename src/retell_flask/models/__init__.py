"""What Retell sends, typed."""

from __future__ import annotations

from .alert import Alert
from .call import Call, CallAnalysis, CallCost, Latency, LatencyFigures, LlmTokenUsage, ProductCost
from .chat import Chat, ChatAnalysis, ChatCost
from .disconnection import DISCONNECTION_REASONS, DisconnectionReason
from .outcome import CallFailure, Transfer
from .transcript import (
    AgentUtterance,
    Dtmf,
    Injected,
    Item,
    NodeTransition,
    Sms,
    StateTransition,
    ToolCallInvocation,
    ToolCallResult,
    TranscriptItem,
    TransferTargetUtterance,
    UnknownItem,
    UserUtterance,
    Utterance,
    Word,
)

__all__ = [
    "DISCONNECTION_REASONS",
    "AgentUtterance",
    "Alert",
    "Call",
    "CallAnalysis",
    "CallCost",
    "CallFailure",
    "Chat",
    "ChatAnalysis",
    "ChatCost",
    "DisconnectionReason",
    "Dtmf",
    "Injected",
    "Item",
    "Latency",
    "LatencyFigures",
    "LlmTokenUsage",
    "NodeTransition",
    "ProductCost",
    "Sms",
    "StateTransition",
    "ToolCallInvocation",
    "ToolCallResult",
    "TranscriptItem",
    "Transfer",
    "TransferTargetUtterance",
    "UnknownItem",
    "UserUtterance",
    "Utterance",
    "Word",
]
