"""JSON to typed values, losing at most the odd field and never the event.

One strict pass is the normal path. Only when it fails is the text repaired (what
JavaScript writes and msgspec refuses) and decoded field by field: what does not fit its
type is left out, and one log line names its path.
"""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Raw

_logger = logging.getLogger(__name__)

T = TypeVar("T")

# ValidationError is a DecodeError; UnicodeDecodeError comes from fields that are read.
FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_NULL = Raw(b"null")  # not odd: as good as not sent
_MOST_PATHS_LOGGED = 10
_MOST_ODD = 1000
# The closing quote is optional, or a body of quotes without an end takes quadratic time.
_STRING_OR_NUMBER = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|-?[0-9][0-9.eE+-]*', re.DOTALL)
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair: fine
    r"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"  # half of one
    r"|\\.",
    re.DOTALL,
)


class Decoder(Generic[T]):
    """Decodes JSON into ``wanted``.

    ``unknown`` makes a value of an object whose tag no member of a union has.
    """

    def __init__(self, wanted: Any, *, unknown: Callable[[Any], Any] | None = None) -> None:
        self._strict: msgspec.json.Decoder[T] = msgspec.json.Decoder(wanted)
        self._wanted = wanted
        self._unknown = unknown

    def decode(self, data: bytes | Raw, odd: list[str], path: str = "") -> T | None:
        """The value, or None where nothing of it fits.

        ``path`` is where ``data`` stands in the event; the paths of what did not fit are
        added to ``odd``. Raises ``msgspec.DecodeError`` where ``data`` is not JSON, and
        ``RecursionError`` where it is nested too deeply.
        """
        try:
            return self._strict.decode(data)
        except FAULTS:
            sound = _sound(bytes(data))
        value: T | None = _TolerantPass(odd, self._unknown).read(sound, self._wanted, path)
        return value


def _sound(data: bytes) -> bytes:
    """``data`` itself if it is JSON throughout, else repaired; raises if nothing helps."""
    try:
        msgspec.json.decode(data, type=Raw)
        return data
    except msgspec.DecodeError:
        repaired = repair(data)
    msgspec.json.decode(repaired, type=Raw)
    return repaired


def warn_of_odd(paths: list[str]) -> None:
    """Write one log line that names what was not of the documented type."""
    if not paths:
        return
    shown, rest = paths[:_MOST_PATHS_LOGGED], paths[_MOST_PATHS_LOGGED:]
    _logger.warning(
        "Not of the documented type, read as None: %s",
        ", ".join(shown) + (f" and {len(rest)} more" if rest else ""),
        extra={"retell_paths": shown},
    )


class _TolerantPass:
    """Walks the wanted type, and enters only those parts that do not decode whole."""

    def __init__(self, odd: list[str], unknown: Callable[[Any], Any] | None) -> None:
        self._odd = odd
        self._unknown = unknown

    def read(self, data: bytes | Raw, wanted: Any, path: str) -> Any:
        attempts = (self._read_whole, self._read_parts, self._read_repaired)
        # A body of nothing else than odd items may not keep a request for minutes.
        for read in attempts if len(self._odd) < _MOST_ODD else attempts[:1]:
            try:
                return read(data, wanted, path)
            except FAULTS:
                continue
        self._odd.append(path)
        return None

    def _read_whole(self, data: bytes | Raw, wanted: Any, _: str) -> Any:
        return msgspec.json.decode(data, type=wanted)

    def _read_repaired(self, data: bytes | Raw, wanted: Any, _: str) -> Any:
        return msgspec.json.decode(repair(bytes(data)), type=wanted)

    def _read_parts(self, data: bytes | Raw, wanted: Any, path: str) -> Any:
        """Arrays and objects must be alone in their type, or with None."""
        members = _members(wanted)
        wanted = members[0]
        if get_origin(wanted) is tuple:
            items = msgspec.json.decode(data, type=list[Raw])
            item_type = get_args(wanted)[0]
            sent = [(f"{path}[{n}]", item) for n, item in enumerate(items) if item != _NULL]
            read = [self.read(item, item_type, where) for where, item in sent]
            return tuple(value for value in read if value is not None)
        if get_origin(wanted) is dict and (value_type := get_args(wanted)[1]) is not Any:
            entries = msgspec.json.decode(data, type=dict[str, Raw])
            # The keys are the sender's text: they stay out of the log.
            sent = [(key, value) for key, value in entries.items() if value != _NULL]
            pairs = [(key, self.read(value, value_type, f"{path}[*]")) for key, value in sent]
            return {key: value for key, value in pairs if value is not None}
        structs = [member for member in members if _is_struct(member)]
        if len(members) == 1 and structs:
            return self._read_struct(data, wanted, path)
        return self._read_member(data, structs, path)

    def _read_struct(self, data: bytes | Raw, wanted: type[msgspec.Struct], path: str) -> Any:
        sent = msgspec.json.decode(data, type=dict[str, Raw])
        values = {}
        for field in msgspec.structs.fields(wanted):
            if sent.get(field.encode_name, _NULL) != _NULL:
                field_path = f"{path}.{field.encode_name}" if path else field.encode_name
                values[field.name] = self.read(sent[field.encode_name], field.type, field_path)
            if field.required and values.get(field.name) is None:
                raise msgspec.ValidationError(f"{field.encode_name} is required")
        return wanted(**values)

    def _read_member(
        self, data: bytes | Raw, structs: list[type[msgspec.Struct]], path: str
    ) -> Any:
        if not structs:
            raise msgspec.ValidationError("no part of it can be read alone")
        sent = msgspec.json.decode(data, type=dict[str, Any])
        for struct in structs:
            config = struct.__struct_config__
            if config.tag is None or sent.get(config.tag_field or "") == config.tag:
                return self._read_struct(data, struct, path)
        if self._unknown is None:
            raise msgspec.ValidationError("no member of the union has this tag")
        return self._unknown(sent)


@functools.cache
def _members(wanted: Any) -> tuple[Any, ...]:
    is_union = get_origin(wanted) in (Union, UnionType)
    members = get_args(wanted) if is_union else (wanted,)
    return tuple(member for member in members if member is not type(None))


def _is_struct(wanted: Any) -> bool:
    return isinstance(wanted, type) and issubclass(wanted, msgspec.Struct)


def decode_object(data: bytes) -> dict[str, Any]:
    """All of a JSON object that a strict or tolerant pass accepted before."""
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except FAULTS:
        repaired = repair(data)
    try:
        return msgspec.json.decode(repaired, type=dict[str, Any])
    except RecursionError:
        # Accepted on a shallower stack than ours: a new thread has the whole of it.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(msgspec.json.decode, repaired, type=dict[str, Any]).result()


def repair(data: bytes) -> bytes:
    """Replace what stands in valid messages of JavaScript's and is refused by msgspec.

    Halves of surrogate pairs and bytes that are not UTF-8 become U+FFFD, numbers beyond
    the range of a double become null. Anything else is left as it is.
    """
    return _STRING_OR_NUMBER.sub(_repair_token, data.decode("utf-8", "replace")).encode()


def _repair_token(match: re.Match[str]) -> str:
    token = match[0]
    if token.startswith('"'):
        return _ESCAPE.sub(lambda m: r"\ufffd" if m[1] else m[0], token)
    try:
        return token if math.isfinite(float(token)) else "null"
    except ValueError:
        return token
