"""What Retell sends, typed."""

from __future__ import annotations

from .alert import Alert
from .call import (
    Call,
    CallAnalysis,
    CallCost,
    Latency,
    LatencyFigures,
    LlmTokenUsage,
    ProductCost,
    TelephonyIdentifier,
)
from .chat import Chat, ChatAnalysis, ChatCost
from .disconnection import DISCONNECTION_REASONS, DisconnectionReason
from .inbound import Inbound, InboundAnswer, InboundCall, InboundMessage
from .outcome import CallFailure, Transfer
from .transcript import (
    AgentUtterance,
    BackupModelUsed,
    Dtmf,
    Injected,
    Item,
    ItemMetadata,
    Multimedia,
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
from .web_call import IceServer, WebCall

__all__ = [
    "DISCONNECTION_REASONS",
    "AgentUtterance",
    "Alert",
    "BackupModelUsed",
    "Call",
    "CallAnalysis",
    "CallCost",
    "CallFailure",
    "Chat",
    "ChatAnalysis",
    "ChatCost",
    "DisconnectionReason",
    "Dtmf",
    "IceServer",
    "Inbound",
    "InboundAnswer",
    "InboundCall",
    "InboundMessage",
    "Injected",
    "Item",
    "ItemMetadata",
    "Latency",
    "LatencyFigures",
    "LlmTokenUsage",
    "Multimedia",
    "NodeTransition",
    "ProductCost",
    "Sms",
    "StateTransition",
    "TelephonyIdentifier",
    "ToolCallInvocation",
    "ToolCallResult",
    "TranscriptItem",
    "Transfer",
    "TransferTargetUtterance",
    "UnknownItem",
    "UserUtterance",
    "Utterance",
    "WebCall",
    "Word",
]
