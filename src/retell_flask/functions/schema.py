"""JSON Schemas of types, each complete in itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

_REFERENCE = "#/$defs/"
_VALUES = frozenset({"const", "default", "description", "enum", "examples", "required", "title"})


def inline_schemas(types: Sequence[Any]) -> list[dict[str, Any]]:
    """The schema of each type, with what msgspec refers to in its place.

    A type inside of itself is any object there. Raises ``TypeError`` for types without one.
    """
    schemas, definitions = msgspec.json.schema_components(types)
    return [_inlined(schema, definitions, ()) for schema in schemas]


def _inlined(value: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_inlined(each, definitions, inside) for each in value]
    if not isinstance(value, dict):
        return value
    value = dict(value)
    value.pop("discriminator", None)  # its references; each member names its tag itself
    name = value.pop("$ref", "").removeprefix(_REFERENCE)
    if name in inside:
        return {"type": "object", **value}
    if name:
        inside = (*inside, name)
        value = {**definitions[name], **value}
    return {key: _part(key, each, definitions, inside) for key, each in value.items()}


def _part(key: str, value: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    if key in _VALUES:
        return value
    if key == "properties":  # its keys are names, whatever they are
        return {name: _inlined(each, definitions, inside) for name, each in value.items()}
    return _inlined(value, definitions, inside)
