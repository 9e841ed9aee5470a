"""Each page, with calls of each kind: it fits, and there is a picture of it to look at."""

from __future__ import annotations

import pytest

from conversations import CONVERSATION, call_ids, transcript

NARROW, WIDE = 390, 1280
CALLS = {
    "completed": ("call_started", "call_ended", "call_analyzed"),
    "voicemail": ("call_started_outbound", "call_ended_voicemail", "call_analyzed_voicemail"),
    "failed": ("call_ended_not_connected", "call_analyzed_no_answer"),
    "transferred": ("call_started", "call_ended_transferred", "call_analyzed_transferred"),
    "negative": ("call_started", "call_ended_negative", "call_analyzed_negative"),
    "scripts": ("call_started", "call_ended_non_latin", "call_analyzed_non_latin"),
    "running": ("call_started", "transcript_updated"),
}
PAGES = {
    "calls": "/",
    "calls-none": "/?outcome=voicemail&sentiment=positive",
    "call": "/calls/{completed}",
    "call-failed": "/calls/{failed}",
    "call-voicemail": "/calls/{voicemail}",
    "call-transferred": "/calls/{transferred}",
    "call-negative": "/calls/{negative}",
    "call-scripts": "/calls/{scripts}",
    "call-running": "/calls/{running}",
    "tasks": "/tasks",
    "new-call": "/outbound",
    "not-found": "/calls/unknown",
}
IN_THE_DARK = ("calls", "call-negative")


@pytest.fixture(scope="module")
def told(server):
    """The calls' ids by name, once the server knows of them."""
    ids = {name: next(call_ids) for name in CALLS}
    for name, events in CALLS.items():
        for event in events:
            said = transcript(*CONVERSATION) if event in ("call_ended", "call_analyzed") else {}
            server.tell(ids[name], event, **said)
        server.wait_for(ids[name], "Of course" if name == "running" else "Noted here")
    return ids


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_and_is_photographed(told, open_page, expect, screenshots, name):
    page = open_page(PAGES[name].format(**told), width=NARROW)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    for width, scheme in ((NARROW, "light"), (WIDE, "light"), (WIDE, "dark")):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if scheme == "light" or name in IN_THE_DARK:
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=screenshots / f"{name}-{width}-{scheme}.png", full_page=True)
