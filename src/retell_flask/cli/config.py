"""``config``: the options as they are in effect, and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import click
from sqlalchemy.engine import URL

from ..errors import ConfigurationError
from ..identity import identity_of
from ..inbound import KINDS as INBOUND_KINDS
from ..inbox.sqlite import FileDatabase, sqlite_module
from ..settings import DEFAULT_API_URL, OPTIONS, Option, look_up
from ..state import State
from ..values import Key, Place
from .advice import describe_dispatch
from .common import as_json, for_blueprint
from .place import describe_place, show_url
from .text import counted, duration, say, say_json, table


@click.command("config", short_help="Show the options, and what they come to.")
@as_json
@for_blueprint
def config(state: State, *, as_json: bool) -> None:
    """Show every option in effect and where it comes from, and what they come to.

    Options are read once, when the blueprint is registered: what is set later is marked, for
    it has no effect. Keys and passwords are not shown.

    \b
      flask retell config
      flask retell config --json | jq .effective
    """
    rows = [OptionRow(state, option) for option in OPTIONS]
    effective = _effective(state)
    if as_json:
        say_json(
            {
                "blueprint": state.blueprint.name,
                "options": {row.name: row.values() for row in rows},
                "effective": effective,
            }
        )
        return
    say(*table(("OPTION", "VALUE", "FROM"), [(row.name, row.shown, row.origin) for row in rows]))
    say("", *table(("IN EFFECT", ""), list(effective.items())))


class OptionRow:
    """One option as it is for one blueprint."""

    def __init__(self, state: State, option: Option) -> None:
        found = look_up(option, state.blueprint.config_prefix, state.app.config, os.environ)
        self.name: str = found.name
        self.source: str = found.source
        self.value: Any = getattr(state.settings, option.name.lower())
        self.shown: str = option.shown if self.value is None else _show(self.value)
        self.is_late: bool = _parsed(option, found.value, found.source) != self.value

    @property
    def origin(self) -> str:
        late = ", changed since the blueprint was registered: no effect" if self.is_late else ""
        return self.source + late

    def values(self) -> dict[str, Any]:
        plain_value = self.value if isinstance(self.value, (int, str)) else self.shown
        seconds = self.value.total_seconds() if isinstance(self.value, timedelta) else None
        return {
            "value": plain_value if seconds is None else seconds,
            "source": self.source,
            "changed_too_late": self.is_late,
        }


def _parsed(option: Option, value: Any, source: str) -> Any:
    if source == "default":
        return option.default
    try:
        return option.parse(value)
    except ValueError:
        return None


def _show(value: Any) -> str:
    for kind, show in _FORMS:
        if isinstance(value, kind):
            return show(value)
    return str(value)


def _show_several(values: tuple[Any, ...]) -> str:
    if any(isinstance(value, Key) for value in values):
        return counted(len(values), "key")
    return ",".join(values) or "none"


_FORMS: tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...] = (
    ((URL, Place), show_url),  # before tuples: a URL is one
    (tuple, _show_several),
    (timedelta, duration),
)


def _effective(state: State) -> dict[str, str]:
    prefix = state.url_prefix.rstrip("/")
    found = {
        "webhook": f"POST {state.url_prefix or '/'}",
        "inbound": f"POST {prefix}/inbound, {_describe_inbound(state)}",
        "functions": f"{prefix}/functions/<name>, {_describe_functions(state)}",
        "api": _describe_api(state),
        "inbox": describe_place(state),
        "dispatch": describe_dispatch(state),
    }
    database = state.inbox.database if state.inbox else None
    if isinstance(database, FileDatabase):
        journal = "WAL" if database.is_wal else "TRUNCATE"
        found["sqlite"] = f"{sqlite_module().sqlite_version}, journal mode {journal}"
    if state.app.testing:
        found["testing"] = "TESTING is on, which moves the defaults of inbox and dispatch"
    return found


def _describe_inbound(state: State) -> str:
    handlers = state.blueprint.inbound_handlers
    found = [(kind, handlers.get(inbound.event_type)) for kind, inbound in INBOUND_KINDS.items()]
    named = [f"{kind}s by {identity_of(one.function)}" for kind, one in found if one is not None]
    return f"answered: {', '.join(named)}" if named else "answered without an override"


def _describe_functions(state: State) -> str:
    return f"of {', '.join(each.name for each in state.blueprint.functions) or 'none'}"


def _describe_api(state: State) -> str:
    try:
        state.client  # noqa: B018 - it opens no connection
    except ConfigurationError as error:
        return str(error)
    return state.settings.api_url or DEFAULT_API_URL
