"""Retell's API: whether it answers and takes the key, and what time it is there."""

from __future__ import annotations

from datetime import timedelta

from ...errors import KeyRefused
from ..text import age, duration
from .finding import Findings, note, ok, problem
from .set_up import SetUp

_NOTABLE_SKEW = timedelta(seconds=10)
SET_CLOCKS = "Set the clocks of all hosts by NTP: timedatectl set-ntp true"


def check_api(set_up: SetUp) -> Findings:
    """Whether it answers, and takes the key."""
    contact = set_up.contact
    if contact is None:
        if not set_up.offline:
            yield note(
                "api",
                "TESTING is on, so Retell's API is not called, nor looked at here.",
                f"Run it without TESTING, or set {set_up.prefix}_API_URL to a stand-in.",
            )
    elif contact.fault:
        yield note(
            "api",
            f"Retell's API does not answer at {set_up.api_url} ({contact.fault}), so clock, key "
            "and agents are not looked at.",
            "Receiving does not need it. Where this host may not call it, --offline leaves it "
            "out.",
        )
    elif set_up.state.settings.api_key:  # or check_keys says so
        yield from _check_key(set_up)


def _check_key(set_up: SetUp) -> Findings:
    fault = set_up.key_fault
    if fault is None:
        yield ok("api", f"Retell's API answers at {set_up.api_url} and takes the key.")
    elif isinstance(fault, KeyRefused):
        yield problem(
            "api",
            f"Retell's API refuses the key, the first of {set_up.prefix}_API_KEY: it is none of "
            "Retell's, or was deleted.",
            "Copy one anew from Retell's dashboard (Settings, API Keys).",
        )
    else:
        yield note(
            "api",
            f"Whether the key is good is not known: {fault}",
            f"Is {set_up.api_url} the right address? Otherwise run it again later.",
        )


def check_clock(set_up: SetUp) -> Findings:
    """This host's clock against Retell's."""
    if set_up.contact is None or set_up.contact.fault:
        return
    ahead, tolerance = set_up.contact.ahead, set_up.state.settings.signature_tolerance
    if ahead is None:
        yield note(
            "clock",
            f"The answer from {set_up.api_url} has no date to compare the clock with.",
            "Compare it by hand: date -u",
        )
        return
    skew = abs(ahead)
    side = "ahead of" if ahead > timedelta(0) else "behind"
    text = f"This host's clock is {age(skew)} {side} Retell's"
    if skew > tolerance:
        yield problem(
            "clock",
            f"{text}, more than {set_up.prefix}_SIGNATURE_TOLERANCE ({duration(tolerance)}): "
            "every webhook is refused as stale.",
            SET_CLOCKS,
        )
    elif skew > _NOTABLE_SKEW:
        yield note("clock", f"{text}.", SET_CLOCKS)
    else:
        yield ok("clock", f"This host's clock agrees with Retell's to {age(_NOTABLE_SKEW)}.")
