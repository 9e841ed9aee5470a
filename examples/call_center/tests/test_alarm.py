from __future__ import annotations

import logging

import pytest

from call_center import alarm
from call_center.models import Call, Sending
from services.attempts import ECHO, USUAL, lost_note
from services.service import Fault
from services.slack import error

NO_ERROR = "Slack answered what is no error of its own."


def test_an_unhappy_caller_is_told_of(retell_client, slack, rows):
    sent = retell_client.send("call_analyzed_negative", **{"call_analysis.call_summary": "Cross."})
    call_id = sent.event.call.call_id
    caller, duration = "Caller: +14155550158", "Duration: 0:41 min"
    (asked,) = slack.asked
    assert asked.path == "/api/chat.postMessage"
    assert asked.headers["authorization"] == "Bearer xoxb-for-tests"
    assert asked.json == {
        "channel": "#customer-escalations",
        "text": f"Unhappy caller. {caller}. {duration}. Cross.",
        "blocks": [
            {"type": "header", "text": plain("Unhappy caller")},
            {"type": "section", "fields": [plain(caller), plain(duration)]},
            {"type": "section", "text": plain("Cross.")},
            {
                "type": "section",
                "text": {
                    "type": "mrkdwn",
                    "text": f"<http://127.0.0.1:5000/calls/{call_id}|Open the call>",
                },
            },
        ],
        "parse": "none",
        "link_names": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }
    (sending,) = rows(Sending)
    assert (sending.call_id, sending.service, sending.what) == (call_id, "slack", "alarm")
    assert (sending.worked, sending.detail, sending.attempts) == (True, "1791290405.000001", 1)


def plain(text):
    return {"type": "plain_text", "text": text, "emoji": False}


def test_a_caller_who_is_not_unhappy_is_not(retell_client, slack):
    retell_client.send("call_analyzed")
    assert slack.asked == []


def test_what_a_caller_said_neither_calls_the_channel_nor_links(retell_client, slack):
    said = "<!channel> & <https://evil.example|our page>"
    changes = {"call_analysis.call_summary": said, "from_number": "<!here>"}
    retell_client.send("call_analyzed_negative", **changes)
    (message,) = slack.messages
    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|our page&gt;" in message["text"]
    assert "<" not in message["text"]
    texts = [block.get("text") for block in message["blocks"]]
    assert plain(said) in texts
    markup = [text for text in texts if text and text["type"] == "mrkdwn"]
    assert [text["text"].partition("/call_")[0] for text in markup] == [
        "<http://127.0.0.1:5000/calls"
    ]


def test_a_long_summary_is_cut_to_what_slack_takes(retell_client, slack):
    retell_client.send(
        "call_analyzed_negative",
        from_number=f"sip:{'9' * 2100}@example.com",
        **{"call_analysis.call_summary": "&" * 9000},
    )
    (message,) = slack.messages
    assert len(message["blocks"][2]["text"]["text"]) == 3000
    assert len(message["blocks"][1]["fields"][0]["text"]) < 2000
    assert message["text"].endswith("&amp;" * 3000)


@pytest.mark.parametrize("summary", [None, "", " \n"])
def test_a_call_of_which_little_is_known(summary, retell_client, slack):
    changes = {"call_analysis.call_summary": summary, "from_number": None, "duration_ms": None}
    retell_client.send("call_analyzed_negative", **changes)
    (message,) = slack.messages
    assert message["text"] == (
        "Unhappy caller. Caller: unknown. Duration: unknown. There is no summary."
    )


@pytest.mark.parametrize(
    ("fault", "status", "wait", "detail"),
    [
        (Fault(429, {"ok": False, "error": "ratelimited"}, headers={"Retry-After": "30"}),
         "pending", (35, 90), "Slack answered 429."),
        (error("ratelimited"), "pending", USUAL, "Slack answered ratelimited."),
        (error("internal_error"), "pending", USUAL, "Slack answered internal_error."),
        (error(ECHO), "pending", USUAL, NO_ERROR),
        (Fault(503, text=ECHO), "pending", USUAL, "Slack answered 503."),
        (Fault(200, text=f"{{{ECHO}"), "pending", USUAL, NO_ERROR),
        (Fault(200, [ECHO]), "pending", USUAL,
         "Slack's answer cannot be read: AttributeError."),
        (Fault(200, text=""), "pending", USUAL, NO_ERROR),
        (Fault(200, breaks=True), "pending", USUAL, "Slack did not answer."),
        (Fault(hangs=True), "pending", USUAL, "Slack did not answer."),
        (error("invalid_auth"), "dead", (0, 0),
         "Slack answered invalid_auth. See SLACK_BOT_TOKEN."),
        (error("not_in_channel"), "dead", (0, 0),
         "Slack answered not_in_channel. Invite the bot to the channel."),
        (Fault(404, text=ECHO), "dead", (0, 0), "Slack answered 404."),
        (Fault(401, text=ECHO), "dead", (0, 0), "Slack answered 401. See SLACK_BOT_TOKEN."),
    ],
)  # fmt: skip
def test_what_becomes_of_a_failure(fault, status, wait, detail, attempts, slack, monkeypatch):
    monkeypatch.setattr(alarm, "TIMEOUT", 1.0)
    slack.fail(fault)
    attempt = attempts("call_analyzed_negative", "raise_alarm")
    assert (attempt.status, attempt.detail) == (status, detail)
    assert wait[0] <= attempt.seconds <= wait[1]
    assert detail in attempt.error
    assert len(slack.asked) == 1


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("SLACK_BOT_TOKEN", "xoxb-another", "See SLACK_BOT_TOKEN."),
        ("SLACK_CHANNEL", "#unknown", "See SLACK_CHANNEL, and invite the bot"),
    ],
)
def test_a_wrong_setting_is_named(option, value, remedy, app, attempts, slack):
    app.config[option] = value
    attempt = attempts("call_analyzed_negative", "raise_alarm")
    assert attempt.status == "dead"
    assert remedy in attempt.detail
    assert value not in attempt.detail


def test_what_is_no_calls_raises_no_alarm(retell_client, slack, rows):
    chat = retell_client.send("chat_analyzed", **{"chat_analysis.user_sentiment": "Negative"})
    for summary in ("One.", "Another."):  # the second time as a revision
        changes = {"chat_id": chat.event.chat.chat_id, "chat_analysis.chat_summary": summary}
        retell_client.send("chat_analyzed", **changes)
    retell_client.send("alert_triggered")
    assert slack.asked == rows(Call) == []


def test_a_repeated_event_is_posted_once(retell_client, slack):
    retell_client.send("call_analyzed_negative", twins=3)
    retell_client.drain()
    assert len(slack.messages) == 1


def test_an_analysis_that_was_made_again_and_is_negative_is_told_of(retell_client, slack):
    sent = retell_client.send("call_analyzed")
    call_id = sent.event.call.call_id
    for summary in ("Not happy.", "Not happy at all."):
        changes = {"call_id": call_id, "call_analysis.call_summary": summary}
        retell_client.send("call_analyzed_negative", **changes)
    assert len(slack.messages) == 1


@pytest.mark.parametrize("ts", [None, 7, {"a": 1}, "1" * 5000])
def test_whatever_slack_calls_a_message_it_is_posted_once(ts, retell_client, slack, rows):
    slack.fail(Fault(200, {"ok": True, "ts": ts}))
    retell_client.send("call_analyzed_negative")
    assert [sending.worked for sending in rows(Sending)] == [True]


def test_a_receiver_that_runs_again_posts_nothing(app, retell_client, slack):
    sent = retell_client.send("call_analyzed_negative")
    with app.app_context():
        alarm.raise_alarm(sent.event.call)  # as flask retell replay --all does
    assert len(slack.messages) == 1


def test_a_post_that_was_not_noted_comes_twice(retell_client, slack, rows):
    with lost_note():
        retell_client.send("call_analyzed_negative", check=False)
    retell_client.drain()
    assert len(slack.messages) == 2  # Slack has no key by which it would know
    (sending,) = rows(Sending)
    assert (sending.worked, sending.attempts) == (True, 2)


def test_without_a_token_it_goes_to_the_log(retell_client, rows, caplog):
    sent = retell_client.send("call_analyzed_negative", twins=2)
    call_id = sent.event.call.call_id
    (line,) = [each for each in caplog.records if each.name == "call_center.alarm"]
    assert line.levelno == logging.WARNING
    assert line.getMessage() == (
        f"Unhappy caller: 0:41 min, http://127.0.0.1:5000/calls/{call_id}"
    )
    (sending,) = rows(Sending)
    assert (sending.service, sending.worked, sending.detail) == ("log", True, None)
