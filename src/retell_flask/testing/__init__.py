"""What tests of handlers need: sample payloads and signatures. Never used in production."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from ..signatures import HEADER, sign, sign_plain

__all__ = ["HEADER", "encode", "sample", "sample_names", "sign", "sign_plain"]


def sample_names() -> list[str]:
    """The names of all sample payloads, sorted."""
    return sorted(
        file.name.removesuffix(".json")
        for file in (files(__name__) / "samples").iterdir()
        if file.name.endswith(".json")
    )


def sample(name: str) -> dict[str, Any]:
    """A payload as Retell sends it, about invented people.

    Raises ``ValueError`` with the known names for one that does not exist.
    """
    if name not in sample_names():
        raise ValueError(f"There is no sample {name!r}. Known: {', '.join(sample_names())}.")
    payload: dict[str, Any] = json.loads(
        (files(__name__) / "samples" / f"{name}.json").read_bytes()
    )
    return payload


def encode(payload: Any) -> bytes:
    """A body in the form that Retell's JavaScript writes: compact, and UTF-8."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
