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
    if not isinstance(values, Mapping) or not all(isinstance(key, str) for key in values):
        raise TypeError(f"{name} is a dict of text by name.")
    return {str(key): _text(value, f"{name}[{key!r}]") for key, value in values.items()}


def _text(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (int, float, Decimal)) and math.isfinite(value):
        return str(value)
    raise TypeError(
        f"{name} is of type {type(value).__name__}: dynamic variables are text, numbers or "
        "booleans. Make it text, or leave it out."
    )
