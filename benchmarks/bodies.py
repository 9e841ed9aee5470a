"""Bodies of ``call_ended`` with word-level timings, of about a given size, and for whom."""

from __future__ import annotations

import secrets
from typing import Any

from retell_flask.testing import encode, sample

KEY = "key_0123456789abcdef0123456789ab"
PATH = "/webhooks/retellai"

_SAID = [*"Of course, let me check Thursday for you, it will take a moment.".split()]


def call_ended(size: int) -> bytes:
    """A body within 5 % of ``size`` bytes (4,000 and up)."""
    turns: list[dict[str, Any]] = []
    while (missing := size * 0.995 - len(_body(turns))) > 0:
        # The last steps are single words, so that small sizes are met too.
        words = _SAID if missing > 4_000 else _SAID[:1]
        for _ in range(max(1, int(missing / 4_000))):
            turns.append(_turn(len(turns), words))
    return _body(turns)


def of_fresh_calls(body: bytes, count: int) -> list[bytes]:
    """``body`` again and again, each of a call of its own, and all of one length."""
    before, key, rest = body.partition(b'"call_id":"')
    before += key
    call_id, _, after = rest.partition(b'"')
    length = len(call_id)
    return [
        b'%s%s"%s' % (before, f"call_{secrets.token_hex(length)}"[:length].encode(), after)
        for _ in range(count)
    ]


def _body(turns: list[dict[str, Any]]) -> bytes:
    payload = sample("call_ended")
    call = payload["call"]
    call["transcript"] = "".join(f"{t['role'].title()}: {t['content']}\n" for t in turns)
    call["transcript_object"] = turns
    call["transcript_with_tool_calls"] = turns
    return encode(payload)


def _turn(number: int, words: list[str]) -> dict[str, Any]:
    begins = [round(number * 5.1 + n * 0.34, 2) for n in range(len(words))]
    return {
        "role": ("agent", "user")[number % 2],
        "content": " ".join(words),
        "words": [
            {"word": word, "start": start, "end": round(start + 0.24, 2)}
            for word, start in zip(words, begins, strict=True)
        ],
    }
