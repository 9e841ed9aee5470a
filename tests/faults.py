"""A rightly signed delivery, and what becomes of it on its way."""

from __future__ import annotations

import gzip
import json
from typing import NamedTuple

from retell_flask.signatures import sign, sign_plain
from support import KEY

NOW = 1_700_000_000_000
AT = "2023-11-14T22:13:20"  # the same as --at takes it

# As Retell's JavaScript writes it: Python has other forms for the three numbers.
SIGNED = (
    '{"event":"call_ended","call":{"call_id":"c","transcript":"¿Cómo? 😀 a/b \\"","start":1,'
    '"rates":[0.00001,1.5e-7,100000000000000000000]}}'
).encode()
HEADER = sign(SIGNED, KEY, timestamp_ms=NOW)
PARSED = json.loads(SIGNED)


def python_form(**options: object) -> bytes:
    return json.dumps(PARSED, **options).encode()  # type: ignore[arg-type]


class Fault(NamedTuple):
    """``key`` is that of the receiver; it is ``KEY`` where the fault is not in it."""

    name: str
    cause: str
    body: bytes = SIGNED
    header: str = HEADER
    key: str = KEY


# Ten that are met in the real world, and their varieties.
FAULTS = (
    Fault("wrong key", "wrong_key", key="key_of_another_workspace"),
    Fault("key with white space", "key_padded", key=f" {KEY}\n"),
    Fault(
        "key with a line end at the sender",
        "key_padded_by_sender",
        header=sign(SIGNED, f"{KEY}\r\n", timestamp_ms=NOW),
    ),
    Fault("rewritten by Python", "reserialised_by_python", python_form()),
    Fault(
        "rewritten by JavaScript",
        "reserialised_by_javascript",
        header=sign(python_form(), KEY, timestamp_ms=NOW),
    ),
    Fault("seconds", "seconds", header=sign(SIGNED, KEY, timestamp_ms=NOW // 1000)),
    Fault("stale", "stale", header=sign(SIGNED, KEY, timestamp_ms=NOW - 300_001)),
    Fault("ahead of time", "stale", header=sign(SIGNED, KEY, timestamp_ms=NOW + 600_000)),
    Fault("header cut", "header_cut", header=HEADER[:40]),
    Fault("header cut at its comma", "header_cut", header=HEADER.partition(",")[2]),
    Fault("plain scheme with the API key", "plain_scheme", header=sign_plain(SIGNED, KEY)),
    Fault("line end added", "newline", SIGNED + b"\r\n"),
    Fault("several line ends added", "newline", SIGNED + b"\n\r\n\n"),
    Fault("gzip", "gzip", gzip.compress(SIGNED)),
)
