"""The options: one table for parsing, validation and documentation."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal, NamedTuple

from sqlalchemy.engine import URL

from . import values
from .errors import ConfigurationError
from .signatures import SCHEMES, Scheme
from .values import Key, Place

DEFAULT_API_URL = "https://api.retellai.com"


@dataclass(frozen=True)
class Settings:
    """What one blueprint on one app was told, checked."""

    api_key: tuple[Key, ...]
    webhook_secret: tuple[Key, ...]
    signature_schemes: tuple[Scheme, ...]
    signature_tolerance: timedelta
    max_body: int
    inbox_url: URL | Place
    sqlite_synchronous: Literal["FULL", "NORMAL"]
    dispatch: Literal["threads", "inline", "celery"] | None
    workers: int
    lease: timedelta
    max_attempts: int
    order_wait: timedelta
    retention: timedelta
    transcripts: Literal["latest", "all"]
    celery_queue: str | None
    inbound_timeout: timedelta
    api_url: str | None
    api_timeout: timedelta

    def signing_key(self, scheme: Scheme) -> Key | None:
        """The key that a sender of a scheme would sign with; None if no such is accepted."""
        keys = self.webhook_secret if scheme == "plain" else self.api_key + self.webhook_secret
        return keys[0] if keys else None

    @cached_property
    def tolerance_ms(self) -> int:
        return self.signature_tolerance // timedelta(milliseconds=1)


@dataclass(frozen=True)
class Option:
    """One row of the table. ``name`` goes without its prefix; ``shown`` is the default."""

    name: str
    parse: Callable[[Any], Any]
    default: Any
    shown: str
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
    found = [look_up(option, prefix, config, environ) for option in OPTIONS]
    settings = Settings(**{each.option.name.lower(): _parse(each) for each in found})
    if not settings.api_key and not settings.webhook_secret:
        raise ConfigurationError(
            f"{prefix}_API_KEY is not set, so no webhook could be verified. Set it, in "
            "app.config or the environment, to the API key that carries the webhook badge "
            "in Retell's dashboard (Settings, API Keys). Without Retell, any text will do."
        )
    if settings.signature_schemes == ("plain",) and not settings.webhook_secret:
        raise ConfigurationError(
            f"{prefix}_SIGNATURE_SCHEMES allows the plain scheme only, which is checked "
            f"against {prefix}_WEBHOOK_SECRET, and that is not set. Set it, or allow "
            "'timestamped', the scheme that Retell uses."
        )
    if settings.inbox_url is Place.NONE and settings.dispatch not in (None, "inline"):
        raise ConfigurationError(
            f"{prefix}_DISPATCH is {settings.dispatch!r}, which needs an inbox, and "
            f"{prefix}_INBOX_URL says that there is none. Remove one of the two."
        )
    return settings


class Found(NamedTuple):
    """An option's full name, its value as it was given, and where."""

    option: Option
    name: str
    value: Any
    source: Literal["app.config", "environment", "default"]


def look_up(
    option: Option, prefix: str, config: Mapping[str, Any], environ: Mapping[str, str]
) -> Found:
    """Where an option's value comes from."""
    name = f"{prefix}_{option.name}"
    if config.get(name) is not None:
        return Found(option, name, config[name], "app.config")
    if environ.get(name):
        return Found(option, name, environ[name], "environment")
    return Found(option, name, None, "default")


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


def _parse(found: Found) -> Any:
    if found.source == "default":
        return found.option.default
    try:
        return found.option.parse(found.value)
    except ValueError as error:
        # Without the cause, whose text may hold a key.
        raise ConfigurationError(f"{found.name} {error}") from None


OPTIONS = (
    Option(
        "API_KEY",
        values.keys,
        (),
        "none",
        "The API key with the webhook badge. Several, separated by commas or as a list, "
        "while you rotate: a signature under any of them is good.",
    ),
    Option(
        "WEBHOOK_SECRET",
        values.keys,
        (),
        "none",
        "Further keys for signatures. Only these are checked for the plain scheme of "
        "third-party guides. Retell itself has no such secret.",
    ),
    Option(
        "SIGNATURE_SCHEMES",
        values.schemes,
        SCHEMES,
        "timestamped,plain",
        "Which schemes are accepted: `timestamped` is Retell's, `plain` that of third-party "
        "guides. Plain has no timestamp, so a captured request can be sent again for ever.",
    ),
    Option(
        "SIGNATURE_TOLERANCE",
        values.duration,
        timedelta(seconds=300),
        "300s",
        "How far the signature's timestamp may be from this machine's clock, either way.",
    ),
    Option(
        "MAX_BODY",
        values.size,
        32 * 1024 * 1024,
        "33554432",
        "The longest body in bytes; longer is 413. Decides whatever `MAX_CONTENT_LENGTH` says.",
    ),
    Option(
        "INBOX_URL",
        values.inbox_url,
        Place.INSTANCE,
        "retell.sqlite3",
        "Where events are kept: a SQLite file of its own (`sqlite:///name` is below the "
        "instance path), a PostgreSQL database, or `none`. By default `retell.sqlite3` in the "
        "instance path; in memory when `TESTING` is on.",
    ),
    Option(
        "SQLITE_SYNCHRONOUS",
        values.one_of("FULL", "NORMAL"),
        "FULL",
        "FULL",
        "`NORMAL` makes SQLite faster, and a power cut lose the last events.",
    ),
    Option(
        "DISPATCH",
        values.one_of("threads", "inline", "celery"),
        None,
        "threads",
        "Who runs the receivers: `threads` of this process, `inline`, the request itself, or the "
        "workers of `celery`. By default `threads`; `inline` without an inbox and when `TESTING` "
        "is on.",
    ),
    Option(
        "WORKERS",
        values.count(0),
        4,
        "4",
        "Threads in each process that run receivers. 0: none here, beside a "
        "`flask retell worker`.",
    ),
    Option(
        "LEASE",
        values.lease,
        timedelta(seconds=60),
        "60s",
        "How long after a process died its events are taken over. Hosts' clocks must agree to "
        "a third of it.",
    ),
    Option(
        "MAX_ATTEMPTS",
        values.count(1),
        8,
        "8",
        "How often a receiver is tried before its delivery is dead.",
    ),
    Option(
        "ORDER_WAIT",
        values.duration_or_zero,
        timedelta(seconds=30),
        "30s",
        "How long after its receipt an event waits for an earlier one of its call. 0: never.",
    ),
    Option(
        "RETENTION",
        values.duration,
        timedelta(days=30),
        "30d",
        "How long events are kept that are done.",
    ),
    Option(
        "TRANSCRIPTS",
        values.one_of("latest", "all"),
        "latest",
        "latest",
        "`latest`: a newer `transcript_updated` takes the place of those of its call that were "
        "not delivered yet. `all`: each is delivered.",
    ),
    Option(
        "CELERY_QUEUE",
        values.queue_name,
        None,
        "none",
        "Into which queue `RETELL_DISPATCH=celery` sends; by default into Celery's own default.",
    ),
    Option(
        "INBOUND_TIMEOUT",
        values.answer_time,
        timedelta(seconds=8),
        "8s",
        "How long a handler may take for the answer to an inbound call or message, before the "
        "default goes out. Retell waits 10 s.",
    ),
    Option(
        "API_URL",
        values.api_url,
        None,
        DEFAULT_API_URL,
        "Where Retell's API is. With `TESTING` on, it is called only if this is set.",
    ),
    Option(
        "API_TIMEOUT",
        values.duration,
        timedelta(seconds=30),
        "30s",
        "How long Retell's API may take to connect, and then between two parts of an answer.",
    ),
)
