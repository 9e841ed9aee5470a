"""``doctor``: one look at all of a set-up, and what to do about what it finds."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import click

from ... import values
from ...errors import ApiError, ConfigurationError, InboxError
from ...state import State
from ...values import Key
from ..common import as_json, for_blueprint
from ..text import counted, paragraph, plain, say, say_json
from .agents import check_agents
from .api import check_api, check_clock
from .delivering import check_deliveries, check_dispatch, check_receivers
from .finding import Check, Finding, note
from .options import check_keys, check_options
from .routes import check_routes
from .set_up import SetUp
from .storage import check_database_clock, check_durability, check_inbox

_PATIENCE_SECONDS = 10.0
_LONGEST_TEXT = 1000
_SHORTEST_SECRET = 8  # what is shorter, of somebody who tries things out, is a part of words
_TELLING = (InboxError, ApiError, ConfigurationError)

# In the order in which they are printed: a subject, and what looks at it.
CHECKS: tuple[tuple[str, Check], ...] = (
    ("keys", check_keys),
    ("options", check_options),
    ("api", check_api),
    ("clock", check_clock),
    ("inbox", check_inbox),
    ("durability", check_durability),
    ("clock", check_database_clock),
    ("dispatch", check_dispatch),
    ("receivers", check_receivers),
    ("routes", check_routes),
    ("agents", check_agents),
    ("deliveries", check_deliveries),
)


def _read_address(_: Any, __: Any, value: str | None) -> str | None:
    try:
        return None if value is None else values.api_url(value)
    except ValueError:
        raise click.BadParameter("It is an address such as https://shop.example.") from None


@click.command("doctor", short_help="Check the whole set-up, and say what to do.")
@click.option("--offline", is_flag=True, help="Do without Retell's API.")
@click.option(
    "--public-url",
    callback=_read_address,
    metavar="URL",
    help="Where Retell reaches the application, such as https://shop.example: the agents' webhook "
    "URLs are compared with it. Without it, with their paths only.",
)
@as_json
@for_blueprint
def doctor(state: State, *, offline: bool, public_url: str | None, as_json: bool) -> None:
    """Check keys, clock, inbox, receivers, routes and Retell's agents, and say what to do.

    \b
      flask retell doctor
      flask retell doctor --public-url https://shop.example
      flask retell doctor --offline --json | jq '.findings[] | select(.level == "problem")'

    A problem makes the exit code 1, and a note does not: that is what is worth knowing, or what
    could not be found out. Nothing is delivered, and no receiver is run; one request (a PUT, which
    is refused) goes through the application's own before_request functions. It sees what a process
    of the application sees, so run it where that runs, with its environment and as its user.
    """
    found = _examine(SetUp(state, offline, _without_path(public_url, state.url_prefix)))
    counts = Counter(finding.level for finding in found)
    if as_json:
        say_json(
            {
                "blueprint": state.blueprint.name,
                "findings": [asdict(finding) for finding in found],
                "counts": {level: counts[level] for level in ("ok", "note", "problem")},
            }
        )
    else:
        say(*_lines(found), "")
        say(
            f"{counts['ok']} ok, {counted(counts['note'], 'note')}, "
            f"{counted(counts['problem'], 'problem')}"
        )
    if counts["problem"]:
        click.get_current_context().exit(1)


def _without_path(public_url: str | None, url_prefix: str) -> str | None:
    """Some give the webhook's whole URL."""
    return public_url and public_url.removesuffix(url_prefix.rstrip("/"))


def _examine(set_up: SetUp) -> list[Finding]:
    return [finding for subject, check in CHECKS for finding in _run(subject, check, set_up)]


def _run(subject: str, check: Check, set_up: SetUp) -> list[Finding]:
    """What one check finds in time. It is left alone in its thread where it takes longer."""
    found: list[Finding] = []

    def look() -> None:
        try:
            with set_up.state.app.app_context():
                found.extend(check(set_up))
        except BaseException as error:  # whatever a host's code raises
            found.append(_unknown(subject, _reason(error)))

    thread = threading.Thread(target=look, name=f"retell-doctor-{subject}", daemon=True)
    thread.start()
    thread.join(_PATIENCE_SECONDS)
    late = _unknown(subject, f"it takes more than {_PATIENCE_SECONDS:g} s.")
    findings = [*found, *([late] if thread.is_alive() else [])]
    settings = set_up.state.settings
    return [_printable(each, settings.api_key + settings.webhook_secret) for each in findings]


def _reason(error: BaseException) -> str:
    """What ours say, and the name of others, whose text may hold anything."""
    return str(error) if isinstance(error, _TELLING) else f"{type(error).__name__} was raised."


def _unknown(subject: str, why: str) -> Finding:
    return note(subject, f"Not found out: {why}", "Run it again once that is mended.")


def _printable(finding: Finding, keys: Iterable[Key]) -> Finding:
    """Without escape sequences, and without a key, whoever has put it there."""
    text, advice = finding.text, finding.advice
    for key in (each for each in keys if len(each) >= _SHORTEST_SECRET):
        shown = key.decode("utf-8", "replace")
        text, advice = text.replace(shown, repr(key)), advice.replace(shown, repr(key))
    return replace(finding, text=plain(text, _LONGEST_TEXT), advice=plain(advice, _LONGEST_TEXT))


def _lines(found: list[Finding]) -> Iterable[str]:
    for finding in found:
        head = f"{finding.level:<9}{finding.subject:<12}"
        yield head + paragraph(finding.text, " " * len(head)).lstrip()
        if finding.advice:
            yield paragraph(finding.advice, " " * len(head))
