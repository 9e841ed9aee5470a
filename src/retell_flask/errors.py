"""The exceptions of retell-flask.

    RetellError
    ├── SignatureError      the request was not signed with a key of ours
    ├── PayloadError        it was, but its body is no event
    ├── InboxError          the inbox cannot be read or written
    └── ApiError            Retell's API refused a request, or did not answer it
        ├── BadRequest          400: a field is missing or wrong
        ├── KeyRefused          401, 403: the API key is not accepted
        ├── PaymentRequired     402: a trial or its credit is over
        ├── NotFound            404, 422: Retell has no such call under this key
        ├── RateLimited         429: too many requests at the moment
        └── Unreachable         no answer of Retell's, or half of one

    ConfigurationError      the host application is set up wrongly
    Retry, GiveUp           for receivers to raise

``ConfigurationError`` stands outside the tree, so that no ``except RetellError``
hides a wrong set-up.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from click import ClickException

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


class ApiError(RetellError):
    """Retell's API did not do what it was asked.

    ``status`` is the HTTP status, None where there was none; the message is Retell's. The
    key is not part of it.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class BadRequest(ApiError):
    """400: a field is missing, or has a value that Retell does not take."""


class KeyRefused(ApiError):
    """401 or 403: the API key is wrong, or may not do this."""


class PaymentRequired(ApiError):
    """402: a trial is over, or the workspace's credit."""


class NotFound(ApiError):
    """404 or 422: there is no such thing under this API key. For unknown calls it is 422."""


class RateLimited(ApiError):
    """429. ``retry_after`` is how many seconds Retell asked to wait, if it said so."""

    def __init__(
        self, message: str, status: int | None = 429, retry_after: float | None = None
    ) -> None:
        super().__init__(message, status)
        self.retry_after = retry_after


class Unreachable(ApiError):
    """No answer in time, one that broke off, or one that cannot be Retell's.

    ``may_have_arrived`` is False where no connection came about, so that the request was
    certainly not carried out. To try a ``create_phone_call`` again without a second call,
    give it the same ``idempotency_key``.
    """

    def __init__(self, message: str, *, may_have_arrived: bool = True) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class ConfigurationError(ClickException):
    """An option, or the way the blueprint is registered, cannot work.

    The message names the option and what to do about it, and never shows a key. Commands of
    ``flask``, which cannot load such an application, print it without a traceback.
    """


class Retry(Exception):
    """Raised by a receiver that wants the event again, ``after`` seconds at the earliest.

    ``after`` is a number of seconds or a ``timedelta``; without it the usual backoff
    holds. In the mode without an inbox the answer is 500 and Retell chooses the moment.
    ``reason`` is logged, and kept with the delivery.
    """

    def __init__(self, after: float | timedelta | None = None, *, reason: str = "") -> None:
        super().__init__(reason or "The receiver asked for another attempt.")
        self.reason: str = reason
        if isinstance(after, (int, float)):
            after = timedelta(seconds=after)
        if after is not None and not isinstance(after, timedelta):
            raise TypeError("Retry takes after=, a number of seconds or a timedelta.")
        self.after: timedelta | None = after


class GiveUp(Exception):
    """Raised by a receiver that cannot succeed, however often it is tried."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "The receiver gave up.")
        self.reason: str = reason
