"""What a check has found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from .set_up import SetUp

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One sentence on a subject; ``advice`` is empty where all is well."""

    level: Level
    subject: str
    text: str
    advice: str = ""


Findings = Iterator[Finding]
Check = Callable[[SetUp], Findings]


def ok(subject: str, text: str) -> Finding:
    """As it should be."""
    return Finding("ok", subject, text)


def note(subject: str, text: str, advice: str) -> Finding:
    """Worth knowing, or not to be found out."""
    return Finding("note", subject, text, advice)


def problem(subject: str, text: str, advice: str) -> Finding:
    """Events are refused, lost or left lying, or will be."""
    return Finding("problem", subject, text, advice)
