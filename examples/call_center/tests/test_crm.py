from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from call_center import crm, sendings
from call_center import hubspot as client
from call_center.models import Activity, ContactClaim, Sending, db, now
from retell_flask import Call, Retry
from services.attempts import ECHO, USUAL, lost_note
from services.hubspot import OLDEST_FIRST, error
from services.service import Fault

CALLER, LINE = "+14155550142", "+14155550100"
PATH = "/crm/objects/2026-09"


def search(kind, *names, value):
    filters = [
        {"filters": [{"propertyName": name, "operator": "EQ", "value": value}]} for name in names
    ]
    first = {"sorts": OLDEST_FIRST, "limit": 1}
    return f"{PATH}/{kind}/search", {"filterGroups": filters, **first}


def test_a_call_is_logged_on_a_new_contact(retell_client, hubspot, rows):
    summary = {"call_analysis.call_summary": "Moved to Thursday."}
    sent = retell_client.send("call_analyzed", **summary)
    call = sent.event.call
    asked = [(each.path, each.json) for each in hubspot.asked]
    assert asked == [
        search("calls", "hs_call_external_id", value=call.call_id),
        search("contacts", "phone", "mobilephone", value=CALLER),
        (f"{PATH}/contacts", {"properties": {"phone": CALLER, "lastname": CALLER}}),
        (f"{PATH}/calls", {
            "properties": {
                "hs_call_external_id": call.call_id,
                "hs_timestamp": str(call.start_timestamp),
                "hs_call_title": "Call with Bayview Front Desk",
                "hs_call_body": "<p>Moved to Thursday.</p><p><a href=\"http://127.0.0.1:5000"
                                f"/calls/{call.call_id}\">Open the call</a></p>",
                "hs_call_direction": "INBOUND",
                "hs_call_status": "COMPLETED",
                "hs_call_duration": "26480",
                "hs_call_from_number": CALLER,
                "hs_call_to_number": LINE,
                "hs_call_recording_url": call.recording_url,
            },
            "associations": [{
                "to": {"id": "101"},
                "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 194}],
            }],
        }),
    ]  # fmt: skip
    assert {each.headers["authorization"] for each in hubspot.asked} == {
        "Bearer pat-na1-for-tests"
    }
    (sending,) = rows(Sending)
    assert (sending.service, sending.what, sending.worked) == ("hubspot", "call", True)
    assert sending.detail == hubspot.calls[0]["id"] == "102"


@pytest.mark.parametrize("name", ["phone", "mobilephone"])
def test_a_contact_that_is_there_is_taken(name, retell_client, hubspot):
    contact = hubspot.add_contact(**{name: CALLER, "email": "ada@example.com"})
    retell_client.send("call_analyzed")
    assert len(hubspot.contacts) == 1
    assert contacts_of(hubspot.calls[0]) == [contact]


def contacts_of(call):
    return [each["to"]["id"] for each in call["associations"]]


def test_the_person_is_whom_an_outbound_call_rang(retell_client, hubspot):
    retell_client.send("call_analyzed_no_answer")
    (contact,) = hubspot.contacts
    (call,) = hubspot.calls
    assert contact["properties"]["phone"] == call["properties"]["hs_call_to_number"]
    assert call["properties"]["hs_call_direction"] == "OUTBOUND"
    assert call["properties"]["hs_call_status"] == "NO_ANSWER"


@pytest.mark.parametrize("number", [None, "anonymous", "+0", "sip:ada@example.com"])
def test_a_caller_without_a_number_is_no_contact(number, retell_client, hubspot):
    retell_client.send("call_analyzed", from_number=number)
    assert hubspot.contacts == []
    assert contacts_of(hubspot.calls[0]) == []


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("ended", "user_hangup", "COMPLETED"),
        ("ended", "voicemail_reached", "COMPLETED"),
        ("not_connected", "dial_busy", "BUSY"),
        ("not_connected", "dial_no_answer", "NO_ANSWER"),
        ("not_connected", "dial_failed", "FAILED"),
        ("error", "error_asr", "FAILED"),
        ("ended", "a_reason_of_next_year", "COMPLETED"),
    ],
)
def test_how_a_call_went_in_hubspots_words(status, reason, expected, retell_client, hubspot):
    retell_client.send("call_analyzed", call_status=status, disconnection_reason=reason)
    assert hubspot.calls[0]["properties"]["hs_call_status"] == expected


def test_what_is_sent_is_escaped_and_of_https(retell_client, hubspot):
    summary = {"call_analysis.call_summary": "<script>&"}
    retell_client.send("call_analyzed", recording_url="http://example.com/a.wav", **summary)
    properties = hubspot.calls[0]["properties"]
    assert "<p>&lt;script&gt;&amp;</p>" in properties["hs_call_body"]
    assert "hs_call_recording_url" not in properties


def validation_error(status):
    return Fault(status, error("VALIDATION_ERROR", f"{ECHO} was not one of the allowed options"))


@pytest.mark.parametrize(
    ("fault", "status", "wait", "detail"),
    [
        (Fault(429, error("RATE_LIMITS", "secondly"), headers={"Retry-After": "9"}),
         "pending", (14, 69), "HubSpot answered 429."),
        (Fault(429, error("RATE_LIMITS", "daily")), "pending", USUAL, "HubSpot answered 429."),
        (Fault(477, headers={"Retry-After": "3600"}), "pending", (3605, 3660),
         "HubSpot answered 477."),
        (Fault(502, text=ECHO), "pending", USUAL, "HubSpot answered 502."),
        (Fault(503, error("", ECHO)), "pending", USUAL, "HubSpot answered 503."),
        (Fault(200, text=f"{{{ECHO}"), "pending", USUAL, "HubSpot's answer cannot be read."),
        (Fault(200, {"results": ECHO}), "pending", USUAL, "HubSpot's answer cannot be read."),
        (Fault(200, breaks=True), "pending", USUAL, "HubSpot did not answer."),
        (Fault(hangs=True), "pending", USUAL, "HubSpot did not answer."),
        (Fault(401, error("INVALID_AUTHENTICATION", ECHO)), "dead", (0, 0),
         "HubSpot answered 401. See HUBSPOT_ACCESS_TOKEN."),
        (Fault(403, error("MISSING_SCOPES", ECHO)), "dead", (0, 0),
         "HubSpot answered 403. The token needs the scopes crm.objects.contacts.read and"
         " crm.objects.contacts.write."),
        (validation_error(400), "dead", (0, 0), "HubSpot answered 400."),
    ],
)  # fmt: skip
def test_what_becomes_of_a_failure(fault, status, wait, detail, attempts, hubspot, monkeypatch):
    monkeypatch.setattr(client, "TIMEOUT", 1.0)
    hubspot.fail(fault)
    attempt = attempts("call_analyzed", "log_in_crm")
    assert (attempt.status, attempt.detail) == (status, detail)
    assert wait[0] <= attempt.seconds <= wait[1]
    assert detail in attempt.error
    assert len(hubspot.asked) == 1


def test_a_wrong_token_is_named(app, attempts, hubspot):
    app.config["HUBSPOT_ACCESS_TOKEN"] = "pat-another"
    attempt = attempts("call_analyzed", "log_in_crm")
    assert (attempt.status, attempt.detail) == (
        "dead",
        "HubSpot answered 401. See HUBSPOT_ACCESS_TOKEN.",
    )


def test_a_repeated_event_is_logged_once(retell_client, hubspot):
    retell_client.send("call_analyzed", twins=3)
    retell_client.drain()
    assert (len(hubspot.contacts), len(hubspot.calls)) == (1, 1)


@pytest.fixture
def slow_search(retell_client, hubspot, monkeypatch):
    """What HubSpot made is found after most of a minute, by the clock of the tests."""
    clock = retell_client.clock
    clock.freeze()
    hubspot.lag = timedelta(seconds=55)
    for module in (hubspot, crm, sendings):
        monkeypatch.setattr(module, "now", lambda: clock.now)


@pytest.mark.usefixtures("slow_search")
def test_a_call_that_was_not_noted_is_found(retell_client, hubspot, rows):
    with lost_note():
        retell_client.send("call_analyzed", check=False)
    retell_client.drain()
    assert (len(hubspot.contacts), len(hubspot.calls)) == (1, 1)
    (sending,) = rows(Sending)
    assert (sending.worked, sending.detail, sending.attempts) == (True, "102", 2)


@pytest.mark.usefixtures("slow_search")
@pytest.mark.parametrize("seconds", ["0", "1", "30"])
def test_the_contact_of_a_call_that_was_refused_is_found(seconds, retell_client, hubspot):
    nothing, busy = Fault(200, {"results": []}), Fault(429, headers={"Retry-After": seconds})
    made = Fault(201, {"id": "101"}, does=True)
    hubspot.fail(nothing, nothing, made, busy)
    retell_client.send("call_analyzed", check=False)
    retell_client.drain()
    assert (len(hubspot.contacts), len(hubspot.calls)) == (1, 1)


def test_of_two_contacts_the_older_is_taken(retell_client, hubspot):
    oldest, _ = hubspot.add_contact(phone=CALLER), hubspot.add_contact(phone=CALLER)
    retell_client.send("call_analyzed")
    assert contacts_of(hubspot.calls[0]) == [oldest]


def test_no_token_and_no_call_goes_where_hubspot_points(retell_client, hubspot, openai):
    hubspot.fail(Fault(308, headers={"Location": f"{openai.url}/crm"}))
    retell_client.send("call_analyzed", check=False)
    assert openai.asked == []
    assert len(hubspot.asked) == 1


@pytest.mark.parametrize("what", ["contact", "call"])
@pytest.mark.parametrize(
    "lost",
    [Fault(504, does=True), Fault(201, breaks=True, does=True), Fault(hangs=True, does=True)],
)
def test_what_was_made_and_not_told_is_found(
    what, lost, attempts, retell_client, hubspot, monkeypatch
):
    monkeypatch.setattr(client, "TIMEOUT", 1.0)
    if what == "call":
        hubspot.add_contact(phone=CALLER)
    nothing = Fault(200, {"results": []})
    found = Fault(200, {"results": [{"id": "101"}]})
    hubspot.fail(nothing, found if what == "call" else nothing, lost)
    attempt = attempts("call_analyzed", "log_in_crm")
    assert attempt.status == "pending"
    assert attempt.seconds >= client.SEARCH_LAG
    retell_client.drain()
    assert (len(hubspot.contacts), len(hubspot.calls)) == (1, 1)
    assert contacts_of(hubspot.calls[0]) == ["101"]


def test_a_call_makes_the_contact_at_its_next_try(retell_client, hubspot, rows):
    nothing = Fault(200, {"results": []})
    hubspot.fail(nothing, nothing, Fault(503))
    retell_client.send("call_analyzed", check=False)
    retell_client.drain()
    assert (len(hubspot.contacts), len(hubspot.calls)) == (1, 1)
    assert [sending.attempts for sending in rows(Sending)] == [2]


def test_a_contact_that_hubspot_says_is_there_is_taken(retell_client, hubspot):
    nothing = Fault(200, {"results": []})
    conflict = error("CONFLICT", "Contact already exists. Existing ID: 555")
    hubspot.fail(nothing, nothing, Fault(409, conflict))
    retell_client.send("call_analyzed")
    assert contacts_of(hubspot.calls[0]) == ["555"]


def test_two_calls_at_once_make_one_contact(app, retell_client, hubspot, monkeypatch):
    both_looked = threading.Barrier(2, timeout=10)

    def look_together(kind, asked):
        found = look(kind, asked)
        if kind == "contacts":
            both_looked.wait()
        return found

    look = hubspot._search
    monkeypatch.setattr(hubspot, "_search", look_together)

    def log(call_id):
        with app.app_context():
            try:
                crm.log_call(Call(call_id=call_id, from_number=CALLER, direction="inbound"))
            except Retry as waits:
                return waits.after and waits.after.total_seconds()

    with ThreadPoolExecutor(2) as threads:
        assert sorted(map(str, threads.map(log, ["call_1", "call_2"]))) == ["70.0", "None"]
    assert len(hubspot.contacts) == 1


@pytest.mark.parametrize(("age", "contacts"), [(30, 0), (90, 1)])
def test_a_claim_of_another_call_holds_for_a_minute(age, contacts, app, retell_client, hubspot):
    with app.app_context():
        claimed_at = now() - timedelta(seconds=age)
        db.session.add(ContactClaim(number=CALLER, call_id="call_9", claimed_at=claimed_at))
        db.session.commit()
    retell_client.send("call_analyzed", check=False)
    assert len(hubspot.contacts) == contacts


def test_without_a_token_calls_are_logged_here(retell_client, rows):
    summary = {"call_analysis.call_summary": "Moved\0 to Thursday."}
    sent = retell_client.send("call_analyzed", twins=2, **summary)
    (activity,) = rows(Activity)
    assert activity.call_id == sent.event.call.call_id
    assert (activity.contact, activity.note) == (CALLER, "Moved  to Thursday.")
    assert rows(Sending) == []


def test_a_call_of_nobody_is_logged_here_as_well(retell_client, rows):
    retell_client.send("call_analyzed", from_number=None, call_analysis=None)
    (activity,) = rows(Activity)
    assert (activity.contact, activity.note) == ("unknown", "")


def test_a_number_with_a_nul_is_stored_without(retell_client, rows):
    retell_client.send("call_analyzed", from_number="+1\0")
    assert [activity.contact for activity in rows(Activity)] == ["+1 "]
