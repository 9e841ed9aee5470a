"""JSON Schemas of types, each complete in itself."""

from __future__ import annotations

from typing import Any

import msgspec

_REFERENCE = "#/$defs/"
_TYPES = {str: "string", int: "integer"}
_VALUES = frozenset({"const", "default", "description", "enum", "examples", "required", "title"})


def inline_schema(wanted: Any) -> dict[str, Any]:
    """The schema of a type, with what msgspec refers to in its place.

    A type inside of itself is any of its kind there. Raises ``TypeError`` for types without one.
    """
    (schema,), definitions = msgspec.json.schema_components([wanted])
    inlined: dict[str, Any] = _inlined(schema, definitions, ())
    return inlined


def _inlined(value: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_inlined(each, definitions, inside) for each in value]
    if not isinstance(value, dict):
        return value
    value = dict(value)
    value.pop("discriminator", None)  # its references; each member names its tag itself
    name = value.pop("$ref", "").removeprefix(_REFERENCE)
    if name in inside:
        return {"type": definitions[name].get("type", "object"), **value}
    if name:
        inside = (*inside, name)
        value = {**definitions[name], **value}
    made = {key: _part(key, each, definitions, inside) for key, each in value.items()}
    return {**_type_of(made.get("enum")), **made}


def _type_of(values: list[Any] | None) -> dict[str, str]:
    """Some language models want to be told, and msgspec does not, what choices are."""
    kinds = {type(value) for value in values or ()}
    return {"type": _TYPES[kinds.pop()]} if len(kinds) == 1 and kinds <= _TYPES.keys() else {}


def _part(key: str, value: Any, definitions: dict[str, Any], inside: tuple[str, ...]) -> Any:
    if key in _VALUES:
        return value
    if key == "properties":  # its keys are names, whatever they are
        return {name: _inlined(each, definitions, inside) for name, each in value.items()}
    return _inlined(value, definitions, inside)
