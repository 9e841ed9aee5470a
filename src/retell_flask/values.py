"""Option values: from text or objects to what was meant, or ``ValueError``.

The text of an error follows the option's name, and never shows the value, which may be a
key in the wrong place.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import Enum
from typing import Any, cast
from urllib.parse import urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from .signatures import SCHEMES, Scheme


class Key(bytes):
    """An API key or secret that shows itself in no repr, log line or traceback."""

    def __repr__(self) -> str:
        return "<key>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)


class Place(Enum):
    """Where the inbox is, where no URL says it."""

    INSTANCE = "retell.sqlite3"  # in app.instance_path; in memory when TESTING is on
    NONE = "none"


def keys(value: Any) -> tuple[Key, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, bytes):
        parts = [parts]
    if not isinstance(parts, Sequence) or not parts:
        raise ValueError("takes a key, several separated by commas, or a list of keys.")
    return tuple(_key(part) for part in parts)


def _key(part: Any) -> Key:
    if not isinstance(part, (str, bytes)):
        raise ValueError("takes keys as text, and one of them is not.")
    try:
        key = Key(part.strip().encode() if isinstance(part, str) else part.strip())
    except UnicodeEncodeError:
        raise ValueError("has a key that is not valid text.") from None
    if not key:
        raise ValueError("has an empty key, which would let anybody in. Remove or set it.")
    if len(key) > 1 and key[:1] == key[-1:] and key[:1] in (b"'", b'"'):
        raise ValueError("has a key in quotation marks. Set it without them.")
    return key


def schemes(value: Any) -> tuple[Scheme, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, Sequence) and parts:
        names = tuple(part.strip() if isinstance(part, str) else part for part in parts)
        if all(name in SCHEMES for name in names):
            return cast("tuple[Scheme, ...]", names)
    raise ValueError("takes 'timestamped', 'plain', or both separated by a comma.")


_UNITS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_NO_DURATION = (
    "takes a duration above zero: seconds (300), a timedelta, or text with a unit "
    "('90s', '15m', '24h', '30d')."
)
_LONGEST_ANSWER = timedelta(seconds=10)
_SHORTEST_LEASE = timedelta(seconds=1)
_LONGEST = timedelta(days=36_500)  # moments that lie as far off can still be computed
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|)\s*", re.ASCII)


def duration(value: Any) -> timedelta:
    """A time above zero."""
    parsed = duration_or_zero(value)
    if parsed <= timedelta(0):
        raise ValueError(_NO_DURATION)
    return parsed


def lease(value: Any) -> timedelta:
    """A time that an ordinary pause of a process or a database does not outlast."""
    parsed = duration(value)
    if parsed < _SHORTEST_LEASE:
        raise ValueError("takes a duration of at least a second ('60s', '5m').")
    return parsed


def answer_time(value: Any) -> timedelta:
    """A time above zero, and no longer than Retell waits for an answer."""
    parsed = duration(value)
    if parsed > _LONGEST_ANSWER:
        raise ValueError("takes a duration of at most '10s': Retell waits no longer.")
    return parsed


def duration_or_zero(value: Any) -> timedelta:
    """Seconds, a timedelta, or text with a unit."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        value = float(match[1]) * _UNITS[match[2]]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            value = timedelta(seconds=value)
        except (OverflowError, ValueError):  # too long, or not a number
            value = None
    if not isinstance(value, timedelta) or not timedelta(0) <= value <= _LONGEST:
        raise ValueError(_NO_DURATION)
    return value


def size(value: Any) -> int:
    """A number of bytes."""
    return _whole(value, 1, "takes a number of bytes, such as 33554432.")


def count(least: int, most: int = 1_000) -> Callable[[Any], int]:
    """A whole number from ``least`` to ``most``."""

    def parse(value: Any) -> int:
        otherwise = f"takes a whole number from {least} to {most}."
        number = _whole(value, least, otherwise)
        if number > most:
            raise ValueError(otherwise)
        return number

    return parse


def _whole(value: Any, least: int, otherwise: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value, re.ASCII):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(otherwise)
    return value


def one_of(*names: str) -> Callable[[Any], str]:
    """One of some words."""

    def parse(value: Any) -> str:
        for name in names:
            if isinstance(value, str) and value.strip().lower() == name.lower():
                return name
        raise ValueError(f"takes {' or '.join(repr(name) for name in names)}.")

    return parse


def queue_name(value: Any) -> str:
    """The name of a queue at a broker."""
    if isinstance(value, str) and value.isprintable() and 0 < len(value.strip()) <= 200:
        return value.strip()
    raise ValueError("takes the name of a queue: 1 to 200 printable characters.")


_NO_API_URL = "takes an address such as 'https://api.retellai.com', without a user or a query."


def api_url(value: Any) -> str:
    """Where Retell's API is: scheme, host, and maybe a path."""
    try:
        text = value.strip()
        parts = urlsplit(text)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except (AttributeError, ValueError):
        raise ValueError(_NO_API_URL) from None
    if not is_usable or "@" in parts.netloc or re.search(r"[?#\s]", text):
        raise ValueError(_NO_API_URL)
    return str(text).rstrip("/")


_NO_URL = (
    "takes a database URL, such as 'sqlite:///retell.sqlite3' or "
    "'postgresql://user:password@host/database', or 'none'."
)
_DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def inbox_url(value: Any) -> URL | Place:
    """A database's URL, or none."""
    if isinstance(value, str) and value.strip() in ("", "none"):
        return Place.NONE
    if not isinstance(value, (str, URL)):
        raise ValueError(_NO_URL)
    try:
        url = make_url(value.strip() if isinstance(value, str) else value)
    except (ArgumentError, ValueError):
        raise ValueError(_NO_URL) from None
    if "@" in (url.host or ""):
        raise ValueError("has an '@' in its password: write it as %40.")
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ValueError(
            "takes SQLite ('sqlite:///retell.sqlite3') or PostgreSQL with psycopg 3 "
            "('postgresql://…'), and no other database or driver."
        )
    if driver == "postgresql+psycopg" and importlib.util.find_spec("psycopg") is None:
        raise ValueError(
            "names PostgreSQL, whose driver is missing here: pip install 'retell-flask[postgres]'"
        )
    return url.set(drivername=driver)
