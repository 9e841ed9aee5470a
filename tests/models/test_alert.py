from __future__ import annotations

from datetime import datetime, timezone

from retell_flask import AlertEvent
from retell_flask.events import parse_event
from retell_flask.testing import encode, sample


def test_fields_of_an_alert() -> None:
    event = parse_event(encode(sample("alert_triggered")))
    assert isinstance(event, AlertEvent)
    assert event.alert.metric_type == "transfer_call_failure_count"
    assert event.alert.emails == ("oncall@example.com",)
    assert event.alert.triggered_at is not None
    assert event.alert.resolved_at is None
    assert event.session_id is None


def test_a_resolved_alert_says_when() -> None:
    payload = {"event": "alert_resolved", "alert": {"resolved_timestamp": 0}}
    alert = parse_event(encode(payload)).alert
    assert alert is not None
    assert alert.resolved_at == datetime(1970, 1, 1, tzinfo=timezone.utc)
