"""The exceptions of retell-flask.

    RetellError
    ├── SignatureError      the request was not signed with a key of ours
    ├── PayloadError        it was, but its body is no event
    └── InboxError          the inbox cannot be read or written

    ConfigurationError      the host application is set up wrongly
    Retry, GiveUp           for receivers to raise

``ConfigurationError`` stands outside the tree, so that no ``except RetellError``
hides a wrong set-up.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

SignatureReason = Literal["missing", "malformed", "stale", "mismatch"]

_SIGNATURE_MESSAGES: dict[SignatureReason, str] = {
    "missing": "The request has no X-Retell-Signature header.",
    "malformed": "The X-Retell-Signature header has neither of the two known forms.",
    "stale": "The signature's timestamp is outside the tolerance.",
    "mismatch": "No configured key makes this signature over this body.",
}


class RetellError(Exception):
    """Whatever is wrong with a request, an event or an answer of Retell's."""


class SignatureError(RetellError):
    """A signature that does not hold.

    ``reason`` says why; ``skew_ms`` is, for ``stale``, how many milliseconds the
    signature's timestamp lies before (positive) or after (negative) our clock.
    Neither the header nor a digest is part of the message.
    """

    def __init__(self, reason: SignatureReason, *, skew_ms: int | None = None) -> None:
        super().__init__(_SIGNATURE_MESSAGES[reason])
        self.reason = reason
        self.skew_ms = skew_ms


class PayloadError(RetellError):
    """A body that is not an event. The message names the fault, never the content."""


class InboxError(RetellError):
    """The inbox did not answer, or its tables are not those of this release.

    The message says why, and what to run where that helps. A webhook is answered 503
    then, so that Retell sends it again.
    """


class ConfigurationError(Exception):
    """An option, or the way the blueprint is registered, cannot work.

    The message names the option and what to do about it, and never shows a key.
    """


class Retry(Exception):
    """Raised by a receiver that wants the event again, ``after`` seconds at the earliest.

    ``after`` is a number of seconds or a ``timedelta``; without it the usual backoff
    holds. In the mode without an inbox the answer is 500 and Retell chooses the moment.
    """

    def __init__(self, after: float | timedelta | None = None) -> None:
        super().__init__("The receiver asked for another attempt.")
        if isinstance(after, (int, float)):
            after = timedelta(seconds=after)
        if after is not None and not isinstance(after, timedelta):
            raise TypeError("Retry takes after=, a number of seconds or a timedelta.")
        self.after: timedelta | None = after


class GiveUp(Exception):
    """Raised by a receiver that cannot succeed, however often it is tried."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "The receiver gave up.")
        self.reason = reason
