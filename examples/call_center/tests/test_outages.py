"""One service is down: what has to do with it waits and is made up for, and the rest is done."""

from __future__ import annotations

import pytest

TALK = "User: Please call me back tomorrow."
DONE, PENDING = "done", "pending"


@pytest.mark.parametrize(
    ("name", "event", "waiting", "made"),
    [
        ("openai", "call_ended", "make_tasks", lambda service: service.asked),
        ("todoist", "call_ended", "make_tasks", lambda service: service.tasks),
        ("slack", "call_analyzed_negative", "raise_alarm", lambda service: service.messages),
        ("hubspot", "call_analyzed_negative", "log_in_crm", lambda service: service.calls),
    ],
)
def test_an_outage_of_one_service(
    name, event, waiting, made, retell_client, retell_inbox, openai, todoist, slack, hubspot
):
    service = {"openai": openai, "todoist": todoist, "slack": slack, "hubspot": hubspot}[name]
    openai.items = [{"text": "Call back", "due": "tomorrow"}]

    def statuses(sent):
        return {each.receiver: each.status.value for each in retell_inbox.deliveries(sent.event)}

    service.stop()
    sent = retell_client.send(event, transcript=TALK, check=False)
    retell_client.drain(until="2m", check=False)  # in which it is tried again, in vain
    meanwhile = statuses(sent)
    assert meanwhile.pop(waiting) == PENDING
    assert set(meanwhile.values()) == {DONE}
    assert len(made(service)) == 0

    service.start()
    retell_client.drain()
    assert set(statuses(sent).values()) == {DONE}
    assert len(made(service)) == 1
    assert (len(todoist.tasks), len(slack.messages), len(hubspot.calls)) == {
        "call_ended": (1, 0, 0),
        "call_analyzed_negative": (0, 1, 1),
    }[event]
