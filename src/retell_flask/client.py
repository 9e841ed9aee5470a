"""Retell's REST API: calls made, found, changed and stopped."""

from __future__ import annotations

import copy
import re
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import msgspec

from .decoding import FAULTS, Decoder, repair, warn_of_odd
from .errors import ApiError, Unreachable
from .filters import filter_criteria
from .models.base import Model
from .models.call import Call
from .models.variables import dynamic_variables
from .models.web_call import WebCall
from .settings import DEFAULT_API_URL
from .transport import PatientTransport, Sender, Transport
from .values import Key, api_url, duration, keys

T = TypeVar("T")

_E164 = re.compile(r"\+[1-9][0-9]{1,14}", re.ASCII)
_PAGE = 1000  # the most that Retell gives at once
_READING = frozenset({"GET", "HEAD"})

SortOrder = Literal["ascending", "descending"]


class _Page(Model, frozen=True, kw_only=True):
    items: tuple[Call, ...] | None = None
    has_more: bool | None = None
    pagination_key: str | None = None


_CALL: Decoder[Call] = Decoder(Call)
_WEB_CALL: Decoder[WebCall] = Decoder(WebCall)
_PAGES: Decoder[_Page] = Decoder(_Page)


class RetellClient:
    """Calls Retell's REST API under one key. For all threads, and for forked processes.

    In an application use ``retell.client``, which has the options of the blueprint.
    ``timeout``, in seconds or as a ``timedelta``, is for the connection, and again for each
    part of an answer. Everything raises ``ApiError``: ``RateLimited``, ``NotFound`` and the
    other kinds are subclasses. What can be repeated safely is tried up to three times more,
    after as many seconds as Retell asks for, up to 30.
    """

    def __init__(
        self,
        api_key: str | bytes,
        *,
        url: str = DEFAULT_API_URL,
        timeout: float | timedelta = 30,
    ) -> None:
        (api_key,) = _checked("api_key", keys, [api_key])  # which shows itself in no traceback
        seconds = _checked("timeout", duration, timeout).total_seconds()
        self._transport: Sender = Transport(Key(api_key), _checked("url", api_url, url), seconds)

    def patient(self) -> RetellClient:
        """The same for work in the background: it waits out rate limits of up to ten minutes."""
        other = copy.copy(self)
        other._transport = PatientTransport(self._transport)
        return other

    def create_phone_call(
        self,
        from_number: str,
        to_number: str,
        *,
        idempotency_key: str | None = None,
        check_e164: bool = True,
        **fields: Any,
    ) -> Call:
        """Start a phone call, and return it in status ``registered``.

        ``from_number`` is a number of yours at Retell, ``to_number`` whom to call, both in
        E.164 form (``+14155550142``); ``check_e164=False`` leaves it to Retell to refuse
        others, and Retell's ``ignore_e164_validation=True`` allows another ``from_number``.
        ``fields`` are Retell's: ``override_agent_id``, ``override_agent_version``,
        ``agent_override``, ``metadata``, ``retell_llm_dynamic_variables`` (numbers and
        booleans become text), ``custom_sip_headers``, and whatever it adds; None leaves one out.

        Within an hour, one ``idempotency_key`` makes one call, however often it is sent.
        Each call gets a key of its own if you give none; give yours where your own code may
        try again. Raises ``ValueError`` for a number, and ``ApiError``.
        """
        if check_e164:
            if not fields.get("ignore_e164_validation"):
                _check_e164("from_number", from_number)
            _check_e164("to_number", to_number)
        body = {
            "from_number": from_number,
            "to_number": to_number,
            "idempotency_key": idempotency_key or uuid.uuid4().hex,
            **_translated(fields, _OLDER_NAMES),
        }
        return self._model(
            _CALL, self._send("POST", "/v2/create-phone-call", json=body, repeatable=True)
        )

    def create_web_call(self, agent_id: str, **fields: Any) -> WebCall:
        """Register a call in the browser, and return what the browser needs to join it.

        ``fields`` are Retell's: ``agent_version``, ``agent_override``, ``metadata``,
        ``retell_llm_dynamic_variables``, and whatever it adds. Raises ``ApiError``; it is not
        repeated, since Retell takes no idempotency key here.
        """
        translated = _translated(fields, {"dynamic_variables": _VARIABLES})
        body = {"agent_id": agent_id, **translated}
        return self._model(_WEB_CALL, self._send("POST", "/v3/create-web-call", json=body))

    def get_call(self, call_id: str) -> Call:
        """A call with all that is known of it. Raises ``NotFound`` for an unknown id."""
        path = call_path("/v2/get-call", call_id)
        return self._model(_CALL, self._send("GET", path, repeatable=True))

    def list_calls(
        self, *, limit: int | None = None, sort_order: SortOrder = "descending", **filters: Any
    ) -> Iterator[Call]:
        """Calls that fit all ``filters``, page after page as they are needed, without transcripts.

        ``limit`` is the most there will be; they come in the order of their start. Filters
        are named as Retell names them, and take what the field holds::

            list_calls(call_status=["ended", "error"], agent="agent_1")
            list_calls(start_timestamp=(datetime(2026, 11, 1, tzinfo=timezone.utc), None))
            list_calls(duration_ms=(60_000, None), metadata={"campaign": "autumn"})

        One value has to be met exactly, of a list one; a pair is a range with its ends, and
        None for an open one. Numbers of timestamps and durations are milliseconds; datetimes,
        which need a time zone, and timedeltas do as well. For everything else Retell's own
        objects pass through: ``to_number={"type": "string", "op": "sw", "value": "+49"}``.
        Raises ``TypeError`` for a filter that cannot be, and ``ApiError`` while paging.
        """
        if limit is not None and limit < 0:
            raise ValueError("limit must be a number of calls, or None for all.")
        body: dict[str, Any] = {"sort_order": sort_order}
        if criteria := filter_criteria(filters):
            body["filter_criteria"] = criteria
        return self._pages(body, limit)

    def _pages(self, body: dict[str, Any], limit: int | None) -> Iterator[Call]:
        left, seen = limit, set()
        while left != 0:
            body["limit"] = _PAGE if left is None else min(left, _PAGE)
            sent = self._send("POST", "/v3/list-calls", json=body, repeatable=True)
            page = self._model(_PAGES, sent)
            if page.items is None:
                raise _unreadable()
            yield from page.items if left is None else page.items[:left]
            left = None if left is None else left - len(page.items)
            if not page.has_more or (left is not None and left <= 0):
                return
            if not page.pagination_key or page.pagination_key in seen:
                raise ApiError("POST /v3/list-calls: there are more calls, and no key to them.")
            seen.add(page.pagination_key)
            body["pagination_key"] = page.pagination_key

    def update_call(self, call_id: str, **fields: Any) -> Call:
        """Change a call that has ended: ``metadata``, ``custom_attributes``,
        ``data_storage_setting`` (only to a stricter one), and whatever Retell adds. None is
        sent as null.

        For a running call: ``request("PATCH", f"/v2/update-live-call/{call_id}", json=…)``.
        """
        path = call_path("/v2/update-call", call_id)
        return self._model(_CALL, self._send("PATCH", path, json=fields, repeatable=True))

    def stop_call(self, call_id: str) -> None:
        """Hang up on a running call."""
        self._send("POST", call_path("/v2/stop-call", call_id))

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        repeatable: bool | None = None,
    ) -> Any:
        """Anything else of Retell's API; the answer's JSON as it is, None if it is empty.

        ``path`` is as Retell's reference has it: ``request("GET", "/get-concurrency")``.
        ``repeatable`` says that a second try would do no harm, which holds by itself only
        for reading. Raises ``ApiError``.
        """
        method = method.upper()
        if not path.startswith("/"):
            raise ValueError('path must begin with a slash, such as "/get-concurrency".')
        if repeatable is None:
            repeatable = method in _READING
        sent = self._send(method, path, json=json, params=params, repeatable=repeatable)
        return _any(sent) if sent.strip() else None

    def _send(self, method: str, path: str, *, repeatable: bool = False, **content: Any) -> bytes:
        return self._transport.send(method, path, repeatable=repeatable, **content)

    @staticmethod
    def _model(decoder: Decoder[T], sent: bytes) -> T:
        odd: list[str] = []
        try:
            value = decoder.decode(sent, odd)
        except FAULTS:
            value = None
        if value is None:
            raise _unreadable()
        warn_of_odd(odd)
        return value


def _checked(name: str, parse: Callable[[Any], T], value: Any) -> T:
    try:
        return parse(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _any(sent: bytes) -> Any:
    try:
        return msgspec.json.decode(sent)
    except FAULTS:
        try:
            return msgspec.json.decode(repair(sent))
        except FAULTS:
            raise _unreadable() from None


def _unreadable() -> Unreachable:
    return Unreachable(
        "The answer cannot be that of Retell's API, since it is not what was asked for. Is "
        "its address right, and no proxy in between?",
    )


def call_path(path: str, call_id: str) -> str:
    """The path of a request about one call."""
    if not isinstance(call_id, str) or call_id in ("", ".", ".."):
        raise ValueError("call_id must be the id of a call, such as call.call_id.")
    return f"{path}/{quote(call_id, safe='')}"


def _check_e164(name: str, number: Any) -> None:
    if not isinstance(number, str) or not _E164.fullmatch(number):
        raise ValueError(
            f"{name} is not in E.164 form: '+', country code and number without spaces, such as "
            "'+14155550142'. check_e164=False leaves the check to Retell."
        )


_VARIABLES = "retell_llm_dynamic_variables"
# What older guides pass to create-phone-call, which ignores or refuses it.
_OLDER_NAMES = {
    "agent_id": "override_agent_id",
    "dynamic_variables": _VARIABLES,
    "webhook_url": "agent_override.agent.webhook_url",
}


def _translated(fields: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Fields as Retell takes them. What is None was not given, and variables are text."""
    fields = {name: value for name, value in fields.items() if value is not None}
    for older in names.keys() & fields.keys():
        _rename(fields, older, names[older])
    if _VARIABLES in fields:
        fields[_VARIABLES] = dynamic_variables(fields[_VARIABLES], _VARIABLES)
    return fields


def _rename(fields: dict[str, Any], older: str, name: str) -> None:
    value, (*outer, last) = fields.pop(older), name.split(".")
    for each in outer:
        fields[each] = dict(fields.get(each) or {})
        fields = fields[each]
    if fields.setdefault(last, value) != value:
        raise TypeError(f"{older} and {name} say two things: give the latter alone.")
    text = f"Retell has no field {older!r} here; it was sent as {name}."
    warnings.warn(text, UserWarning, stacklevel=4)
