"""Filters of list-calls, from keyword arguments to Retell's typed objects.

As in ``retell-sdk``'s ``call_list_params``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND = timedelta(milliseconds=1)

Filter = dict[str, Any]


class _Kind(NamedTuple):
    """How a value becomes a filter, None if it cannot; ``is_list`` where Retell takes several."""

    make: Callable[[Any], Any]
    takes: str
    is_list: bool = False


def filter_criteria(filters: Mapping[str, Any]) -> Filter:
    """Retell's ``filter_criteria``. Raises ``TypeError`` for what it could not take."""
    return {name: _criterion(name, value) for name, value in filters.items()}


def _criterion(name: str, value: Any) -> Any:
    kind = KINDS.get(name)
    if _is_raw(value, kind):
        return value
    if kind is None:
        raise TypeError(
            f"list_calls() knows no filter {name!r}. Known: {', '.join(sorted(KINDS))}. One that "
            "is newer takes Retell's own object: {'type': …, 'op': …, 'value': …}."
        )
    try:
        made = kind.make(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    if made is None:
        raise TypeError(f"{name} takes {kind.takes}.")
    return made


def _is_raw(value: Any, kind: _Kind | None) -> bool:
    """Retell's own object, or a list of them."""
    if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
        return kind is None or kind.is_list
    is_object = isinstance(value, Mapping) and {"type", "op"} <= value.keys()
    return is_object and (kind is None or not kind.is_list)


def _texts(value: Any) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    found = list(value) if isinstance(value, Iterable) and not isinstance(value, Mapping) else []
    return found if found and all(isinstance(each, str) for each in found) else None


def _enum(value: Any) -> Filter | None:
    texts = _texts(value)
    return texts and {"type": "enum", "op": "in", "value": texts}  # type: ignore[return-value]


def _string(value: Any) -> Filter | None:
    return {"type": "string", "op": "eq", "value": value} if isinstance(value, str) else None


def _string_or_enum(value: Any) -> Filter | None:
    return _string(value) or _enum(value)


def _boolean(value: Any) -> Filter | None:
    is_boolean = isinstance(value, bool)
    return {"type": "boolean", "op": "eq", "value": value} if is_boolean else None


def _quantity(*types: type) -> Callable[[Any], Filter | None]:
    """For numbers and values of these types: one, or a pair with its ends."""

    def make(value: Any) -> Filter | None:
        ends = value if isinstance(value, tuple) and len(value) == 2 else (value, value)
        given = [end for end in ends if end is not None]
        if not given or not all(_is_number(end) or isinstance(end, types) for end in given):
            return None
        numbers = [_milliseconds(end) for end in given]
        if ends is not value:
            return {"type": "number", "op": "eq", "value": numbers[0]}
        if len(numbers) == 2:
            return {"type": "range", "op": "bt", "value": numbers}
        return {"type": "number", "op": "ge" if ends[1] is None else "le", "value": numbers[0]}

    return make


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _milliseconds(value: datetime | timedelta | float) -> float:
    """Moments since 1970, and spans."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("a datetime needs a time zone, as datetime.now(timezone.utc) has.")
        return (value - _EPOCH) // _MILLISECOND
    return value // _MILLISECOND if isinstance(value, timedelta) else value


_number = _quantity()
_span = _quantity(timedelta)


def _moment(value: Any) -> Filter | None:
    return None if isinstance(value, datetime) else _quantity(datetime)(value)


def _keyed(value: Any) -> list[Filter] | None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return None
    made = [_first(each, _string, _boolean, _number, _enum) for each in value.values()]
    if not made or not all(made):
        return None
    return [{"key": key, **one} for key, one in zip(value, made, strict=True) if one]


def _first(value: Any, *kinds: Callable[[Any], Filter | None]) -> Filter | None:
    return next((made for kind in kinds if (made := kind(value))), None)


def _agents(value: Any) -> list[Filter] | None:
    return [{"agent_id": each} for each in _texts(value) or ()] or None


_CHOICE = _Kind(_enum, "a word, or a list of words of which one has to fit")
_TEXT = _Kind(_string, "the exact text")
_YES_OR_NO = _Kind(_boolean, "True or False")
_PAIR = "or a pair (lowest, highest), None for an open end"
_AMOUNT = _Kind(_number, f"a number, {_PAIR}")
_SPAN = _Kind(_span, f"milliseconds or a timedelta, {_PAIR}")
_TIME = _Kind(
    _moment, "a pair (earliest, latest) of datetimes or Unix milliseconds, None for an open end"
)
_BY_KEY = _Kind(
    _keyed,
    "a dict of text, numbers, booleans, pairs (lowest, highest) or lists of text",
    is_list=True,
)
KINDS = {
    "agent": _Kind(_agents, "an agent's id, or a list of ids of which one has to fit", True),
    "agent_tag": _CHOICE,
    "batch_call_id": _TEXT,
    "call_id": _Kind(_string_or_enum, "an id, or a list of ids of which one has to fit"),
    "call_status": _CHOICE,
    "call_successful": _YES_OR_NO,
    "call_type": _CHOICE,
    "combined_cost": _AMOUNT,
    "custom_analysis_data": _BY_KEY,
    "custom_attributes": _BY_KEY,
    "data_storage_setting": _CHOICE,
    "direction": _CHOICE,
    "disconnection_reason": _CHOICE,
    "duration_ms": _SPAN,
    "dynamic_variables": _BY_KEY,
    "e2e_latency_p50": _SPAN,
    "end_timestamp": _TIME,
    "from_number": _TEXT,
    "in_voicemail": _YES_OR_NO,
    "metadata": _BY_KEY,
    "start_timestamp": _TIME,
    "to_number": _TEXT,
    "tool_calls": _Kind(lambda _: None, "a list of Retell's own objects", True),
    "user_sentiment": _CHOICE,
}
