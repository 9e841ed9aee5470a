"""A request for a custom function: its arguments, and the call that it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Raw

from ..decoding import FAULTS, Decoder, decode_object, repair, warn_of_odd
from ..errors import PayloadError
from ..models.call import Call
from ..models.transcript import ToolCallInvocation
from .parameters import Parameters, texts_of_json, texts_of_query

_CALL: Decoder[Call] = Decoder(Call)


class RepeatKey(NamedTuple):
    """Under which a first result is found. ``is_exact`` if Retell names the tool call."""

    digest: bytes
    session_id: str
    is_exact: bool


class FunctionRequest(NamedTuple):
    """What was sent. ``arguments`` has, by name, the JSON texts of which one has to fit."""

    arguments: Mapping[str, Sequence[bytes]]
    call: Call | None = None
    repeat_key: RepeatKey | None = None


def read_query(query: Mapping[str, Sequence[str]]) -> FunctionRequest:
    """Of GET and DELETE, whose query nobody signs."""
    return FunctionRequest({name: texts_of_query(values) for name, values in query.items()})


def read_body(body: bytes, name: str, parameters: Parameters) -> FunctionRequest:
    """Of the other methods: ``name``, ``args`` and ``call``, or the arguments alone.

    ``name`` is the function's in the URL. Raises ``PayloadError`` for what is no JSON object.
    """
    sent = _split(body or b"{}")
    tool_name, args = _text(sent.get("name")), _object(sent.get("args"))
    is_whole = tool_name is not None and args is not None
    if not is_whole or ("call" not in sent and "args" in parameters):
        return FunctionRequest(_texts(sent))
    call = _read_call(sent.get("call"))
    arguments = _texts(args or {})
    if call is None:
        return FunctionRequest(arguments)
    key = _repeat_key(call, name, tool_name or "", bytes(sent["args"]))
    return FunctionRequest(arguments, call, key)


def _split(body: bytes) -> dict[str, Raw]:
    for text in (body, repair(body)):
        try:
            msgspec.json.decode(text, type=Raw)
            return msgspec.json.decode(text, type=dict[str, Raw])
        except FAULTS:
            continue
    raise PayloadError("The body is not a JSON object.")


def _texts(sent: Mapping[str, Raw]) -> dict[str, list[bytes]]:
    return {name: texts_of_json(bytes(raw)) for name, raw in sent.items()}


def _text(raw: Raw | None) -> str | None:
    try:
        return None if raw is None else msgspec.json.decode(raw, type=str)
    except FAULTS:
        return None


def _object(raw: Raw | None) -> dict[str, Raw] | None:
    try:
        return None if raw is None else msgspec.json.decode(raw, type=dict[str, Raw])
    except FAULTS:
        return None


def _read_call(raw: Raw | None) -> Call | None:
    odd: list[str] = []
    call = None if raw is None else _CALL.decode(bytes(raw), odd, "call")
    warn_of_odd(odd)
    return call


def _repeat_key(call: Call, name: str, tool_name: str, args: bytes) -> RepeatKey:
    """The arguments are always part of it: two tool calls at once must not be one."""
    arguments = _canonical(args)
    tool_call_id = _tool_call_id(call, tool_name, arguments)
    parts = (call.call_id, name, tool_call_id, arguments.decode("utf-8", "replace"))
    digest = hashlib.sha256(msgspec.json.encode(parts)).digest()
    return RepeatKey(digest, call.call_id, is_exact=tool_call_id is not None)


def _tool_call_id(call: Call, tool_name: str, arguments: bytes) -> str | None:
    """Of the newest invocation with these arguments; else of the very last, if its name fits.

    Where an agent calls several tools at once, the last is not always the one.
    """
    items = call.transcript_with_tool_calls or ()
    invocations = [item for item in items if isinstance(item, ToolCallInvocation)]
    fitting = [each for each in invocations if each.name == tool_name]
    for each in reversed(fitting):
        if _canonical((each.arguments or "{}").encode("utf-8", "replace")) == arguments:
            return each.tool_call_id
    is_last = bool(fitting) and fitting[-1] is invocations[-1]
    return fitting[-1].tool_call_id if is_last else None


def _canonical(text: bytes) -> bytes:
    """JSON of one form for one value, or the text itself."""
    try:
        return msgspec.json.encode(decode_object(text), order="sorted")
    except FAULTS:
        return text
