"""Dynamic variables, which Retell takes as text alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def dynamic_variables(values: Any, name: str = "dynamic_variables") -> dict[str, str]:
    """Text by name; numbers and booleans become text (``42.5``, ``true``).

    Raises ``TypeError`` for any other value. Retell would discard all of an answer with one.
    """
    if not isinstance(values, Mapping) or not all(map(is_text, values)):
        raise TypeError(f"{name} must be a dict of text by name.")
    return {str.__str__(key): _text(value, f"{name}[{key!r}]") for key, value in values.items()}


def is_text(value: Any) -> bool:
    """Whether it is text that can be sent: without halves of surrogate pairs."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _is_writable(value: float | Decimal) -> bool:
    try:
        return math.isfinite(value) and bool(str(value))
    except (OverflowError, ValueError):  # thousands of digits
        return False


def _text(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and is_text(value):
        return str.__str__(value)
    if isinstance(value, (int, float, Decimal)) and _is_writable(value):
        return int.__repr__(value) if isinstance(value, int) else str(value)
    raise TypeError(
        f"{name} is of type {type(value).__name__}, or has no form as text: dynamic variables are "
        "text, numbers or booleans. Make it text, or leave it out."
    )
