"""The options: one table for parsing, validation and documentation."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, cast

from .errors import ConfigurationError
from .signatures import SCHEMES, Scheme


class Key(bytes):
    """An API key or secret that shows itself in no repr, log line or traceback."""

    def __repr__(self) -> str:
        return "<key>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)


@dataclass(frozen=True)
class Settings:
    """What one blueprint on one app was told, checked."""

    api_key: tuple[Key, ...]
    webhook_secret: tuple[Key, ...]
    signature_schemes: tuple[Scheme, ...]
    signature_tolerance: timedelta
    max_body: int
    inbox_url: None
    dispatch: str

    @cached_property
    def tolerance_ms(self) -> int:
        return self.signature_tolerance // timedelta(milliseconds=1)


@dataclass(frozen=True)
class Option:
    """One row of the table. ``name`` goes without its prefix."""

    name: str
    parse: Callable[[Any], Any]
    default: Any
    doc: str


def read_settings(
    config: Mapping[str, Any],
    prefix: str = "RETELL",
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read every option from ``config``, else from the environment, else its default.

    Raises ``ConfigurationError`` for a value that cannot work; the message names the
    option and never shows the value, which may be a key in the wrong place.
    """
    environ = os.environ if environ is None else environ
    _warn_of_misspelt(prefix, {*config, *environ})
    values = {o.name.lower(): _read(o, f"{prefix}_{o.name}", config, environ) for o in OPTIONS}
    settings = Settings(**values)
    if not settings.api_key and not settings.webhook_secret:
        raise ConfigurationError(
            f"{prefix}_API_KEY is not set, so no webhook could be verified. Set it, in "
            "app.config or the environment, to the API key that carries the webhook badge "
            "in Retell's dashboard (Settings, API Keys)."
        )
    if settings.signature_schemes == ("plain",) and not settings.webhook_secret:
        raise ConfigurationError(
            f"{prefix}_SIGNATURE_SCHEMES allows the plain scheme only, which is checked "
            f"against {prefix}_WEBHOOK_SECRET, and that is not set. Set it, or allow "
            "'timestamped', the scheme that Retell uses."
        )
    return settings


def _warn_of_misspelt(prefix: str, names: Iterable[str]) -> None:
    known = {f"{prefix}_{option.name}" for option in OPTIONS}
    for name in sorted(names):
        if name in known or not name.upper().startswith(f"{prefix}_".upper()):
            continue
        if close := difflib.get_close_matches(name.upper(), known, 1, 0.9):
            warnings.warn(
                f"{name} is no option of retell-flask. Is it meant to be {close[0]}?",
                RuntimeWarning,
                stacklevel=5,  # where register_blueprint was called
            )


def _read(option: Option, name: str, config: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    value = config.get(name)
    if value is None:
        value = environ.get(name) or None
    if value is None:
        return option.default
    try:
        return option.parse(value)
    except ValueError as error:
        # Without the cause, whose text may hold a key.
        raise ConfigurationError(f"{name} {error}") from None


def _keys(value: Any) -> tuple[Key, ...]:
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


def _schemes(value: Any) -> tuple[Scheme, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, Sequence) and parts:
        names = tuple(part.strip() if isinstance(part, str) else part for part in parts)
        if all(name in SCHEMES for name in names):
            return cast("tuple[Scheme, ...]", names)
    raise ValueError("takes 'timestamped', 'plain', or both separated by a comma.")


_UNITS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|)\s*", re.ASCII)


def _duration(value: Any) -> timedelta:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        value = float(match[1]) * _UNITS[match[2]]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            value = timedelta(seconds=value)
        except (OverflowError, ValueError):  # too long, or not a number
            value = None
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise ValueError(
            "takes a duration above zero: seconds (300), a timedelta, or text with a unit "
            "('90s', '15m', '24h', '30d')."
        )
    return value


def _bytes(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value, re.ASCII):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("takes a number of bytes, such as 33554432.")
    return value


def _no_inbox(value: Any) -> None:
    if not isinstance(value, str) or value not in ("", "none"):
        raise ValueError("takes only 'none' in this version, which has no inbox yet.")


def _inline(value: Any) -> str:
    if not isinstance(value, str) or value != "inline":
        raise ValueError("takes only 'inline' in this version, which has no inbox yet.")
    return "inline"


OPTIONS = (
    Option(
        "API_KEY",
        _keys,
        (),
        "The API key with the webhook badge. Several, separated by commas or as a list, "
        "while you rotate: a signature under any of them is good.",
    ),
    Option(
        "WEBHOOK_SECRET",
        _keys,
        (),
        "Further keys for signatures. Only these are checked for the plain scheme of "
        "third-party guides. Retell itself has no such secret.",
    ),
    Option(
        "SIGNATURE_SCHEMES",
        _schemes,
        SCHEMES,
        "Which schemes are accepted: `timestamped` is Retell's, `plain` that of third-party "
        "guides. Plain has no timestamp, so a captured request can be sent again for ever.",
    ),
    Option(
        "SIGNATURE_TOLERANCE",
        _duration,
        timedelta(seconds=300),
        "How far the signature's timestamp may be from this machine's clock, either way.",
    ),
    Option(
        "MAX_BODY",
        _bytes,
        32 * 1024 * 1024,
        "The longest body in bytes; longer is 413. Decides whatever `MAX_CONTENT_LENGTH` says.",
    ),
    Option(
        "INBOX_URL",
        _no_inbox,
        None,
        "Where events are kept. In this version only `none`: they are not.",
    ),
    Option(
        "DISPATCH",
        _inline,
        "inline",
        "Who runs the receivers. In this version only `inline`: the request itself.",
    ),
)
