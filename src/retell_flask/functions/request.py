"""A request for a custom function: its arguments, and the call that it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from msgspec import Raw

from ..decoding import FAULTS, Decoder, decode_object, repair, warn_of_odd
from ..errors import PayloadError
from ..models.call import Call
from ..models.transcript import ToolCallInvocation, ToolCallResult
from .parameters import Parameters, texts_of_json, texts_of_query

_CALL: Decoder[Call] = Decoder(Call)


class RepeatKey(NamedTuple):
    """Under which a first result is found. ``is_exact`` if Retell names the tool call."""

    digest: bytes
    session_id: str
    is_exact: bool


@dataclass(frozen=True, repr=False)
class FunctionRequest:
    """What was sent. ``arguments`` has, by name, the JSON texts of which one has to fit."""

    arguments: Mapping[str, Sequence[bytes]]
    call: Call | None = None
    repeat_key: RepeatKey | None = None


def read_query(query: Mapping[str, Sequence[str]]) -> FunctionRequest:
    """Of GET and DELETE, whose query nobody signs."""
    return FunctionRequest({name: texts_of_query(values) for name, values in query.items()})


def read_body(body: bytes, name: str, parameters: Parameters) -> FunctionRequest:
    """Of the other methods: ``name``, ``args`` and ``call``, or the arguments alone.

    ``name`` is the function's in the URL. Raises ``PayloadError`` for what is no JSON object,
    and for a call that is nested too deeply.
    """
    sent = _split(body or b"{}")
    tool_name, args = _text(sent.get("name")), _object(sent.get("args", _NOTHING))
    if tool_name is None or args is None or not _is_whole(sent, parameters):
        return FunctionRequest(_texts(sent))
    call = _read_call(sent.get("call"))
    if call is None or not call.call_id:
        return FunctionRequest(_texts(args), call)
    return FunctionRequest(_texts(args), call, _repeat_key(call, name, tool_name, args))


_NOTHING = Raw(b"{}")


def _is_whole(sent: Mapping[str, Raw], parameters: Parameters) -> bool:
    """Whether what looks like it is no function's arguments."""
    has_call = bytes(sent.get("call", b"")).lstrip()[:1] == b"{"
    return has_call or ("args" in sent and "args" not in parameters)


def _split(body: bytes) -> dict[str, Raw]:
    for prepare in (bytes, repair):  # which takes far longer than to read a sound body
        text = prepare(body)
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
        return None if raw is None else msgspec.json.decode(raw, type=dict[str, Raw] | None) or {}
    except FAULTS:
        return None


def _read_call(raw: Raw | None) -> Call | None:
    odd: list[str] = []
    try:
        call = None if raw is None else _CALL.decode(bytes(raw), odd, "call")
    except RecursionError:  # the body was split on a shallower stack than this
        raise PayloadError("The call is nested too deeply.") from None
    warn_of_odd(odd)
    return call


def _repeat_key(call: Call, name: str, tool_name: str, args: Mapping[str, Raw]) -> RepeatKey:
    """The arguments are always part of it: two tool calls at once must not be one."""
    arguments = _canonical(msgspec.json.encode(args))
    tool_call_id = _tool_call_id(call, tool_name, arguments)
    parts = (call.call_id, name, tool_call_id, arguments.decode("utf-8", "replace"))
    digest = hashlib.sha256(msgspec.json.encode(parts)).digest()
    return RepeatKey(digest, call.call_id, is_exact=tool_call_id is not None)


def _tool_call_id(call: Call, tool_name: str, arguments: bytes) -> str | None:
    """Of the last invocation, if its name fits.

    Where an agent calls several tools at once, the last may be another: then it is the one
    with these arguments among those that have no result yet.
    """
    items = call.transcript_with_tool_calls or ()
    over = {item.tool_call_id for item in items if isinstance(item, ToolCallResult)}
    invocations = [item for item in items if isinstance(item, ToolCallInvocation)]
    fitting = [each for each in invocations if each.name == tool_name]
    for each in reversed(fitting):
        sent = (each.arguments or "{}").encode("utf-8", "replace")
        if each.tool_call_id not in over and _canonical(sent) == arguments:
            return each.tool_call_id
    is_last = bool(fitting) and fitting[-1] is invocations[-1]
    return fitting[-1].tool_call_id if is_last else None


def _canonical(text: bytes) -> bytes:
    """JSON of one form for one value, or the text itself."""
    try:
        return msgspec.json.encode(decode_object(text), order="sorted")
    except FAULTS:
        return text
