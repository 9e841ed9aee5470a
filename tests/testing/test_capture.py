from __future__ import annotations

import pytest

from retell_flask import RetellBlueprint, call_ended
from retell_flask.testing import RetellTestClient, capture
from support import make_app


def test_what_is_sent_is_noted_with_sender_and_event(retell: RetellBlueprint) -> None:
    client = RetellTestClient(make_app(retell))
    with capture("call_error", call_ended) as captured:
        client.send("call_ended_not_connected")
    client.send("call_ended", call_id="later")
    assert captured.signals == ["call_ended", "call_error"]
    ended, failed = captured
    assert ended.sender is retell
    assert ended.event is not None
    assert ended.event.session_id == failed.keywords["event"].session_id
    assert len(captured.events) == 1
    assert captured.of(call_ended) == [ended]


def test_signals_about_the_receiving_are_noted_without_an_event(retell: RetellBlueprint) -> None:
    client = RetellTestClient(make_app(retell))
    with client.capture() as captured:
        client.post({"event": "call_ended"}, header="")
    ((signal, _, event, keywords),) = captured
    assert (signal, event, keywords["reason"]) == ("webhook_rejected", None, "missing")


def test_captures_may_be_inside_of_others(retell: RetellBlueprint) -> None:
    client = RetellTestClient(make_app(retell))
    with client.capture("call_ended") as outer:
        with client.capture("call_ended") as inner:
            client.send("call_ended")
        client.send("call_ended", call_id="another")
    assert (len(outer), len(inner)) == (2, 1)
    assert client.inbox.deliveries("another") == []


def test_a_signal_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="no signal 'call_end'"), capture("call_end"):
        pass
