"""The keys, and options that came too late."""

from __future__ import annotations

from ...settings import OPTIONS
from ...transport import fits_a_header
from ...values import Place
from ..config import OptionRow
from ..text import counted
from .finding import Findings, note, ok, problem
from .set_up import SetUp

BADGE = (
    "Which key carries the webhook badge, and so signs, the API does not tell: look in Retell's "
    "dashboard (Settings, API Keys)."
)


def check_keys(set_up: SetUp) -> Findings:
    """How many there are, and what each is good for."""
    settings, prefix = set_up.state.settings, set_up.prefix
    keys, secrets = len(settings.api_key), len(settings.webhook_secret)
    if not keys:
        yield note(
            "keys",
            f"{prefix}_API_KEY is not set: signatures are checked against {prefix}_WEBHOOK_SECRET "
            "alone, and Retell's API cannot be called.",
            f"Retell signs with an API key and has no secret besides: set {prefix}_API_KEY to "
            "the one with the webhook badge.",
        )
    elif not all(map(fits_a_header, settings.api_key)):
        yield problem(
            "keys",
            f"A key in {prefix}_API_KEY has a character that no HTTP header can carry, which "
            "none of Retell's keys has.",
            "Copy it anew from Retell's dashboard.",
        )
    elif keys > 1 or secrets > 1:
        yield note(
            "keys",
            f"{_counts(set_up)}: a signature under any of them is good, and the first API key is "
            "the one that Retell's API is called with.",
            f"Remove the old one when its rotation is over. {BADGE}",
        )
    else:
        yield ok("keys", f"{_counts(set_up)}. Retell's API is called with the API key.")
    if "plain" in settings.signature_schemes and secrets and settings.inbox_url is Place.NONE:
        yield problem(
            "keys",
            f"The plain scheme has no timestamp and {set_up.state.blueprint.name} no inbox, so a "
            "delivery that somebody captured can be sent again for ever.",
            f'Set {prefix}_SIGNATURE_SCHEMES = "timestamped", which is Retell\'s own scheme, or '
            "have an inbox, which finds repeats.",
        )


def _counts(set_up: SetUp) -> str:
    settings, prefix = set_up.state.settings, set_up.prefix
    found = {"API_KEY": settings.api_key, "WEBHOOK_SECRET": settings.webhook_secret}
    return ", ".join(
        f"{counted(len(keys), 'key')} in {prefix}_{name}" for name, keys in found.items() if keys
    )


def check_options(set_up: SetUp) -> Findings:
    """Whether one was changed when nobody read it any more."""
    rows = [OptionRow(set_up.state, option) for option in OPTIONS]
    late = [row.name for row in rows if row.is_late]
    if late:
        yield problem(
            "options",
            f"Changed since the blueprint was registered, and without effect: {', '.join(late)}.",
            "Set options before app.register_blueprint. flask retell config shows what is in "
            "effect.",
        )
    else:
        given = sum(row.source != "default" for row in rows)
        yield ok("options", f"{counted(given, 'option')} set, and none of them too late.")
