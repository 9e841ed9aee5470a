"""Signing and verifying webhook bodies. Knows nothing of Flask.

Retell signs with ``X-Retell-Signature: v=<unix ms>,d=<64 lowercase hex>``, where the
digest is HMAC-SHA256 over the raw body followed by the digits of ``v``, keyed with the
workspace's API key that carries the webhook badge (Retell's documentation, "Secure the
webhook"; ``retell-sdk``, ``lib/webhook_auth.py``). Third-party guides know a *plain*
scheme: the header is the hex HMAC-SHA256 of the body alone, under a secret of its own.
"""

from __future__ import annotations

import gzip
import hmac
import json
import re
import time
import zlib
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from .errors import SignatureError

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


class Explanation(NamedTuple):
    """Why a delivery does or does not verify: a ``cause`` for programs, and a sentence."""

    cause: str
    message: str


def explain(
    body: bytes,
    header: str | bytes | None,
    keys: str | bytes | Iterable[str | bytes],
    *,
    secrets: str | bytes | Iterable[str | bytes] = (),
    tolerance_ms: int = TOLERANCE_MS,
    now_ms: int | None = None,
) -> Explanation:
    """Find out why a captured delivery does not verify.

    Tries what proxies, frameworks and people do to keys, headers and bodies until the
    digest fits. Slow, and for people only: a request never comes here.
    """
    api_keys, plain_secrets = as_keys(keys), as_keys(secrets)
    try:
        claim = read_header(header, tolerance_ms=tolerance_ms, now_ms=now_ms)
        verified = claim.check(body, api_keys, plain_secrets)
    except SignatureError as error:
        return _explain_failure(error, body, _as_text(header), [*api_keys, *plain_secrets])
    which = f"key {verified.key_index + 1} and the {verified.scheme} scheme"
    return Explanation("verified", f"It verifies, with {which}.")


def _explain_failure(
    error: SignatureError, body: bytes, text: str, keys: list[bytes]
) -> Explanation:
    sent = _TIMESTAMPED.fullmatch(text.strip())
    timestamp, digest = (sent[1], sent[2]) if sent else ("", text.strip())
    if error.reason == "missing":
        return Explanation("missing", "There is no X-Retell-Signature header.")
    if not sent and not _PLAIN.fullmatch(digest):
        is_cut = re.fullmatch(r"v=[0-9]*(,(d(=[0-9a-f]{0,63})?)?)?|[0-9a-f]{1,63}", digest)
        return _EXPLANATIONS["header_cut" if is_cut else "malformed"]
    if (alteration := _find_alteration(body, timestamp, digest, keys)) is None:
        return _EXPLANATIONS["wrong_key"]
    if alteration != "unaltered":
        return _EXPLANATIONS[alteration]
    if not sent:
        return _EXPLANATIONS["plain_scheme"]
    if error.reason == "stale" and len(timestamp) <= 11:
        return _EXPLANATIONS["seconds"]
    if error.reason == "stale" and error.skew_ms is not None:
        side = "past" if error.skew_ms > 0 else "future"
        seconds = abs(error.skew_ms) / 1000
        message = f"The signature is right, but its time lies {seconds:,.1f} s in the {side}. "
        return Explanation(
            "stale", message + "Check this machine's clock, unless it was captured long ago."
        )
    return _EXPLANATIONS["header_padded"]


def _find_alteration(body: bytes, timestamp: str, digest: str, keys: list[bytes]) -> str | None:
    """The first alteration of key or body under which the digest fits."""
    stripped = [key.strip() for key in keys if key.strip() not in (b"", key)]
    for cause, signed_keys, bodies in (
        ("unaltered", keys, [body]),
        ("key_padded", stripped, [body]),
        ("newline", keys, [body.rstrip(b"\r\n"), body + b"\n", body + b"\r\n"]),
        ("gzip", keys, _recompressed(body)),
        ("reserialised", keys, _reserialised(body)),
    ):
        for key in signed_keys:
            for candidate in bodies:
                if _digest(key, candidate, timestamp.encode()).hex() == digest:
                    return cause
    return None


def _recompressed(body: bytes) -> list[bytes]:
    try:
        return [gzip.decompress(body)]
    except (OSError, EOFError, zlib.error):
        return []


def _reserialised(body: bytes) -> list[bytes]:
    """The forms in which a JSON body may have been signed, if this is not the one."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return []
    forms = [
        json.dumps(payload, ensure_ascii=ascii_only, separators=separators).encode(
            errors="replace"
        )
        for ascii_only in (False, True)
        for separators in ((",", ":"), (", ", ": "))
    ]
    return [*forms, *(form.replace(b"/", rb"\/") for form in forms)]


_EXPLANATIONS = {
    cause: Explanation(cause, message)
    for cause, message in {
        "header_cut": "The X-Retell-Signature header is cut short. Look at whatever copied it, "
        "and at header size limits of proxies.",
        "malformed": "The X-Retell-Signature header has neither of the known forms: "
        "v=<milliseconds>,d=<64 hex digits>, or 64 hex digits alone.",
        "header_padded": "The signature is right, but the header has white space around it.",
        "wrong_key": "None of the keys makes this digest. Retell signs with the API key that has "
        "the webhook badge in the dashboard: is it this one? If it is, the body was changed in a "
        "way that cannot be guessed.",
        "plain_scheme": "This is the plain scheme, without a timestamp, under a key of yours. "
        "Retell never sends it. If a tool of yours does, put the key into RETELL_WEBHOOK_SECRET.",
        "seconds": "The signature is right, but its timestamp is in seconds. Retell's is in "
        "milliseconds.",
        "key_padded": "The key has white space around it. Without it the signature verifies.",
        "newline": "The line end of the body was changed on the way. Verify the bytes that came.",
        "gzip": "The body is compressed, and the signature is over what it holds. Switch off "
        "request compression in the proxy.",
        "reserialised": "The body was parsed and written again on the way, which changes its "
        "bytes. Verify the raw bytes, before any JSON parser.",
    }.items()
}


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
