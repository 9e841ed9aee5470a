from __future__ import annotations

from typing import Any, get_args

import pytest
from retell.types import PhoneCallResponse

from retell_flask import Event, Transfer
from retell_flask.events import parse_event
from retell_flask.models import DISCONNECTION_REASONS
from retell_flask.testing import encode, sample
from support import call_payload


def parse(payload: dict[str, Any]) -> Event:
    return parse_event(encode(payload))


def test_transfer_as_an_object_beside_the_call() -> None:
    transfer = parse(sample("transfer_started")).transfer
    assert transfer is not None
    assert transfer.destination == transfer.number == "+14155550163"
    assert transfer.extension == "204"
    assert transfer.option is not None
    assert transfer.option["showTransfereeAsCaller"] is True


@pytest.mark.parametrize(
    ("beside", "within"),
    [
        ({"transfer_destination": "+14155550163"}, {}),
        ({"transfer_destination": {"number": "+14155550163"}}, {}),
        ({"transfer_number": "+14155550163"}, {}),
        ({}, {"transfer_number": "+14155550163"}),
        ({}, {"transfer_destination": "+14155550163"}),
    ],
)
def test_transfer_wherever_its_number_stands(beside: Any, within: Any) -> None:
    event = parse({**call_payload("transfer_started", **within), **beside})
    assert event.transfer == Transfer(destination="+14155550163", number="+14155550163")


@pytest.mark.parametrize("uri", ["sip:ops@example.com;transport=tls", "SIPS:ops@example.com"])
def test_a_sip_uri_is_no_number(uri: str) -> None:
    transfer = parse({**call_payload("transfer_bridged"), "transfer_destination": uri}).transfer
    assert transfer == Transfer(destination=uri)


def test_a_number_as_extension_becomes_text() -> None:
    sent = {"number": "+1", "extension": 204}
    transfer = parse({**call_payload("transfer_ended"), "transfer_destination": sent}).transfer
    assert transfer is not None
    assert transfer.extension == "204"


def test_a_transfer_without_a_destination_is_there_and_empty() -> None:
    assert parse(call_payload("transfer_started")).transfer == Transfer()
    ended = call_payload("call_ended", disconnection_reason="call_transfer")
    assert parse(ended).transfer == Transfer()


def test_no_transfer_where_none_is_spoken_of() -> None:
    assert parse(sample("call_ended")).transfer is None
    assert parse(sample("chat_analyzed")).transfer is None


@pytest.mark.parametrize(
    ("name", "code", "retryable"),
    [
        ("call_ended_not_connected", "dial_no_answer", True),
        ("call_ended_web_error", "error_user_not_joined", True),
    ],
)
def test_failure_of_retells_own_events(name: str, code: str, retryable: bool) -> None:
    error = parse(sample(name)).error
    assert error is not None
    assert (error.code, error.retryable) == (code, retryable)
    assert error.message == DISCONNECTION_REASONS[code].message


@pytest.mark.parametrize(
    ("beside", "within"),
    [
        ({"error_code": "e1", "error_message": "Broken."}, {}),
        ({}, {"error_code": "e1", "error_message": "Broken."}),
        ({"error": {"code": "e1", "message": "Broken."}}, {}),
        ({}, {"error": {"code": "e1", "message": "Broken."}}),
    ],
)
def test_failure_by_its_older_names(beside: Any, within: Any) -> None:
    error = parse({**call_payload("call_error", **within), **beside}).error
    assert error is not None
    assert (error.code, error.message, error.retryable) == ("e1", "Broken.", False)


def test_odd_older_errors_do_no_harm() -> None:
    error = parse({**call_payload("call_error"), "error": {"code": 5, "message": []}}).error
    assert error is not None
    assert error.code == "5"
    assert error.message
    assert parse({**call_payload("call_error"), "error": "Broken."}).error is not None


def test_an_unknown_reason_has_a_message_too() -> None:
    error = parse(
        call_payload("call_ended", call_status="error", disconnection_reason="new_reason")
    ).error
    assert error is not None
    assert (error.code, error.retryable) == ("new_reason", False)
    assert error.message


def test_no_failure_where_the_call_went_well() -> None:
    assert parse(sample("call_ended")).error is None


def test_every_reason_of_the_sdk_has_a_sentence() -> None:
    annotation = PhoneCallResponse.model_fields["disconnection_reason"].annotation
    reasons = set(get_args(get_args(annotation)[0]))
    assert len(reasons) >= 39
    assert reasons <= set(DISCONNECTION_REASONS)
    for reason in DISCONNECTION_REASONS.values():
        assert reason.message[0].isupper()
        assert reason.message.endswith(".")


@pytest.mark.parametrize(
    ("payload", "voicemail"),
    [
        (call_payload("call_ended", disconnection_reason="voicemail_reached"), True),
        (call_payload("call_analyzed", call_analysis={"in_voicemail": True}), True),
        (call_payload("voicemail_detected"), True),
        (call_payload("call_analyzed", call_analysis={"in_voicemail": False}), False),
        (call_payload("call_ended"), False),
    ],
)
def test_voicemail(payload: dict[str, Any], voicemail: bool) -> None:
    assert parse(payload).voicemail is voicemail
