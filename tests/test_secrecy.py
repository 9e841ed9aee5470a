"""No key, signature or payload in a log line, a repr, an answer or an exception."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import pytest
from flask import Flask

from retell_flask import (
    ConfigurationError,
    Event,
    PayloadError,
    RetellBlueprint,
    SignatureError,
    parse_event,
)
from retell_flask.signatures import verify
from retell_flask.testing import encode, sample, sample_names, sign
from support import Post, call_payload, make_app

KEY = "key_that_nobody_may_see"
SPOKEN = "spoken by an attacker"
NUMBER = "+14155550142"


def signed_with(key: str, body: bytes) -> tuple[str, str]:
    header = sign(body, key)
    return header, header.split("d=")[1]


@pytest.fixture
def app(retell: RetellBlueprint) -> Flask:
    return make_app(retell, RETELL_API_KEY=KEY, RETELL_WEBHOOK_SECRET=KEY + "2")


def test_nothing_leaks_from_a_day_of_receiving(
    retell: RetellBlueprint, app: Flask, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []

    @retell.on("event_received", name="reader")
    def reader(sender: Any, event: Event, **extra: Any) -> None:
        for value in (event, event.call, event.chat, event.transfer, event.error, event.alert):
            shown.append(f"{value!r} {value!s}")
        if event.call:
            shown.append(repr((event.call.analysis, event.call.transcript_object)))

    @retell.on("call_ended", name="failing")
    def failing(sender: Any, **extra: Any) -> None:
        raise ValueError("mine")

    odd = call_payload("call_ended", transcript=SPOKEN, latency={"e2e": SPOKEN}, metadata=SPOKEN)
    digests = []
    for payload in [
        *map(sample, sample_names()),
        odd,
        {"event": "hologram", "x": SPOKEN},
        [SPOKEN],
    ]:
        body = encode(payload)
        for key in (KEY, KEY + "2", "wrong"):
            header, digest = signed_with(key, body)
            digests.append(digest)
            shown.append(post(body, header=header).text)
    formatter = logging.Formatter("%(message)s")
    shown += [f"{formatter.format(record)} {vars(record)}" for record in caplog.records]
    shown += [repr(app.extensions), repr(app.extensions["retell"]["retell"].settings)]
    everything = "\n".join(shown)
    assert len(shown) > 100
    assert "refused with 401" in everything
    assert "latency.e2e" in everything
    for private in (KEY, SPOKEN, "Thursday", NUMBER, "José", *digests):
        assert private not in everything


def test_no_exception_of_ours_shows_what_was_sent() -> None:
    body = encode({"event": "call_ended", "call": SPOKEN})
    for raises in (
        lambda: parse_event(body),
        lambda: parse_event(SPOKEN.encode()),
        lambda: verify(body, sign(body, KEY), "wrong"),
        lambda: make_app(RetellBlueprint(), RETELL_API_KEY=["", KEY]),
        lambda: make_app(RetellBlueprint(), RETELL_MAX_BODY=KEY),
    ):
        with pytest.raises((SignatureError, ConfigurationError, PayloadError)) as caught:
            raises()
        text = "".join(traceback.format_exception(caught.value))
        text += str(vars(caught.value))
        assert SPOKEN not in text
        assert KEY not in text
