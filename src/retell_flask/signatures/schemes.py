"""Signing and verifying webhook bodies. Knows nothing of Flask.

Retell signs with ``X-Retell-Signature: v=<unix ms>,d=<64 lowercase hex>``, where the
digest is HMAC-SHA256 over the raw body followed by the digits of ``v``, keyed with the
workspace's API key that carries the webhook badge (Retell's documentation, "Secure the
webhook"; ``retell-sdk``, ``lib/webhook_auth.py``). Third-party guides know a *plain*
scheme: the header is the hex HMAC-SHA256 of the body alone, under a secret of its own.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from ..errors import SignatureError

HEADER = "X-Retell-Signature"
TOLERANCE_MS = 300_000

Scheme = Literal["timestamped", "plain"]
OWN_SCHEME: tuple[Scheme, ...] = ("timestamped",)
SCHEMES: tuple[Scheme, ...] = (*OWN_SCHEME, "plain")

_TIMESTAMPED = re.compile(r"v=(0|[1-9][0-9]{0,15}),d=([0-9a-f]{64})")
_PLAIN = re.compile(r"[0-9a-f]{64}")


class Verified(NamedTuple):
    """Which scheme and which key a signature was made with.

    ``key_index`` counts through ``keys`` and then ``secrets``. ``timestamp_ms`` is the
    sender's clock in Unix milliseconds; the plain scheme has none.
    """

    scheme: Scheme
    key_index: int
    timestamp_ms: int | None


class SignatureClaim(NamedTuple):
    """A well-formed, timely header whose digest has not been compared yet.

    Apart from ``verify`` so that a request with a hopeless header is refused before its
    body is read.
    """

    scheme: Scheme
    timestamp: bytes
    digest: bytes

    def __repr__(self) -> str:
        return f"<SignatureClaim {self.scheme}>"

    def check(self, body: bytes, keys: Sequence[bytes], secrets: Sequence[bytes] = ()) -> Verified:
        """Compare the digest under every key that the scheme allows.

        Raises ``SignatureError`` with the reason ``mismatch``.
        """
        if self.scheme == "plain":
            # A timestamped delivery with its digits moved into the body would pass here.
            # JSON events end in a brace, so no honest plain body ends in a digit.
            candidates = [] if body[-1:].isdigit() else list(secrets)
            offset = len(keys)
        else:
            candidates, offset = [*keys, *secrets], 0
        for index, key in enumerate(candidates, offset):
            if hmac.compare_digest(_digest(key, body, self.timestamp), self.digest):
                timestamp_ms = int(self.timestamp) if self.timestamp else None
                return Verified(self.scheme, index, timestamp_ms)
        raise SignatureError("mismatch")


def read_header(
    header: str | bytes | None,
    *,
    schemes: Iterable[Scheme] = SCHEMES,
    tolerance_ms: int = TOLERANCE_MS,
    now_ms: int | None = None,
) -> SignatureClaim:
    """Read a header without looking at the body.

    Raises ``SignatureError`` with the reason ``missing``, ``malformed`` or ``stale``,
    whatever the header holds.
    """
    text = _as_text(header)
    if not text:
        raise SignatureError("missing")
    if "timestamped" in schemes and (match := _TIMESTAMPED.fullmatch(text)):
        skew_ms = (_now_ms() if now_ms is None else now_ms) - int(match[1])
        if abs(skew_ms) > tolerance_ms:
            raise SignatureError("stale", skew_ms=skew_ms)
        return SignatureClaim("timestamped", match[1].encode(), bytes.fromhex(match[2]))
    if "plain" in schemes and _PLAIN.fullmatch(text):
        return SignatureClaim("plain", b"", bytes.fromhex(text))
    raise SignatureError("malformed")


def verify(
    body: bytes,
    header: str | bytes | None,
    keys: str | bytes | Iterable[str | bytes],
    *,
    secrets: str | bytes | Iterable[str | bytes] = (),
    schemes: Iterable[Scheme] = SCHEMES,
    tolerance_ms: int = TOLERANCE_MS,
    now_ms: int | None = None,
) -> Verified:
    """Check a signature over the raw bytes of a body.

    Retell's own scheme is tried with ``keys`` and ``secrets``, the plain one with
    ``secrets`` alone. A timestamp may lie ``tolerance_ms`` before or after ``now_ms``
    (default: the clock), both bounds included.

    Raises ``SignatureError`` for every signature that does not hold, and ``ValueError``
    for an empty key, since that would let anybody in.
    """
    claim = read_header(header, schemes=tuple(schemes), tolerance_ms=tolerance_ms, now_ms=now_ms)
    return claim.check(body, as_keys(keys), as_keys(secrets))


def sign(body: bytes, key: str | bytes, *, timestamp_ms: int | None = None) -> str:
    """Make the header that Retell would send with ``body`` (``timestamp_ms``: now)."""
    timestamp = str(_now_ms() if timestamp_ms is None else timestamp_ms)
    return f"v={timestamp},d={_digest(_as_key(key), body, timestamp.encode()).hex()}"


def sign_plain(body: bytes, secret: str | bytes) -> str:
    """Make a header of the plain scheme."""
    return _digest(_as_key(secret), body).hex()


def as_keys(keys: str | bytes | Iterable[str | bytes]) -> tuple[bytes, ...]:
    """One key or many, as bytes. Raises ``ValueError`` for an empty one."""
    many = (keys,) if isinstance(keys, (str, bytes)) else keys
    return tuple(_as_key(key) for key in many)


def _as_text(header: str | bytes | None) -> str:
    return header.decode("latin-1") if isinstance(header, bytes) else header or ""


def _as_key(key: str | bytes) -> bytes:
    if not key:
        raise ValueError("An empty key signs nothing: anybody could make that signature.")
    return key.encode() if isinstance(key, str) else key


def _digest(key: bytes, body: bytes, timestamp: bytes = b"") -> bytes:
    digest = hmac.new(key, body, "sha256")
    digest.update(timestamp)
    return digest.digest()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
