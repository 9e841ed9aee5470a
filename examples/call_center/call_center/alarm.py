"""Tells people of a caller who was unhappy: in Slack where its token is set, else in the log."""

from __future__ import annotations

import logging
from http.client import HTTPException
from typing import Any

from flask import current_app
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.models.blocks import (
    HeaderBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from retell_flask import Call, GiveUp, Retry

from . import failures
from .models import caller_of
from .sendings import send_once
from .settings import page_of

TIMEOUT = 10  # seconds
_LONGEST_SUMMARY = 3000  # of a section, says Slack
_LONGEST_CALLER = 500  # whose number may be a SIP address
_WRONG_TOKEN = "See SLACK_BOT_TOKEN."

# Errors that no other try mends, and what does. Slack answers most of them with status 200.
_REMEDIES = {
    "account_inactive": "See SLACK_BOT_TOKEN: its account is no more.",
    "channel_not_found": "See SLACK_CHANNEL, and invite the bot if the channel is private.",
    "invalid_auth": _WRONG_TOKEN,
    "is_archived": "See SLACK_CHANNEL: it is archived.",
    "missing_scope": "Give the bot the scope chat:write, and install it again.",
    "not_authed": _WRONG_TOKEN,
    "not_in_channel": "Invite the bot to the channel.",
    "restricted_action": "The workspace does not let the bot post there.",
    "token_expired": "See SLACK_BOT_TOKEN: it expired.",
    "token_revoked": "See SLACK_BOT_TOKEN: it was revoked.",
}
_REMEDIES_BY_STATUS = {401: _WRONG_TOKEN, 403: _WRONG_TOKEN}

_logger = logging.getLogger(__name__)
# The SDK logs answers that are no JSON. What matters is in what is raised.
_SILENCE = logging.Logger("slack_sdk", logging.CRITICAL)


def raise_alarm(call: Call) -> None:
    """Post to ``SLACK_CHANNEL``, or write one line to the log.

    That line has neither the summary nor the caller's number: they are personal data, and logs
    are kept and read elsewhere.

    Slack knows no message again. So the alarm is there twice if the process ends after Slack took
    it and before that is noted, or if Slack's answer is lost. That is better than none.
    """
    if current_app.config["SLACK_BOT_TOKEN"]:
        send_once(call.call_id, "slack", "alarm", lambda: _post(call))
    else:
        send_once(call.call_id, "log", "alarm", lambda: _warn(call))


def _warn(call: Call) -> None:
    _logger.warning("Unhappy caller: %s, %s", _duration(call), page_of(call.call_id))


def _post(call: Call) -> str | None:
    config = current_app.config
    client = WebClient(
        config["SLACK_BOT_TOKEN"],
        base_url=config["SLACK_URL"],
        timeout=TIMEOUT,
        retry_handlers=[],  # retell-flask tries again
        logger=_SILENCE,
    )
    try:
        answer = client.chat_postMessage(channel=config["SLACK_CHANNEL"], **_message(call))
    except SlackApiError as error:
        raise _refusal(error) from None
    except (OSError, HTTPException):
        raise Retry(reason="Slack did not answer.") from None
    except Exception as error:  # its text may quote the answer
        name = type(error).__name__
        raise Retry(reason=f"Slack's answer cannot be read: {name}.") from None
    ts = answer.get("ts")
    return None if ts is None else str(ts)[:100]


def _message(call: Call) -> dict[str, Any]:
    """Who called, what they were unhappy with, and a link to the rest.

    The summary repeats what a stranger said, and may hold ``<!channel>`` or a link: as plain
    text it is shown and does nothing. Slack reads the notification's text as markup, so there it
    is escaped.
    """
    told = (call.analysis and call.analysis.summary) or ""
    summary = told.strip()[:_LONGEST_SUMMARY] or "There is no summary."
    caller = f"Caller: {(caller_of(call) or 'unknown')[:_LONGEST_CALLER]}"
    duration = f"Duration: {_duration(call)}"
    return {
        "text": _escape(f"Unhappy caller. {caller}. {duration}. {summary}"),
        "blocks": [
            HeaderBlock(text=_plain("Unhappy caller")),
            SectionBlock(fields=[_plain(caller), _plain(duration)]),
            SectionBlock(text=_plain(summary)),
            SectionBlock(text=MarkdownTextObject(text=f"<{page_of(call.call_id)}|Open the call>")),
        ],
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _plain(text: str) -> PlainTextObject:
    return PlainTextObject(text=text, emoji=False)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _duration(call: Call) -> str:
    if call.duration is None:
        return "unknown"
    minutes, seconds = divmod(round(call.duration.total_seconds()), 60)
    return f"{minutes}:{seconds:02} min"


def _refusal(error: SlackApiError) -> Exception:
    response = error.response
    name = response.get("error") if isinstance(response.data, dict) else None
    if name in _REMEDIES:
        return GiveUp(f"Slack answered {name}. {_REMEDIES[name]}")
    if response.status_code != 200:
        status, headers = response.status_code, response.headers
        return failures.of_status("Slack", status, headers, _REMEDIES_BY_STATUS)
    # Of errors that are not in the table nobody knows whether they pass.
    is_name = isinstance(name, str) and name.isidentifier()
    return Retry(reason=f"Slack answered {name if is_name else 'what is no error of its own'}.")
