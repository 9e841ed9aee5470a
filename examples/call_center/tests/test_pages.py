from __future__ import annotations

import re
from datetime import timedelta
from html import escape

import pytest
from sqlalchemy import event

from call_center.models import UNFINISHED, ActionItem, Activity, Call, Sending, Task, db, now

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"


@pytest.fixture
def client(app):
    app.debug = True  # no password is needed then, from this machine
    return app.test_client()


@pytest.fixture
def add(app):
    def add(*rows):
        with app.app_context():
            for row in rows:  # each may point to those before it
                db.session.add(row)
                db.session.flush()
            db.session.commit()

    return add


def call(number=1, **fields):
    """A call that ended; those with a higher number are older."""
    started = now() - timedelta(hours=number)
    defaults = {
        "call_id": f"call_{number}",
        "direction": "inbound",
        "from_number": f"+1415555{number:04}",
        "to_number": "+14155550100",
        "agent_name": "Front Desk",
        "started_at": started,
        "ended_at": started + timedelta(seconds=61),
        "duration_ms": 61_000,
        "has_ended": True,
    }
    return Call(**(defaults | fields))


def item(number=1, **fields):
    defaults = {"id": f"item_{number}", "call_id": "call_1", "position": number}
    text = {"text": f"Send offer {number}", "extractor": "rules"}
    return ActionItem(**(defaults | text | fields))


def task(number=1, **fields):
    defaults = {"item_id": f"item_{number}", "source": "Call: call_1", "place": "here"}
    return Task(**(defaults | {"text": f"Send offer {number}"} | fields))


def listed(page):
    """The ids of the calls in the list, in order."""
    return re.findall(r'href="/calls/(\w+)"', page.text)


def token_of(page):
    return re.search(r'name="csrf_token" value="([^"]+)"', page.text)[1]


def text_of(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page.text).split())


# The list


def test_without_calls_it_says_how_to_make_one(client):
    page = client.get("/")
    assert "flask --app call_center retell rehearse completed" in page.text
    assert 'href="/outbound"' in page.text


def test_the_newest_call_is_the_first(client, add):
    add(call(2), call(1), call(3, started_at=None, ended_at=None, noted_at=now()))
    assert listed(client.get("/")) == ["call_3", "call_1", "call_2"]


def test_calls_of_one_moment_have_an_order(client, add):
    started = now()
    add(*(call(1, call_id=call_id, started_at=started) for call_id in "cab"))
    assert listed(client.get("/")) == ["a", "b", "c"]


def test_the_newest_calls_are_read_from_an_index(app, client):
    plans = []

    def explain(connection, cursor, statement, parameters, *_):
        if "ORDER BY" in statement and not statement.startswith("EXPLAIN"):
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append(" ".join(row[3] for row in plan))

    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", explain)
        client.get("/")
    assert ["call_newest" in plan for plan in plans] == [True]


def test_a_row_tells_of_its_call(client, add):
    started = now().replace(year=2026, month=11, day=5, hour=8, minute=7, second=9, microsecond=0)
    add(call(1, started_at=started, sentiment="negative"))
    page = client.get("/")
    assert '<time datetime="2026-11-05T08:07:09+00:00">5 Nov 2026, 08:07 UTC</time>' in page.text
    row = text_of(page).rpartition("Sentiment")[2]
    said = "+14155550001 Inbound Front Desk 5 Nov 2026, 08:07 UTC 1:01 Completed ▼ Negative"
    assert row.strip().startswith(said)


def test_the_caller_is_the_person_also_where_we_called(client, add):
    add(call(1, direction="outbound", from_number="+14155550100", to_number="+14155550177"))
    assert "+14155550177" in client.get("/").text


def test_a_running_call_is_live_for_as_long_as_calls_last(client, add):
    running = {"has_ended": False, "ended_at": None, "duration_ms": None}
    add(call(1, **running))
    assert "Live" in text_of(client.get("/"))
    add(call(9, call_id="forgotten", **running))
    assert "No end heard" in text_of(client.get("/"))
    assert "retell backfill" in client.get("/calls/forgotten").text


def test_a_call_is_live_until_it_ends_also_while_it_is_transferred(client, add):
    add(call(1, has_ended=False, ended_at=None, transfer="done", transferred_to="+14155550199"))
    page = client.get("/calls/call_1")
    assert "Live" in text_of(page)
    assert "The call was transferred to +14155550199" in text_of(page)
    assert listed(client.get("/?outcome=running")) == ["call_1"]
    assert "data-live-every" in client.get("/calls/call_1").text


OUTCOMES = {
    "running": {"has_ended": False},
    "completed": {},
    "transferred": {"reason": "call_transfer"},
    "voicemail": {"voicemail": True},
    "failed": {"error_code": "dial_busy"},
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_calls_are_filtered_by_outcome(client, add, outcome):
    add(*(call(n, call_id=name, **fields) for n, (name, fields) in enumerate(OUTCOMES.items())))
    page = client.get(f"/?outcome={outcome}")
    assert listed(page) == [outcome]
    assert f'<option value="{outcome}" selected>' in page.text


def test_calls_are_filtered_by_both(client, add):
    add(
        call(1, sentiment="negative"),
        call(2, sentiment="positive"),
        call(3, sentiment="negative", voicemail=True),
    )
    assert listed(client.get("/?sentiment=negative")) == ["call_1", "call_3"]
    assert listed(client.get("/?sentiment=negative&outcome=voicemail")) == ["call_3"]
    nothing = client.get("/?sentiment=neutral&outcome=failed")
    assert listed(nothing) == []
    assert "No calls like this" in nothing.text
    assert listed(client.get("/?outcome=%27;--&sentiment=")) == ["call_1", "call_2", "call_3"]


def test_there_are_25_calls_on_a_page(client, add):
    add(*(call(n, sentiment="neutral") for n in range(1, 53)))
    first, last = client.get("/?sentiment=neutral"), client.get("/?sentiment=neutral&page=3")
    assert listed(first) == [f"call_{n}" for n in range(1, 26)]
    assert listed(last) == ["call_51", "call_52"]
    assert 'href="/?page=2&amp;sentiment=neutral"' in first.text
    assert "Page 3 of 3" in last.text
    assert "Older" not in last.text


@pytest.mark.parametrize("page", ["2", "0", "-1", f"{10**30}"])
def test_a_page_that_is_not_there_is_404(client, add, page):
    add(call())
    assert client.get(f"/?page={page}").status_code == 404


def test_the_list_reads_no_transcripts(client, add, app):
    add(*(call(n) for n in range(1, 26)))
    statements = []
    with app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *what: statements.append(what[2]))
    client.get("/")
    assert len(statements) == 2
    assert not any("transcript" in each.partition("FROM")[0] for each in statements)


# One call


def test_a_call_is_shown_with_all_that_is_known(client, add):
    add(
        call(
            1,
            reason="user_hangup",
            turns=[
                {"role": "agent", "content": "How can I help?", "start": 0.6},
                {"role": "user", "content": "Call me back.", "start": 75.2},
                {"role": "transfer_target", "content": "Hello?", "start": None},
            ],
            summary="The caller wants to be called back.",
            sentiment="neutral",
            cost_cents=1234.5,
            recording_url="https://recordings.example/1.wav",
        )
    )
    page = client.get("/calls/call_1")
    text = text_of(page)
    assert "Agent at 0:01 How can I help? Caller at 1:15 Call me back." in text
    assert "Transfer target Hello?" in text
    assert "Summary The caller wants to be called back." in text
    assert "Duration 1:01 Ended by User hangup Cost $12.35 Recording Listen Call ID call_1" in text
    assert 'href="https://recordings.example/1.wav" rel="noreferrer"' in page.text


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,hi", "//x.example", "https:", "http://[", " "]
)
def test_only_web_addresses_become_links(client, add, url):
    add(call(recording_url=url), item(), task(place="todoist", url=url))
    for path in ("/calls/call_1", "/tasks"):
        assert f'href="{escape(url)}"' not in client.get(path).text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"error_code": "dial_busy", "error_message": "No."}, "The call failed. No. dial_busy"),
        (
            {"transferred_to": "+14155550199", "reason": "call_transfer"},
            "The call was transferred to +14155550199",
        ),
        (
            {"transferred_to": "+14155550199", "transfer": "started", "has_ended": False},
            "The call is being transferred to +14155550199",
        ),
        (
            {"transferred_to": "+14155550199"},  # and nobody said that it was cancelled
            "A transfer to +14155550199 did not come about.",
        ),
        ({"voicemail": True}, "A voicemail answered."),
        (
            {"transferred_to": "+14155550199", "transfer": "cancelled"},
            "A transfer to +14155550199 did not come about.",
        ),
    ],
)
def test_an_outcome_is_explained(client, add, fields, said):
    add(call(1, **fields))
    assert said in text_of(client.get("/calls/call_1"))


def test_what_was_sent_is_shown_with_how_it_went(client, add):
    add(
        call(),
        Sending(call_id="call_1", service="slack", what="alarm", worked=True, detail="17.0001"),
        Sending(
            call_id="call_1",
            service="hubspot",
            what="call",
            worked=False,
            detail="HubSpot answered 503.",
            attempts=3,
        ),
        Activity(call_id="call_1", contact="+14155550001", note="A note"),
    )
    page = text_of(client.get("/calls/call_1"))
    assert "Slack alarm ✓ Sent" in page
    assert "HubSpot call ✕ Not sent" in page
    assert "3 attempts HubSpot answered 503." in page
    assert "CRM +14155550001 ✓ Noted here, since no HubSpot is set up" in page


@pytest.mark.parametrize(
    ("age", "said"), [(60, "… Being sent"), (300, "? It is not known whether it was sent")]
)
def test_what_is_not_finished_is_not_said_to_have_failed(client, add, age, said):
    sent_at = now() - timedelta(seconds=age)
    unfinished = {"worked": False, "detail": UNFINISHED, "sent_at": sent_at}
    add(call(1), Sending(call_id="call_1", service="slack", what="alarm", **unfinished))
    page = text_of(client.get("/calls/call_1"))
    assert said in page
    assert "Not sent" not in page


@pytest.mark.parametrize("call_id", ["call_2", "%00", "..", "call_1%2F", "%F0%9F%93%9E"])
def test_an_unknown_call_is_404(client, add, call_id):
    add(call())
    page = client.get(f"/calls/{call_id}")
    assert page.status_code == 404
    assert "There is nothing at this address." in page.text


# Tasks


def test_open_tasks_come_first_and_say_where_they_are_from(client, add):
    add(
        call(),
        item(1),
        item(2, due="tomorrow at 3", extractor="gpt-5-mini"),
        item(3),
        task(1, done_at=now(), made_at=now()),
        task(2, made_at=now() - timedelta(hours=1)),
        task(3, place="todoist", url="https://app.todoist.com/app/task/7", made_at=now()),
    )
    page = client.get("/tasks")
    texts = re.findall(r'class="text" dir="auto">([^<]+)<', page.text)
    assert texts == ["Send offer 3", "Send offer 2", "Send offer 1"]
    assert "Due: tomorrow at 3 Found by gpt-5-mini From this call" in text_of(page)
    assert "Found by rules, not by a model" in page.text
    assert 'href="https://app.todoist.com/app/task/7"' in page.text
    assert 'formaction="/tasks/item_3"' not in page.text


def test_a_task_is_ticked_off_and_reopened(client, add, rows):
    add(call(), item(), task())
    form = {"csrf_token": token_of(client.get("/tasks"))}
    done_at = []
    for done in ("yes", "yes", "no"):
        assert client.post("/tasks/item_1", data={**form, "done": done}).location == "/tasks"
        done_at.append(rows(Task)[0].done_at)
    assert done_at[0] == done_at[1] is not None
    assert done_at[2] is None


def test_a_task_that_is_ticked_off_at_its_call_leads_back_there(client, add):
    add(call(), item(), task())
    token = token_of(client.get("/calls/call_1"))
    form = {"csrf_token": token, "done": "yes", "back": "call"}
    assert client.post("/tasks/item_1", data=form).location == "/calls/call_1#tasks"


def test_nobody_ticks_off_for_another_site(client, add, rows):
    add(call(), item(), task())
    client.get("/tasks")
    for form in ({"done": "yes"}, {"done": "yes", "csrf_token": "forged"}):
        assert client.post("/tasks/item_1", data=form).status_code == 400
    assert client.get("/tasks/item_1").status_code == 405
    assert rows(Task)[0].done_at is None


@pytest.mark.parametrize("item_id", ["item_1", "item_9", "%00"])
def test_only_tasks_that_are_here_are_ticked_off(client, add, item_id):
    add(call(), item(), task(place="todoist"))
    token = token_of(client.get("/tasks"))
    form = {"csrf_token": token, "done": "yes"}
    assert client.post(f"/tasks/{item_id}", data=form).status_code == 404


# All of them


def test_everything_is_escaped(client, add):
    add(
        call(
            1,
            from_number=HOSTILE,
            to_number=HOSTILE,
            direction=HOSTILE,
            agent_name=HOSTILE,
            reason=HOSTILE,
            sentiment=HOSTILE,
            summary=HOSTILE,
            error_code=HOSTILE,
            error_message=HOSTILE,
            turns=[{"role": HOSTILE, "content": HOSTILE, "start": 1}],
        ),
        item(1, text=HOSTILE, due=HOSTILE, extractor=HOSTILE),
        task(1, text=HOSTILE),
        item(2, id="item_2"),
        task(2, place=HOSTILE),
        Sending(call_id="call_1", service=HOSTILE, what=HOSTILE, worked=False, detail=HOSTILE),
        Activity(call_id="call_1", contact=HOSTILE, note=HOSTILE),
    )
    for path in ("/", "/calls/call_1", "/tasks"):
        page = client.get(path).text.lower()
        assert "alert(1)" in page
        assert "<script>" not in page
        assert "<img" not in page
        assert not re.search(r"[^;]'?\"'><?", page)  # the quotes that would end an attribute
        assert "{{ 7 * 7 }}" in page


def test_ids_of_calls_are_quoted_in_links(client, add):
    add(call(1, call_id='a b?"c'))
    assert 'href="/calls/a%20b%3F%22c"' in client.get("/").text


@pytest.mark.parametrize(
    ("path", "every"), [("/", "3000"), ("/calls/call_1", "2000"), ("/tasks", "3000")]
)
def test_pages_ask_for_news(client, add, path, every):
    add(call(1, has_ended=False, ended_at=None))
    assert f'data-live-every="{every}"' in client.get(path).text


def test_a_call_that_is_long_over_asks_for_none(client, add):
    add(call(1, ended_at=now()), call(2))
    assert 'data-live-every="2000"' in client.get("/calls/call_1").text
    assert "data-live-every" not in client.get("/calls/call_2").text


def test_a_page_without_news_is_the_same(client, add):
    """Else the script would replace its parts each time."""
    add(call(1, sentiment="neutral"), item(), task())
    for path in ("/", "/calls/call_1", "/tasks"):
        first, second = (client.get(path).text.replace("\n", " ") for _ in range(2))
        # The form's token is another each time, and so outside of what is replaced.
        without_form = [re.sub('<form id="tick".*?</form>', "", each) for each in (first, second)]
        assert without_form[0] == without_form[1]
