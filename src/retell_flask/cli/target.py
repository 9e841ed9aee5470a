"""Where commands send to, what they change of samples, and under which key."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import click
from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from .. import values
from ..signatures import Scheme
from ..state import State
from ..values import Key
from .common import Run
from .text import plain

at_url: Callable[[Run], Run] = click.option(
    "--url",
    default=lambda: f"http://127.0.0.1:{os.environ.get('FLASK_RUN_PORT') or 5000}",
    show_default="http://127.0.0.1:5000, or FLASK_RUN_PORT",
    metavar="URL",
    help="Without a path it leads to the blueprint's prefix; with one it is taken as it is.",
)
changing: Callable[[Run], Run] = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change a field; give it once for each. VALUE is JSON, else text; null leaves it out.",
)
with_key: Callable[[Run], Run] = click.option(
    "--key", metavar="TEXT", help="Sign with this key, not with the application's."
)


def target(url: str, prefix: str, path: str = "") -> str:
    """A URL with a path as it is; one without leads to ``path`` below the prefix."""
    try:
        parts = parse_url(url.strip())
    except LocationParseError:
        parts = Url()
    if parts.scheme not in ("http", "https") or not parts.host or parts.auth:
        raise click.BadParameter(
            f"{plain(url)!r} is no URL such as http://127.0.0.1:5000.", param_hint="--url"
        )
    if parts.path not in (None, "/"):
        return parts.url
    return parts._replace(path=prefix.rstrip("/") + path or "/").url


def setting(text: str) -> tuple[str, Any]:
    """Path and value of a ``--set``."""
    path, equals, value = text.partition("=")
    if not (path and equals):
        raise click.BadParameter(f"{plain(text)!r} is not PATH=VALUE.", param_hint="--set")
    try:
        return path, json.loads(value, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return path, value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def find_key(state: State, given: str | None, scheme: Scheme = "timestamped") -> Key:
    """The key that was given, or the application's first for the scheme."""
    if given is not None:
        try:
            return values.keys([given])[0]
        except ValueError as error:
            raise click.BadParameter(f"It {error}", param_hint="--key") from None
    found = state.settings.signing_key(scheme)
    if found is None:
        raise click.UsageError(
            f"{state.blueprint.config_prefix}_WEBHOOK_SECRET is not set, and the plain scheme is "
            "checked against nothing else: set it, or give the secret with --key."
        )
    return found
