"""The pages in a browser, while calls come in."""

from __future__ import annotations

import pytest

from conversations import CONVERSATION, call_ids, transcript, turns

HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1; alert(1)">'
ARABIC = "مرحبًا، أنا يوسف. هل يمكنني الحجز يوم 14؟"
HEBREW = "שלום, אפשר לקבוע תור ליום חמישי?"


@pytest.fixture
def talk(server):
    """Plays a whole call of this conversation, and returns its id."""

    def talk(*said, **changes):
        call_id = next(call_ids)
        analysis = {name: changes.pop(name) for name in list(changes) if "." in name}
        server.tell(call_id, "call_started", **changes)
        server.tell(call_id, "call_ended", **changes, **transcript(*said))
        server.tell(call_id, "call_analyzed", **changes, **transcript(*said), **analysis)
        server.wait_for(call_id, "Noted here")  # which comes last
        return call_id

    return talk


def row(page, call_id):
    return page.get_by_role("row").filter(has=page.locator(f"#call-{call_id}"))


def test_before_the_first_call_the_list_says_how_to_make_one(open_page, expect, screenshots):
    page = open_page("/")
    expect(page.get_by_role("heading", name="No calls yet")).to_be_visible()
    page.screenshot(path=screenshots / "calls-empty.png")


def test_a_call_is_followed_without_a_reload(server, open_page, expect):
    call_id = next(call_ids)
    page = open_page("/")
    page.evaluate("window.marker = 'list'")
    server.tell(call_id, "call_started")
    expect(row(page, call_id)).to_contain_text("Live")
    assert page.evaluate("window.marker") == "list"

    row(page, call_id).get_by_role("link").click()
    expect(page.get_by_role("log")).to_contain_text("It comes as it is spoken, or after the call.")
    page.evaluate("window.marker = 'call'")
    page.evaluate("document.querySelector('#tasks').isRead = true")
    said = CONVERSATION[:2]
    server.tell(call_id, "transcript_updated", transcript_with_tool_calls=turns(*said))
    expect(page.get_by_role("listitem").filter(has_text="soy José Muñoz")).to_be_visible()
    assert page.evaluate("document.querySelector('#tasks').isRead")  # nothing is new in it
    page.evaluate("document.querySelector('.turn').isRead = true")

    server.tell(call_id, "call_ended", **transcript(*CONVERSATION))
    expect(page.locator("#head")).to_contain_text("Completed")
    expect(page.get_by_role("log").get_by_role("listitem")).to_have_count(4)
    assert page.evaluate("document.querySelector('.turn').isRead")  # and is not announced again
    button = page.get_by_role("button", name="Mark done Agent: I'll send it to you tomorrow")
    expect(button).to_be_visible()
    button.focus()

    server.tell(call_id, "call_analyzed", **transcript(*CONVERSATION))
    expect(page.locator("#summary")).to_contain_text("moved")
    expect(page.locator("#head")).to_contain_text("Positive")
    expect(page.locator("#sent")).to_contain_text("Noted here")
    expect(button).to_be_focused()
    assert page.evaluate("window.marker") == "call"

    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Reopen")).to_be_visible()
    assert page.url.endswith(f"/calls/{call_id}#tasks")


def test_a_part_that_is_replaced_keeps_focus_and_place(talk, open_page, expect):
    first = talk(*CONVERSATION)
    page = open_page("/", viewport={"width": 1280, "height": 300})
    expect(row(page, first)).to_contain_text("Completed")
    page.locator(f"#call-{first}").focus()
    place = page.evaluate("scrollTo(0, 40), scrollY")
    assert place > 0
    second = talk(*CONVERSATION)
    expect(row(page, second)).to_be_visible()
    expect(page.locator(f"#call-{first}")).to_be_focused()
    assert page.evaluate("scrollY") == place


def test_what_was_said_is_shown_as_text(talk, open_page, expect):
    call_id = talk(
        ("user", HOSTILE),
        ("user", f"Please send me {HOSTILE}."),
        agent_name=HOSTILE,
        from_number=HOSTILE,
        recording_url="javascript:window.hacked = 1",
        **{"call_analysis.call_summary": HOSTILE},
    )
    for path in ("/", f"/calls/{call_id}", "/tasks"):
        page = open_page(path)
        expect(page.get_by_text(HOSTILE).first).to_be_visible()
        made = page.locator("main").locator("script, img, [onerror], [href^=javascript]")
        assert made.count() == 0
        assert page.evaluate("window.hacked") is None
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("head script").count() == 1


def test_other_scripts_run_from_right_to_left(talk, open_page, expect):
    call_id = talk(("user", ARABIC), ("user", HEBREW), ("agent", CONVERSATION[0][1]))
    page = open_page(f"/calls/{call_id}")
    for text, direction in ((ARABIC, "rtl"), (HEBREW, "rtl"), (CONVERSATION[0][1], "ltr")):
        said = page.locator(".said").filter(has_text=text)
        expect(said).to_have_text(text)
        expect(said).to_have_css("direction", direction)


def test_the_keyboard_is_enough(talk, open_page, expect):
    call_id = talk(*CONVERSATION, direction="outbound", to_number="+14155550177")
    page = open_page("/")
    press, focused = page.keyboard.press, page.locator(":focus")

    def tab_to(name):
        for _ in range(30):
            press("Tab")
            if name in (focused.get_attribute("id"), focused.inner_text()):
                assert focused.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
                return
        pytest.fail(f"Tab does not lead to {name}.")

    press("Tab")
    expect(focused).to_have_text("Skip to content")
    press("Enter")
    press("Tab")
    expect(focused).to_have_attribute("name", "outcome")
    page.keyboard.type("Completed")
    tab_to("sentiment")
    page.keyboard.type("Positive")
    tab_to("Filter")
    press("Enter")
    page.wait_for_url("**/?outcome=completed&sentiment=positive")
    tab_to(f"call-{call_id}")
    press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("+14155550177")
    page.go_back()
    expect(page.get_by_label("Outcome")).to_have_value("completed")

    page.goto("/")
    tab_to("New call")
    press("Enter")
    page.wait_for_url("**/outbound")
    tab_to("from_number")
    page.keyboard.type("+14155550100")
    press("Tab")
    page.keyboard.type("555 0142")
    press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Nobody was called.")
    expect(page.get_by_label("To")).to_be_focused()
    press("Control+A")
    page.keyboard.type("+1 415 555 0142")
    press("Enter")
    page.wait_for_url("**/calls/call_rung_1")
    expect(page.locator("#head")).to_contain_text("Live")


def test_its_structure_is_told_to_screen_readers(talk, open_page, expect):
    call_id = talk(*CONVERSATION)
    page = open_page(f"/calls/{call_id}")
    expect(page.locator("body")).to_match_aria_snapshot("""
      - link "Skip to content"
      - banner:
        - link "Call centre"
        - navigation "Pages":
          - list:
            - listitem:
              - link "Calls"
            - listitem:
              - link "Tasks"
            - listitem:
              - link "New call"
      - main:
        - paragraph:
          - link "← All calls"
        - heading "+14155550142" [level=1]
        - region "Summary":
          - heading "Summary" [level=2]
        - region "Transcript":
          - heading "Transcript" [level=2]
          - log "Transcript":
            - list:
              - listitem:
                - paragraph: Agent at 0:01
                - paragraph: /How can I help/
        - region "Tasks":
          - heading "Tasks" [level=2]
        - region "Sent to others":
          - heading "Sent to others" [level=2]
        - region "Details":
          - heading "Details" [level=2]
      - status
    """)
    page.goto("/")
    for heading in ("Number", "Agent", "Time", "Duration", "Outcome", "Sentiment"):
        expect(page.get_by_role("columnheader", name=heading, exact=True)).to_have_count(1)
    current = page.get_by_role("link", name="Calls", exact=True)
    expect(current).to_have_attribute("aria-current", "page")
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_without_javascript_nothing_is_missing(talk, open_page, expect):
    call_id = talk(*CONVERSATION)
    page = open_page(f"/calls/{call_id}", java_script_enabled=False)
    expect(page.get_by_role("log")).to_contain_text("soy José Muñoz")
    page.get_by_role("button", name="Mark done").first.click()
    expect(page.get_by_role("button", name="Reopen")).to_be_visible()


def test_it_says_that_it_is_offline_and_goes_on(server, open_page, expect):
    call_id = next(call_ids)
    server.tell(call_id, "call_started")
    server.wait_for(call_id, "Live")
    page = open_page(f"/calls/{call_id}")
    page.context.set_offline(True)
    expect(page.get_by_role("status")).to_contain_text("Offline")
    page.context.set_offline(False)
    expect(page.get_by_role("status")).to_be_empty()


def test_a_hidden_tab_asks_for_nothing(server, open_page):
    call_id = next(call_ids)
    server.tell(call_id, "call_started")
    server.wait_for(call_id, "Live")
    page = open_page(f"/calls/{call_id}")
    asked = []
    page.on("request", lambda request: call_id in request.url and asked.append(request))
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(2_500)
    assert asked == []
    page.evaluate(hide, False)
    page.wait_for_timeout(500)
    assert len(asked) == 1  # what was missed is fetched at once
