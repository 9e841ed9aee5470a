"""One service is down: what has to do with it waits and is made up for, and the rest is done."""

from __future__ import annotations

from pathlib import Path

import pytest

UNHAPPY = Path(__file__).parent.parent / "rehearsals" / "unhappy.json"


@pytest.mark.parametrize(
    ("name", "waiting"),
    [
        ("openai", "make_tasks"),
        ("todoist", "make_tasks"),
        ("slack", "raise_alarm"),
        ("hubspot", "log_in_crm"),
    ],
)
def test_an_outage_of_one_service(
    name, waiting, retell_client, retell_inbox, openai, todoist, slack, hubspot
):
    service = {"openai": openai, "todoist": todoist, "slack": slack, "hubspot": hubspot}[name]
    openai.items = [{"text": "Call back", "due": "tomorrow"}]

    def left(sent):
        return {
            (each.receiver, each.status.value)
            for one in sent
            for each in retell_inbox.deliveries(one.event)
            if each.status.value != "done"
        }

    def made():
        return (len(todoist.tasks), len(slack.messages), len(hubspot.calls))

    service.stop()
    sent = retell_client.send_call(UNHAPPY, check=False)
    retell_client.drain(until="2m", check=False)  # in which it is tried again, in vain
    assert left(sent) == {(waiting, "pending")}
    assert (
        made()
        == {
            "openai": (0, 1, 1),
            "todoist": (0, 1, 1),
            "slack": (1, 0, 1),
            "hubspot": (1, 1, 0),
        }[name]
    )

    service.start()
    retell_client.drain()
    assert left(sent) == set()
    assert made() == (1, 1, 1)
