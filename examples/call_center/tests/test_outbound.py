from __future__ import annotations

import re
from html import escape

import pytest
from sqlalchemy import text

from call_center import create_app
from call_center.models import Call, db
from retell_stand_in import retell_stand_in

FORM = {"from_number": "+14155550100", "to_number": "+14155550142"}


@pytest.fixture
def retell():
    with retell_stand_in() as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def retell_url(retell, monkeypatch):
    """For the application, which is made after this."""
    monkeypatch.setenv("RETELL_API_URL", retell.url)


@pytest.fixture
def client(app):
    app.debug = True  # no password is needed then, from this machine
    return app.test_client()


def fill(client, **fields):
    """The form as a browser sends it: with its hidden fields."""
    page = client.get("/outbound").text
    hidden = dict(re.findall(r'name="(\w+)" type="hidden" value="([^"]+)"', page))
    return {**hidden, **FORM, **fields}


def stored(app, call_id):
    with app.app_context():
        return db.session.get(Call, call_id)


def test_a_call_is_started_and_shown_at_once(app, client, retell):
    form = fill(client, agent_id=" agent_7 ", variables="name=Ada\n\nformula = a=b\n")
    answer = client.post("/outbound", data=form)
    assert (answer.status_code, answer.location) == (303, "/calls/call_rung_1")
    (sent,) = retell.requests
    assert len(sent.pop("idempotency_key")) == 32
    assert sent == {
        **FORM,
        "override_agent_id": "agent_7",
        "retell_llm_dynamic_variables": {"name": "Ada", "formula": "a=b"},
    }
    page = client.get(answer.location).text
    assert all(text in page for text in ("+14155550142", "Bayview Reminder", "Live", "Outbound"))


def test_its_events_go_on_with_the_same_call(app, client, retell_client):
    call_id = client.post("/outbound", data=fill(client)).location.rpartition("/")[2]
    retell_client.send("call_ended_voicemail", call_id=call_id)
    assert stored(app, call_id).outcome == "voicemail"


def test_numbers_may_be_written_for_people(client, retell):
    client.post("/outbound", data=fill(client, to_number="\u202a+1 (415) 555-0142\u202c "))
    assert retell.requests[0]["to_number"] == "+14155550142"


@pytest.mark.parametrize(
    "fields",
    [
        {"to_number": "4155550142"},
        {"to_number": "+1415555o142"},
        {"to_number": "+0155550142"},
        {"to_number": "+\uff11\uff14\uff11\uff15\uff15\uff15\uff15\uff10\uff11\uff14\uff12"},
        {"to_number": "+14155550142\n+14155550143"},
        {"to_number": ""},
        {"from_number": "+1415555010012345"},
        {"variables": "no equals sign"},
        {"variables": "=nameless"},
        {"form_id": "none"},
    ],
)
def test_a_wrong_form_rings_nobody(client, retell, fields):
    answer = client.post("/outbound", data=fill(client, **fields))
    assert answer.status_code == 422
    assert "Nobody was called" in answer.text
    assert retell.requests == []


def test_what_is_wrong_is_said_at_the_field(client):
    page = client.post("/outbound", data=fill(client, to_number="555")).text
    assert re.search(r'<input[^>]*aria-describedby="to_number-hint to_number-error"', page)
    assert re.search(r'<input[^>]*aria-invalid="true"[^>]*id="to_number"', page)
    assert 'id="to_number-error">Write the number with +' in page


def test_a_form_that_is_sent_twice_rings_once(client, retell):
    form = fill(client)
    answers = [client.post("/outbound", data=form) for _ in range(2)]
    assert {answer.location for answer in answers} == {"/calls/call_rung_1"}
    assert len(retell.calls) == 1


def test_another_number_in_the_same_form_is_another_call(client, retell):
    form = fill(client)
    client.post("/outbound", data=form)
    client.post("/outbound", data={**form, "to_number": "+14155550143"})
    rung = [call["to_number"] for call in retell.calls.values()]
    assert rung == ["+14155550142", "+14155550143"]


def test_without_the_token_nobody_is_called(client, retell):
    form = fill(client)
    del form["csrf_token"]
    answer = client.post("/outbound", data=form)
    assert answer.status_code == 400
    assert "reload it" in answer.text
    assert retell.requests == []


def test_the_form_can_be_sent_behind_tls(client, retell):
    """Flask-WTF wants the referrer there, which our policy must not withhold."""
    https = {"base_url": "https://localhost"}
    page = client.get("/outbound", **https)
    hidden = dict(re.findall(r'name="(\w+)" type="hidden" value="([^"]+)"', page.text))
    referrer = {"Referer": "https://localhost/outbound"}
    answer = client.post("/outbound", data={**hidden, **FORM}, headers=referrer, **https)
    assert answer.status_code == 303


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "from_number is not <b>yours</b>"),
        (401, "Invalid API key"),
        (402, "Trial is over, please add a payment method"),
        (422, "agent not found"),
        (429, "Too many requests"),
        (500, "Internal error"),
    ],
)
def test_why_retell_refused_is_said(client, retell, status, message):
    retell.refuse_with = status, message
    answer = client.post("/outbound", data=fill(client, variables="name=Ada"))
    assert answer.status_code == 502
    said = f"Retell did not start the call. POST /v2/create-phone-call: {status} {escape(message)}"
    assert said in answer.text
    assert 'value="+14155550142"' in answer.text
    assert "name=Ada</textarea>" in answer.text


def test_a_call_that_may_ring_is_not_denied(client, retell):
    retell.is_silent = True
    form = fill(client)
    answer = client.post("/outbound", data=form)
    assert "It is not known whether Retell started the call." in answer.text
    retell.is_silent = False
    assert client.post("/outbound", data=form).location == "/calls/call_rung_1"
    assert len(retell.calls) == 1


def test_a_call_that_cannot_be_noted_rings_all_the_same(app, client, retell, caplog):
    form = fill(client)
    with app.app_context():
        db.session.execute(text("DROP TABLE call"))
        db.session.commit()
    assert client.post("/outbound", data=form).location == "/calls/call_rung_1"
    assert "The call 'call_rung_1' was started and not noted" in caplog.text


def test_in_tests_no_phone_rings(monkeypatch):
    monkeypatch.delenv("RETELL_API_URL")
    app = create_app(TESTING=True, CALL_CENTER_DATABASE_URL="sqlite://")
    app.debug = True
    client = app.test_client()
    assert "is not called" in client.post("/outbound", data=fill(client)).text


def test_the_command_does_the_same(app, retell):
    app.config["CALL_CENTER_PUBLIC_URL"] = "https://calls.example"
    arguments = ["call-center", "call", *FORM.values(), "--agent", "agent_7", "--var", "name=Ada"]
    result = app.test_cli_runner().invoke(args=arguments)
    assert result.output == "https://calls.example/calls/call_rung_1\n"
    assert retell.requests[0]["retell_llm_dynamic_variables"] == {"name": "Ada"}
    assert stored(app, "call_rung_1").caller == "+14155550142"


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["0100", "+14155550142"], "Invalid value for 'FROM': Write the number with +", 2),
        ([*FORM.values(), "--var", "name"], "“name” is not name=value.", 2),
    ],
)
def test_the_command_says_what_is_wrong(app, retell, arguments, said, code):
    result = app.test_cli_runner().invoke(args=["call-center", "call", *arguments])
    assert said in result.output
    assert result.exit_code == code
    assert retell.requests == []


def test_the_command_says_why_retell_refused(app, retell):
    retell.refuse_with = 402, "Trial is over"
    result = app.test_cli_runner().invoke(args=["call-center", "call", *FORM.values()])
    assert "402 Trial is over" in result.output
    assert result.exit_code == 1


def test_the_tables_are_made_by_command(app):
    with app.app_context():
        db.drop_all()
    made = app.test_cli_runner().invoke(args=["call-center", "init-db"])
    assert "The tables are there, in sqlite:///" in made.output
    assert made.exit_code == 0
    assert stored(app, "call_1") is None


def test_a_database_that_cannot_be_reached_is_said_in_a_line(app):
    address = "postgresql://nobody:secret@127.0.0.1:9/nothing"
    away = create_app(TESTING=True, CALL_CENTER_DATABASE_URL=address)
    made = away.test_cli_runner().invoke(args=["call-center", "init-db"])
    assert "CALL_CENTER_DATABASE_URL: no tables could be made. connection" in made.output
    assert "secret" not in made.output
    assert made.exit_code == 1
