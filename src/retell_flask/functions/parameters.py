"""The arguments of a custom function: from annotations to a JSON Schema, and from JSON back."""

from __future__ import annotations

import functools
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Any, Union

import msgspec

from ..decoding import FAULTS, repair
from ..errors import ConfigurationError
from ..identity import identity_of
from ..models.call import Call
from .schema import inline_schema

_LONGEST_SCHEMA_TOLD = 600
_NUMBER = re.compile(rb"-?[0-9][0-9.eE+-]*")
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_HAS_NO_DEFAULT = inspect.Parameter.empty
_NO_CALL = (
    "It takes a Call, and none was sent: the tool is set to 'args only', or is called by GET or "
    "DELETE. Change that in Retell's dashboard, or annotate it as Call | None."
)


@dataclass(frozen=True)
class Parameter:
    """One argument that the language model gives."""

    name: str
    type: Any
    default: Any
    schema: dict[str, Any]

    @property
    def is_required(self) -> bool:
        return self.default is _HAS_NO_DEFAULT

    @cached_property
    def _decoders(self) -> list[msgspec.json.Decoder[Any]]:
        # A model may well put a number into quotation marks, and a URL cannot do without.
        return [msgspec.json.Decoder(self.type, strict=strict) for strict in (True, False)]

    def read(self, *candidates: bytes) -> Any:
        """The value of the first JSON text that fits.

        Raises ``ValueError`` with what is wrong with the first, in words for the model.
        """
        complaint = ""
        for candidate in candidates:
            for decoder in self._decoders:
                try:
                    return decoder.decode(candidate)
                except FAULTS as error:
                    complaint = complaint or self._complain(error)
        raise ValueError(complaint)

    def _complain(self, error: Exception) -> str:
        schema = json.dumps(self.schema)
        fit = f" It has to fit {schema}." if len(schema) <= _LONGEST_SCHEMA_TOLD else ""
        what, at, place = str(error).partition(" - at ")
        place = place.replace("`$", f"`{self.name}")
        if place.startswith(f"`{self.name}"):
            return f"{place.strip('`')}: {what}.{fit}"
        return f"{self.name}: {what}{at}{place}.{fit}"


class Misfit(ValueError):
    """Arguments that do not fit: ``names`` of parameters, and a sentence on each for the model."""

    def __init__(self, complaints: Mapping[str, str]) -> None:
        super().__init__(" ".join(complaints.values()))
        self.names: list[str] = list(complaints)


class Parameters:
    """What a function takes. Raises ``ConfigurationError`` for what no model could give."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._call_name: str | None = None
        self._needs_call = False
        hints = self._hints()
        found: list[tuple[str, Any, Any]] = []
        for parameter in self._signature().parameters.values():
            if parameter.kind not in _BY_NAME:
                raise self._unfit(
                    f"it cannot be given its parameter {parameter.name!r} by name: use no *args, "
                    "no **kwargs, and no / after it"
                )
            if parameter.name not in hints:
                raise self._unfit(
                    f"its parameter {parameter.name!r} has no annotation: write "
                    f"{parameter.name}: str, or what it is"
                )
            hint = hints[parameter.name]
            if _is_call(hint):
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    raise self._unfit(
                        f"its parameter {parameter.name!r} is a Call, which comes from Retell and "
                        "not from the model: put it behind a * in the signature"
                    )
                if self._call_name is not None:
                    raise self._unfit("two of its parameters are a Call")
                self._call_name, self._needs_call = parameter.name, hint is Call
            else:
                found.append((parameter.name, hint, parameter.default))
        self._parameters = {name: self._parameter(name, *rest) for name, *rest in found}

    def __contains__(self, name: str) -> bool:
        return name in self._parameters

    @property
    def schema(self) -> dict[str, Any]:
        """A JSON Schema without references, as Retell's dashboard takes it."""
        required = [each.name for each in self._parameters.values() if each.is_required]
        return {
            "type": "object",
            "properties": {each.name: each.schema for each in self._parameters.values()},
            **({"required": required} if required else {}),
        }

    def check_call(self, values: Mapping[str, Any]) -> None:
        """Raise ``ConfigurationError`` where the function cannot do without a call."""
        if self._needs_call and values[self._call_name or ""] is None:
            raise ConfigurationError(_NO_CALL)

    def read(self, sent: Mapping[str, Sequence[bytes]], call: Call | None) -> dict[str, Any]:
        """The arguments by name, each from JSON texts of which one has to fit, and the call.

        Raises ``Misfit`` with one sentence for each that does not. Others than those that
        the function takes are left out: Retell adds some of its own.
        """
        values: dict[str, Any] = {}
        complaints: dict[str, str] = {}
        for parameter in self._parameters.values():
            texts = sent.get(parameter.name, ())
            try:
                if not texts:
                    raise ValueError(f"{parameter.name}: it is missing.")
                values[parameter.name] = parameter.read(*texts)
            except ValueError as error:
                # Models write null for what they leave out.
                if parameter.is_required or any(text.strip() != b"null" for text in texts):
                    complaints[parameter.name] = str(error)
        if complaints:
            raise Misfit(complaints)
        return values if self._call_name is None else {**values, self._call_name: call}

    def _signature(self) -> inspect.Signature:
        try:
            return inspect.signature(self._function)
        except ValueError:
            raise self._unfit("what it takes cannot be found out") from None

    def _hints(self) -> dict[str, Any]:
        named = function_of(self._function)
        if not inspect.isroutine(named) and not isinstance(named, type):
            named = type(named).__call__
        try:
            return typing.get_type_hints(named, include_extras=True)
        except Exception as error:
            raise self._unfit(
                f"its annotations cannot be read here ({error}). Their types have to be at the "
                "top level of its module, and defined before it"
            ) from None

    def _parameter(self, name: str, hint: Any, default: Any) -> Parameter:
        try:
            decoder = msgspec.json.Decoder(hint)
            schema = inline_schema(hint)
        except Exception as error:  # msgspec has several for what it cannot take
            what = str(error).strip().rpartition("\n")[2].rstrip(".")
            raise self._unfit(
                f"no JSON could be read into its parameter {name!r}: {what}"
            ) from None
        return Parameter(name, hint, default, {**schema, **_shown_default(decoder, default)})

    def _unfit(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{identity_of(self._function)} cannot be a custom function: {why}."
        )


def function_of(function: Callable[..., Any]) -> Any:
    """The function that a partial is of, whose annotations and docstring count."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _is_call(hint: Any) -> bool:
    if typing.get_origin(hint) in (Union, UnionType):
        return set(typing.get_args(hint)) == {Call, type(None)}
    return hint is Call


def _shown_default(decoder: msgspec.json.Decoder[Any], default: Any) -> dict[str, Any]:
    """For the schema, where it has a form in JSON."""
    if default is _HAS_NO_DEFAULT:
        return {}
    try:
        text = msgspec.json.encode(default)
        decoder.decode(text)
        return {"default": msgspec.json.decode(text)}
    except Exception:  # whatever a host's type raises
        return {}


def texts_of_json(sent: bytes) -> list[bytes]:
    """The JSON texts that one value in a body could mean: a number may be meant as text."""
    return [sent, b'"%b"' % sent] if _NUMBER.fullmatch(sent) else [sent]


def texts_of_query(values: Sequence[str]) -> list[bytes]:
    """The JSON texts that the values of one name in a query could mean."""
    first = values[0] if len(values) == 1 else None
    texts = [] if first is None else [msgspec.json.encode(first)]
    if first is not None and first.lstrip()[:1] in ("[", "{"):
        texts.append(repair(first.encode("utf-8", "replace")))
    return [*texts, msgspec.json.encode(list(values))]
