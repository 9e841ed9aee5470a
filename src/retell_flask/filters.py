"""Filters of list-calls, from keyword arguments to Retell's typed objects.

As in ``retell-sdk``'s ``call_list_params``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

_MILLISECOND = timedelta(milliseconds=1)

Filter = dict[str, Any]


def filter_criteria(filters: Mapping[str, Any]) -> Filter:
    """Retell's ``filter_criteria``. Raises ``TypeError`` for what it could not take."""
    return {name: _criterion(name, value) for name, value in filters.items()}


def milliseconds(value: datetime | timedelta | float) -> float:
    """Moments since 1970, and spans."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("A datetime needs a time zone: datetime.now(timezone.utc).")
        return round(value.timestamp() * 1000)
    return value // _MILLISECOND if isinstance(value, timedelta) else value


def _criterion(name: str, value: Any) -> Any:
    kind = _KINDS.get(name)
    if _is_raw(value):
        return value
    if kind is None:
        known = ", ".join(sorted(_KINDS))
        raise TypeError(
            f"list_calls() knows no filter {name!r}. Known: {known}. One that is newer takes "
            "Retell's own object: {'type': …, 'op': …, 'value': …}."
        )
    made = kind(value)
    if made is None:
        raise TypeError(f"{name} takes {kind.__doc__}")
    return made


def _is_raw(value: Any) -> bool:
    """Retell's own object, or a list of them."""
    if isinstance(value, Mapping):
        return "type" in value or "op" in value
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _texts(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    found = list(value) if isinstance(value, Iterable) and not isinstance(value, Mapping) else []
    return found if found and all(isinstance(each, str) for each in found) else None


def _enum(value: Any) -> Filter | None:
    """a word, or several of which one has to fit."""
    texts = _texts(value)
    return texts and {"type": "enum", "op": "in", "value": texts}  # type: ignore[return-value]


def _string(value: Any) -> Filter | None:
    """the exact text."""
    return {"type": "string", "op": "eq", "value": value} if isinstance(value, str) else None


def _string_or_enum(value: Any) -> Filter | None:
    """the exact text, or several of which one has to fit."""
    return _string(value) or _enum(value)


def _boolean(value: Any) -> Filter | None:
    """True or False."""
    is_boolean = isinstance(value, bool)
    return {"type": "boolean", "op": "eq", "value": value} if is_boolean else None


def _number(value: Any) -> Filter | None:
    """a number, a datetime or timedelta, or a pair (lowest, highest), of which one may be None."""
    if isinstance(value, tuple) and len(value) == 2:
        return _range(*value)
    if not _is_number(value):
        return None
    return {"type": "number", "op": "eq", "value": milliseconds(value)}


def _range(lowest: Any, highest: Any) -> Filter | None:
    ends = [end for end in (lowest, highest) if end is not None]
    if not ends or not all(map(_is_number, ends)):
        return None
    if len(ends) == 2:
        return {"type": "range", "op": "bt", "value": [milliseconds(end) for end in ends]}
    operation = "ge" if highest is None else "le"
    return {"type": "number", "op": operation, "value": milliseconds(ends[0])}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, datetime, timedelta)) and not isinstance(value, bool)


def _keyed(value: Any) -> list[Filter] | None:
    """a dict of text, numbers, booleans, pairs (lowest, highest) or lists of text, by key."""
    if not isinstance(value, Mapping) or not value:
        return None
    made = [_first(each, _string, _boolean, _number, _enum) for each in value.values()]
    if not all(made):
        return None
    return [{"key": key, **one} for key, one in zip(value, made, strict=True) if one]


def _first(value: Any, *kinds: Callable[[Any], Filter | None]) -> Filter | None:
    return next((made for kind in kinds if (made := kind(value))), None)


def _agents(value: Any) -> list[Filter] | None:
    """an agent's id, or several of which one has to fit."""
    return [{"agent_id": each} for each in _texts(value) or ()] or None


def _objects(_: Any) -> None:
    """a list of Retell's own objects."""


_KINDS: dict[str, Callable[[Any], Any]] = {
    "agent": _agents,
    "agent_tag": _enum,
    "batch_call_id": _string,
    "call_id": _string_or_enum,
    "call_status": _enum,
    "call_successful": _boolean,
    "call_type": _enum,
    "combined_cost": _number,
    "custom_analysis_data": _keyed,
    "custom_attributes": _keyed,
    "data_storage_setting": _enum,
    "direction": _enum,
    "disconnection_reason": _enum,
    "duration_ms": _number,
    "dynamic_variables": _keyed,
    "e2e_latency_p50": _number,
    "end_timestamp": _number,
    "from_number": _string,
    "in_voicemail": _boolean,
    "metadata": _keyed,
    "start_timestamp": _number,
    "to_number": _string,
    "tool_calls": _objects,
    "user_sentiment": _enum,
}
