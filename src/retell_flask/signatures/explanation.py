"""Why a captured delivery does not verify. For people: a request never comes here."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..errors import SignatureError
from .json_forms import FORMS, JsonText
from .schemes import (
    SCHEMES,
    TOLERANCE_MS,
    Scheme,
    SignatureClaim,
    Verified,
    as_keys,
    read_header,
)

_ANY_TIME = 10**17  # longer than what a header can be off
_LONGEST_SECONDS = 11  # digits, until the year 5138
_LONGEST_UNPACKED = 64 * 1024 * 1024
_LONGEST_REWRITTEN = 4 * 1024 * 1024
_CUT_HEADER = re.compile(r"v=[0-9]*(,(d(=[0-9a-f]{0,63})?)?)?|(d=)?[0-9a-f]{1,64}")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_ENDS = (b"\n", b"\r\n")
_KEY_PADDINGS = (b" ", b"\n", b"\r\n", b"\t")


class Explanation(NamedTuple):
    """Why a delivery does or does not verify: a ``cause`` for programs, and a sentence.

    ``verified`` tells the key and the scheme where they made the digest of exactly this body,
    so that its time or its scheme alone may speak against it.
    """

    cause: str
    message: str
    verified: Verified | None = None


def explain(
    body: bytes,
    header: str | bytes | None,
    keys: str | bytes | Iterable[str | bytes],
    *,
    secrets: str | bytes | Iterable[str | bytes] = (),
    schemes: Iterable[Scheme] = SCHEMES,
    tolerance_ms: int = TOLERANCE_MS,
    now_ms: int | None = None,
) -> Explanation:
    """Find out why a captured delivery does not verify.

    Tries what proxies, frameworks and people do to keys, headers and bodies until the digest
    fits. That takes a moment: up to some seconds for a body of many megabytes. Of several
    faults it names the one that is harder to see: captures are always stale.

    Raises ``ValueError`` for an empty key, and nothing else.
    """
    api_keys, plain_secrets = as_keys(keys), as_keys(secrets)
    text = header.decode("latin-1") if isinstance(header, bytes) else header or ""
    try:
        claim = read_header(text.strip(), tolerance_ms=_ANY_TIME)
    except SignatureError as error:
        is_cut = error.reason == "malformed" and _CUT_HEADER.fullmatch(text.strip())
        return _because("header_cut" if is_cut else error.reason)
    try:
        verified = claim.check(body, api_keys, plain_secrets)
    except SignatureError:
        return _find_change(claim, body, [*api_keys, *plain_secrets], plain_secrets)
    if verified.scheme not in tuple(schemes):
        return _because("scheme_refused")._replace(verified=verified)
    if text != text.strip():
        return _because("header_padded")
    try:
        read_header(text, tolerance_ms=tolerance_ms, now_ms=now_ms)
    except SignatureError as error:
        return _explain_time(verified, error.skew_ms or 0, tolerance_ms)
    which = f"key {verified.key_index + 1} and the {verified.scheme} scheme"
    return Explanation("verified", f"It verifies, with {which}.", verified)


def _because(cause: str, **values: str) -> Explanation:
    return Explanation(cause, _MESSAGES[cause].format(**values))


def _explain_time(verified: Verified, skew_ms: int, tolerance_ms: int) -> Explanation:
    if len(str(verified.timestamp_ms)) <= _LONGEST_SECONDS:
        return _because("seconds")
    side = "past" if skew_ms > 0 else "future"
    found = _because("stale", skew=_span(abs(skew_ms)), side=side, tolerance=_span(tolerance_ms))
    return found._replace(verified=verified)


def _span(milliseconds: int) -> str:
    for unit, length in (("days", 86_400_000), ("hours", 3_600_000)):
        if milliseconds >= 2 * length:
            return f"{milliseconds / length:,.1f} {unit}"
    return f"{milliseconds / 1000:,.1f} s"


def _find_change(
    claim: SignatureClaim, body: bytes, keys: list[bytes], secrets: Sequence[bytes]
) -> Explanation:
    """The first change of key or body under which the digest fits."""
    # A plain signature is tried under every key, and also over what ends in a digit.
    digests = claim._replace(scheme="timestamped")
    if claim.scheme == "plain" and _fits(digests, body, keys):
        return _because("disguised" if _fits(digests, body, secrets) else "plain_scheme")
    for cause, key in _other_keys(keys):
        if _fits(digests, body, [key]):
            return _because(cause)
    for cause, candidate in _other_bodies(body):
        if _fits(digests, candidate, keys):
            return _because(cause)
    if not body:
        return _because("empty_body")
    if len(body) > _LONGEST_REWRITTEN:
        found = _because("wrong_key")
        return found._replace(message=f"{found.message} {_TOO_LONG}")
    rewritten = _find_writer(digests, body, keys)
    return rewritten or _because(_form_of(body) or _form_of_header(claim) or "wrong_key")


def _form_of_header(claim: SignatureClaim) -> str | None:
    """What shows that this is not the header that Retell sent."""
    if claim.scheme == "plain":
        return "plain_wrong_key"
    return "timestamp_changed" if len(claim.timestamp) <= _LONGEST_SECONDS else None


def _fits(claim: SignatureClaim, body: bytes, keys: Sequence[bytes]) -> bool:
    try:
        claim.check(body, keys)
    except SignatureError:
        return False
    return True


def _other_keys(keys: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    for key in keys:
        bare = key.strip()
        if bare not in (b"", key):
            yield "key_padded", bare
        for padding in _KEY_PADDINGS:
            for padded in (bare + padding, padding + bare, padding + bare + padding):
                yield "key_padded_by_sender", padded


def _other_bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    yield from (("newline", each) for each in _other_line_ends(body))
    if body.startswith(_BYTE_ORDER_MARK):
        unmarked = body.removeprefix(_BYTE_ORDER_MARK)
        yield from (("byte_order_mark", each) for each in (unmarked, *_other_line_ends(unmarked)))
    try:
        # Of gzip and of zlib, and never all of what a bomb holds.
        yield "gzip", zlib.decompressobj(47).decompress(body, _LONGEST_UNPACKED)
    except zlib.error:
        return


def _other_line_ends(body: bytes) -> Iterator[bytes]:
    bare = body.rstrip(b"\r\n")
    yield bare
    yield from (bare + end for end in _LINE_ENDS)
    yield body.strip()
    unix = body.replace(b"\r\n", b"\n")
    yield unix
    yield unix.replace(b"\n", b"\r\n")


def _find_writer(claim: SignatureClaim, body: bytes, keys: list[bytes]) -> Explanation | None:
    """Who wrote the JSON anew, if it was signed in one of the known forms."""
    try:
        text = JsonText(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None
    for form in FORMS:
        if _fits(claim, text.write(form), keys):
            language = text.language()
            cause = f"reserialised_by_{language}" if language else "reserialised"
            return _because(cause, signed=form.writer)
    return None


def _form_of(body: bytes) -> str | None:
    """What shows that this is not the body that Retell signed, whatever the key."""
    try:
        text = body.decode()
        payload = json.loads(text)
    except (ValueError, RecursionError):
        return "damaged"
    keys = list(payload) if isinstance(payload, dict) else []
    # Retell begins with the event, or with the name of the function.
    is_moved = "event" in keys[1:] or (keys[:1] == ["args"] and "name" in keys)
    is_sorted = is_moved and keys == sorted(keys)
    return None if JsonText(text).is_compact() and not is_sorted else "rewritten"


_REWRITTEN = (
    "The body was parsed and written again on the way, which changes its bytes: the signature is "
    "over the same JSON as {signed} writes it, "
)
_TOO_LONG = (
    "(It is too long to try whether it was parsed and written again; capture a shorter one.)"
)
_MESSAGES = {
    "missing": "There is no X-Retell-Signature header. Retell signs whatever it sends: this came "
    "from elsewhere, or a proxy dropped the header.",
    "header_cut": "The X-Retell-Signature header is cut short. Look at whatever copied it, and at "
    "header size limits of proxies.",
    "malformed": "The X-Retell-Signature header has neither of the known forms: "
    "v=<milliseconds>,d=<64 hex digits>, or 64 hex digits alone. A proxy changed it, or "
    "this is not from Retell.",
    "header_padded": "The signature is right, but the header has white space around it. "
    "Take it off, as HTTP does.",
    "wrong_key": "None of the keys makes this digest. Retell signs with the API key that has the "
    "webhook badge in the dashboard: is it this one? If it is, the body was changed in a way that "
    "cannot be guessed.",
    "damaged": "None of the keys makes this digest, and the body is not JSON in UTF-8: it was cut "
    "short, decoded or encoded on the way, or captured in another form. Capture the exact bytes, "
    "before you look at the key.",
    "rewritten": "None of the keys makes this digest, and the body has not the form in which "
    "Retell sends JSON, without spaces and with its own order of keys: something parsed it and "
    "wrote it again, as flask.json and pretty-printers do. Verify the raw bytes, "
    "request.get_data(), before you look at the key.",
    "plain_wrong_key": "The header is 64 hex digits alone: the plain scheme, which Retell never "
    "sends, and none of the keys makes it. Retell's begins with v=: was that cut off on the way?",
    "timestamp_changed": "None of the keys makes this digest with this timestamp, which is part "
    "of what is signed. It has too few digits for milliseconds: was it changed on the way?",
    "plain_scheme": "This is the plain scheme, without a timestamp, under a key of yours. Retell "
    "never sends it. If a tool of yours does, put the key into RETELL_WEBHOOK_SECRET.",
    "disguised": "This is the plain scheme, but the body ends in a digit, as no JSON object does. "
    "It is not accepted, for it may be a delivery of Retell's whose timestamp was moved into its "
    "body.",
    "scheme_refused": "The signature is right, but its scheme is not accepted here. "
    "RETELL_SIGNATURE_SCHEMES says which are; functions and inbound webhooks take Retell's own "
    "alone, which has a timestamp.",
    "seconds": "The signature is right, but its timestamp is in seconds. Sign with "
    "milliseconds, as Retell does.",
    "stale": "The signature is right, but its time lies {skew} in the {side}, and {tolerance} are "
    "allowed. Check this machine's clock, unless it was captured long ago.",
    "key_padded": "The key has white space around it. Without it the signature verifies.",
    "key_padded_by_sender": "It was signed with a key of yours that has white space or a line end "
    "around it. Retell's have none: mend the key where it was signed.",
    "newline": "The line end of the body was changed on the way. Verify the bytes that came.",
    "byte_order_mark": "The body begins with a byte order mark, which was not signed. Save "
    "captured bytes as they are, with no editor in between.",
    "gzip": "The body is compressed, and the signature is over what it holds. Switch off request "
    "compression in the proxy.",
    "empty_body": "The body is empty, and none of the keys makes this digest of that. Something "
    "has read it first: take request.get_data() before anything looks at request.form or "
    "request.stream. Only a custom function's GET or DELETE comes without a body; then it is "
    "another key.",
    "reserialised_by_python": _REWRITTEN + "and this body is what Python's json.dumps writes. "
    "Pass on and verify request.get_data(), and not json.dumps of what was parsed.",
    "reserialised_by_javascript": _REWRITTEN + "and this body is what JavaScript's JSON.stringify "
    "writes. Pass on and verify the raw bytes (in Express: express.raw), and not JSON.stringify "
    "of what was parsed.",
    "reserialised": _REWRITTEN + "and this body is in another form. Verify the raw bytes "
    "(request.get_data(), or php://input in PHP), before any JSON parser.",
}
