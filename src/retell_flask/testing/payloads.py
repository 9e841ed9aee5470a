"""What Retell sends, as samples that can be changed and stay as Retell would send them."""

from __future__ import annotations

import copy
import difflib
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from types import UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import quote

import msgspec
from msgspec import Raw

from ..events import INBOUND_TYPES, Envelope
from ..models.base import Model
from ..models.inbound import InboundCall, InboundMessage
from ..models.transcript import KnownItem

SAMPLES_BEGIN_MS = 1_791_290_405_123
"""When the calls of the samples begin, in Unix milliseconds."""

_SUBJECTS = {
    "call": ("call_id", "call_", 27),
    "chat": ("chat_id", "chat_", 27),
    "alert": ("alert_incident_id", "alert_incident_", 24),
    "call_inbound": ("call_id", "call_", 27),
    "chat_inbound": ("chat_id", "chat_", 27),
}
# What tells a body from the bare arguments of a custom function.
_ENVELOPES = frozenset({"event", *_SUBJECTS})
ID_FIELDS = ("call_id", "chat_id", "alert_incident_id")


class _Body(Envelope, frozen=True, kw_only=True):
    """Every body that Retell sends: events, inbound webhooks and custom functions."""

    event: str | None = None  # type: ignore[assignment]
    call_inbound: InboundCall | None = None
    chat_inbound: InboundMessage | None = None
    event_timestamp: int | None = None
    name: str | None = None
    args: dict[str, Any] | None = None


_BODY: msgspec.json.Decoder[_Body] = msgspec.json.Decoder(_Body)
_ITEMS: msgspec.json.Decoder[Any] = msgspec.json.Decoder(tuple[KnownItem, ...] | None)


def sample_names() -> list[str]:
    """The names of all sample payloads, sorted: ``<event>`` or ``<event>_<outcome>``."""
    return sorted(
        file.name.removesuffix(".json")
        for file in (files(__package__) / "samples").iterdir()
        if file.name.endswith(".json")
    )


def sample(name: str, /, **changes: Any) -> dict[str, Any]:
    """A payload as Retell sends it, about invented people, with ``changes``.

    A change is named by its dotted path, ``**{"call.metadata.order": 7}``; one that is no
    key of the payload itself is a field of its call, chat or alert: ``duration_ms=90_000``.
    None leaves a field out.

    Raises ``ValueError`` for a sample that does not exist, a field that Retell does not have,
    and a value of another type than Retell's. What Retell would not send is made by changing
    the dict.
    """
    try:
        text = (files(__package__) / "samples" / f"{name}.json").read_bytes()
    except (OSError, ValueError):
        text = b""
    if not text or name not in sample_names():
        known = sample_names()
        raise ValueError(
            f"There is no sample {name!r}.{_guess(name, known)} Known: {', '.join(known)}."
        )
    payload: dict[str, Any] = json.loads(text)
    return change(payload, changes) if changes else payload


def change(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a payload with changes, as ``sample`` takes them. Raises ``ValueError``."""
    changed: dict[str, Any] = copy.deepcopy(dict(payload))
    try:
        for path, value in changes.items():
            parts = _parts(payload, path)
            if not _ENVELOPES.isdisjoint(payload):
                _check_known(parts)
            _put(changed, parts, value)
        _check_types(encode(changed))
    except RecursionError:
        raise ValueError("Retell would not send this: it is nested too deeply.") from None
    return changed


def has_field(payload: Mapping[str, Any], path: str) -> bool:
    """Whether ``path`` leads to a field that a payload of this kind may have."""
    parts = _parts(payload, path)
    try:
        _check_known(parts)
    except ValueError:
        return False
    return parts[0] in payload


def renew(
    payload: Mapping[str, Any],
    *,
    session_id: str | None = None,
    started_at: datetime | None = None,
) -> dict[str, Any]:
    """A copy that tells the same of another call, chat or incident, at another time.

    ``session_id`` is its id, by default a new one. All timestamps are moved by the same span:
    so that the samples' calls begin at ``started_at``, or that the last of them is now.
    """
    renewed: dict[str, Any] = copy.deepcopy(dict(payload))
    stamped = list(_timestamps(renewed))
    if started_at is not None:
        shift = round(started_at.timestamp() * 1000) - SAMPLES_BEGIN_MS
    else:
        shift = time.time_ns() // 1_000_000 - max((each[key] for each, key in stamped), default=0)
    for each, key in stamped:
        each[key] += shift
    give_ids(renewed, {} if session_id is None else dict.fromkeys(ID_FIELDS, session_id))
    return renewed


def give_ids(payload: dict[str, Any], ids: dict[str, str]) -> None:
    """Put ``ids``, by their fields, in the place of a payload's; what is not there is made."""
    for name, (id_field, prefix, length) in _SUBJECTS.items():
        if isinstance(subject := payload.get(name), dict):
            if id_field not in ids:
                ids[id_field] = prefix + secrets.token_hex(length)[:length]
            subject[id_field] = ids[id_field]


def session_id_of(payload: Mapping[str, Any]) -> str | None:
    """The id of the call, chat or incident that a payload is about."""
    for name, (id_field, _, _) in _SUBJECTS.items():
        if isinstance(subject := payload.get(name), dict) and subject.get(id_field):
            return str(subject[id_field])
    return None


def path_of(payload: Mapping[str, Any]) -> str:
    """Where a payload belongs, below the prefix. Calls of a custom function have no ``event``."""
    event, name = payload.get("event"), payload.get("name")
    if isinstance(event, str) and event in INBOUND_TYPES:
        return "/inbound"
    if "event" not in payload and isinstance(name, str):
        return f"/functions/{quote(name, safe='', errors='replace')}"
    return ""


def function_request(name: str, arguments: Mapping[str, Any], /, **changes: Any) -> dict[str, Any]:
    """The body with which an agent calls a custom function in mid-call, as a new tool call."""
    payload = sample("custom_function", **changes)
    payload.update(name=name, args=dict(arguments))
    invocation = payload["call"]["transcript_with_tool_calls"][-1]
    invocation.update(
        name=name,
        arguments=json.dumps(dict(arguments)),
        tool_call_id=f"tool_call_{secrets.token_hex(3)}",
    )
    return payload


def encode(payload: Any) -> bytes:
    """A body in the form that Retell's JavaScript writes: compact, and UTF-8."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def _timestamps(payload: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where the timestamps of a payload stand: in itself, its subject, and the items of both."""
    holders = [payload, *(payload[name] for name in _SUBJECTS if name in payload)]
    lists = [value for each in holders for value in each.values() if isinstance(value, list)]
    items = [item for items in lists for item in items if isinstance(item, dict)]
    for each in (*holders, *items):
        for key, value in each.items():
            if key.endswith("_timestamp") and isinstance(value, int):
                yield each, key


def _parts(payload: Mapping[str, Any], path: str) -> list[str]:
    parts = path.split(".")
    if parts[0] in payload or (len(parts) > 1 and parts[0] in _SUBJECTS):
        return parts
    subject = next((name for name in _SUBJECTS if name in payload), None)
    return parts if subject is None else [subject, *parts]


def _check_known(parts: list[str]) -> None:
    """Raise ``ValueError`` where a part is no field; below free objects everything is one."""
    kind: Any = _Body
    for number, part in enumerate(parts):
        model = _model_of(kind)
        if model is None:
            return
        fields = _fields_of(model)
        if part not in fields:
            where = ".".join(parts[:number]) or "payload"
            raise ValueError(f"Retell's {where} has no field {part!r}.{_guess(part, fields)}")
        kind = fields[part]


def _model_of(kind: Any) -> type[Model] | None:
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    models = (each for each in members if isinstance(each, type) and issubclass(each, Model))
    return next(models, None)


@cache
def _fields_of(model: type[Model]) -> dict[str, Any]:
    return {each.encode_name: each.type for each in msgspec.structs.fields(model)}


def _guess(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f" Is {close[0]!r} meant?" if close else ""


def _put(payload: dict[str, Any], parts: list[str], value: Any) -> None:
    """Set what a path leads to, making the objects on the way; None takes it away."""
    *parents, last = parts
    holder: Any = payload
    for part in parents:
        if isinstance(holder, dict) and holder.get(part) is None:
            holder[part] = {}
        holder = holder[_key(holder, part, parts)]
    key = _key(holder, last, parts)
    if value is None and isinstance(holder, dict):
        holder.pop(key, None)
    else:
        holder[key] = copy.deepcopy(value)


def _key(holder: Any, part: str, parts: list[str]) -> Any:
    if isinstance(holder, dict):
        return part
    if isinstance(holder, list) and part.isdecimal() and int(part) < len(holder):
        return int(part)
    raise ValueError(f"{'.'.join(parts)}: there is no {part!r} in it.")


def _check_types(body: bytes) -> None:
    """Raise ``ValueError`` for a value of another type than Retell's, transcripts included."""
    path = ""
    try:
        read = _BODY.decode(body)
        for holder in (read, read.call, read.chat):
            for each in msgspec.structs.fields(holder) if holder is not None else ():
                if each.type is Raw and (raw := getattr(holder, each.name)):
                    path = f" of {each.encode_name}"
                    _ITEMS.decode(raw)
    except msgspec.DecodeError as error:
        raise ValueError(f"Retell would not send this: {error}{path}") from None
