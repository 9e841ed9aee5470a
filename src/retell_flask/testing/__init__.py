"""What tests of handlers need. Never used in production.

``RetellTestClient`` sends an application what Retell would send; ``sample`` is one payload of
it, and ``sign`` its signature; ``capture`` notes what was signalled.
"""

from __future__ import annotations

from ..signatures import HEADER, sign, sign_plain
from .capture import Capture, Captured, capture
from .client import RetellTestClient
from .clock import FrozenClock
from .inbox import InboxView
from .observer import MadeToFail, Run
from .payloads import change, encode, renew, sample, sample_names
from .rehearsal import scenario_names
from .sent import Sent

__all__ = [
    "HEADER",
    "Capture",
    "Captured",
    "FrozenClock",
    "InboxView",
    "MadeToFail",
    "RetellTestClient",
    "Run",
    "Sent",
    "capture",
    "change",
    "encode",
    "renew",
    "sample",
    "sample_names",
    "scenario_names",
    "sign",
    "sign_plain",
]
