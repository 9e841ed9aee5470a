"""What servers answer: shown, summed up, and what to do where Retell would not be content."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from .text import counted, paragraph, plain, say, table

if TYPE_CHECKING:
    from ..testing.sending import Load, Reply, Summary

_LONGEST_SHOWN = 20_000
_STORED_ALL_THE_SAME = ("Receiver failed", "Delivery is under way")


class Asked(NamedTuple):
    """What was sent: to which URL, under which options of the blueprint, and how."""

    url: str
    config_prefix: str
    is_event: bool = True  # and not an inbound webhook or a custom function
    is_plain: bool = False
    is_late: bool = False


def show(reply: Reply, asked: Asked) -> None:
    """One line; but what an inbound webhook or a function is answered is the point of it."""
    milliseconds = f"{reply.seconds * 1000:,.0f} ms"
    if reply.status is None:
        say(f"No answer after {milliseconds}: {reply.error}")
        return
    text = reply.body.decode("utf-8", "replace").strip()
    if asked.is_event or not reply.is_good:
        say(f"{reply.status} in {milliseconds}: {plain(text) or '(empty)'}")
        return
    if isinstance(reply.json, (dict, list)):
        text = json.dumps(reply.json, ensure_ascii=False, indent=2)
    say(f"{reply.status} in {milliseconds}:")
    say(*(f"  {plain(line, _LONGEST_SHOWN)}" for line in text.splitlines()))


def say_summary(summary: Summary, load: Load, asked: Asked) -> None:
    """What became of a load that is over, or was stopped."""
    sent = f"{summary.total:,} of " if summary.total < load.total else ""
    rate = f": {summary.rate:,.1f} a second" if summary.rate else ""
    say(
        f"Sent {sent}{counted(load.total, 'request')} to {plain(asked.url)} in "
        f"{summary.seconds:,.1f} s{rate}",
        *table(
            ("COUNT", "ANSWER"),
            [(f"{count:,}", name) for name, count in sorted(summary.answers.items())],
        ),
    )
    if summary.latency:
        times = ", ".join(f"{name} {value:,.1f}" for name, value in summary.latency.items())
        say(f"Milliseconds to the answer: {times}")
    if load.rate is not None:
        say(f"The schedule ran late by {summary.late * 1000:,.1f} ms at most")


def is_stored(reply: Reply) -> bool:
    """Whether retell-flask has kept the event."""
    answer = reply.json if isinstance(reply.json, dict) else {}
    return "received" in answer or answer.get("error") in _STORED_ALL_THE_SAME


def say_hints(answered: Iterable[tuple[Asked, Reply]]) -> None:
    """What to do about each kind of answer that Retell should not get, once."""
    hints = (
        _find_hint(reply, asked).format(url=plain(asked.url), prefix=asked.config_prefix)
        for asked, reply in answered
    )
    say(*(paragraph(text) for text in dict.fromkeys(filter(None, hints))))


def _find_hint(reply: Reply, asked: Asked) -> str:
    if reply.status is None:
        return _WITHOUT_ANSWER.get(reply.error, "Look at the server's log.")
    answer = reply.json if isinstance(reply.json, dict) else {}
    if reply.is_good:
        return _NOT_OURS if asked.is_event and "received" not in answer else ""
    said = str(answer.get("error", ""))
    if said == "Invalid signature":
        return _refused(asked)
    if said and reply.status == 400:
        return ""
    of_status = _BY_STATUS.get(reply.status)
    return _OURS.get(said) or of_status or (_REDIRECTED if reply.status < 400 else _NOT_OURS)


def _refused(asked: Asked) -> str:
    if asked.is_late:
        return "So it should be: with --late the signature is older than the tolerance allows."
    if asked.is_plain and not asked.is_event:
        return "Inbound webhooks and custom functions take Retell's own scheme alone."
    return _WRONG_KEY_OF_PLAIN if asked.is_plain else _WRONG_KEY


_WRONG_KEY = (
    "The application there has another {prefix}_API_KEY (give its key with --key), or a clock "
    "that differs by more than its {prefix}_SIGNATURE_TOLERANCE, or something in front of the "
    "blueprint reads or changes the body: its log says which."
)
_WRONG_KEY_OF_PLAIN = (
    "The application there has another {prefix}_WEBHOOK_SECRET, or its "
    "{prefix}_SIGNATURE_SCHEMES leave the plain scheme out. Give its secret with --key."
)
_NOT_OURS = (
    "Something answered, and it is not retell-flask. Look at --url: without a path it leads to "
    "the blueprint's prefix, with one it is taken as it is. If it is right: is there a proxy, "
    "and what does its log say?"
)
_REDIRECTED = (
    "Retell follows no redirect. Is there a login before the blueprint, or is it to be https?"
)

_WITHOUT_ANSWER = {
    "no connection": "Nothing listens at {url}. Start the application (flask run), or say with "
    "--url where it is.",
    "host not found": "The host's name is not known here: look at --url.",
    "no connection in time": "Nothing answers there: look at --url, and at firewalls on the way.",
    "no answer in time": "Retell would wait no longer either, and send it again. What takes so "
    "long in the request?",
    "no TLS": "Is https spoken there, with a certificate that this machine trusts?",
}

_OURS = {
    "No such function": "flask retell functions lists those that there are. Another is called by "
    "send custom_function --set name=NAME, and by a scenario of your own.",
    "Receiver failed": "A receiver failed, in the request: its traceback is in the application's "
    "log. Retell would send the event again, and only what failed would run.",
    "Delivery is under way": "Another event of this call was just being delivered. It is stored "
    "all the same.",
    "Inbox unavailable": "The inbox cannot be written: the application's log says why. Retell "
    "would send it again.",
}

_BY_STATUS = {
    400: "Something before the blueprint refused it, such as CSRF protection: "
    "csrf.exempt(retell) with Flask-WTF.",
    401: "Something before the blueprint wants a login: Retell has none to give.",
    403: "Something before the blueprint refused it, such as CSRF protection (csrf.exempt(retell) "
    "with Flask-WTF) or a firewall. On a Mac, AirPlay listens on port 5000.",
    404: "Nothing is at {url}. Is the blueprint registered there, under this prefix? A --url with "
    "a path is taken as it is.",
    405: "What is at {url} takes no POST. A --url with a path is taken as it is.",
    413: "The body is longer than the server allows: {prefix}_MAX_BODY, or the limit of a proxy.",
    429: "A rate limit lies before the blueprint: limiter.exempt(retell) with Flask-Limiter.",
    500: "Something failed there: look at the application's log.",
}
