"""``rehearse``, over real HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.shop import Shop
from retell_flask import InboundAnswer, RetellBlueprint
from retell_flask.testing import Capture, InboxView, scenario_names
from retell_flask.testing.rehearsal import read_scenario
from servers import free_port
from serving import serving
from support import KEY, PATH

Rehearse = Callable[..., str]


@pytest.fixture
def shop(make_shop: Callable[..., Shop], retell: RetellBlueprint) -> Shop:
    @retell.function
    def check_availability(day: str) -> dict[str, str]:
        return {"free": day}

    return make_shop(RETELL_DISPATCH="threads")


@pytest.fixture
def rehearse(shop: Shop) -> Iterator[Rehearse]:
    with serving(shop.app) as url:

        def rehearse(*arguments: str, **keywords: Any) -> str:
            options = ["--url", url, *([] if "--pace" in arguments else ["--pace", "0"])]
            output = shop.run("rehearse", *arguments, *options, **keywords)
            assert KEY not in output
            return output

        yield rehearse


@pytest.mark.parametrize("name", scenario_names())
def test_a_scenario_leaves_the_inbox_as_it_says(
    name: str, shop: Shop, rehearse: Rehearse, captured: Capture
) -> None:
    inbox = InboxView(shop.inbox)
    output = rehearse(name, "--check")
    assert "The inbox stands as the scenario says." in output
    assert inbox.statuses() == read_scenario(name).inbox
    assert len({entry.session for entry in shop.entries()}) == 1
    types = [each.event.type for each in captured.of("event_received") if each.event]
    assert sorted(types) == sorted(inbox.statuses())


def test_each_step_is_shown_with_its_answer(shop: Shop, rehearse: Rehearse) -> None:
    about, _, steps = rehearse("twins").partition(f"{PATH}\n\n")
    assert " ".join(about.split()).startswith(f"twins: {read_scenario('twins').about} call_")
    lines = steps.splitlines()
    assert [line.split()[:3] for line in lines[:4]] == [
        ["0.0", "s", "call_started"],
        ["26.5", "s", "call_ended"],
        ["31.0", "s", "call_analyzed"],
        ["40.0", "s", "call_ended"],
    ]
    assert sorted(lines[1].split(" in ")[0].split(maxsplit=3)[3].split(", ")) == [
        *("200", "200 duplicate"),
    ]
    assert " 200 duplicate in " in lines[3]
    assert lines[-1].endswith(f"flask retell show {shop.entries()[0].session}")


def test_the_answers_that_retell_would_use_are_shown(rehearse: Rehearse) -> None:
    for name, answer in (
        ("function", '{"free":"thursday"}'),
        ("inbound", '{"call_inbound":{}}'),
    ):
        output = rehearse(name)
        assert f": {answer}\n" in output
        assert "not retell-flask" not in output


def test_the_call_is_of_now_and_as_it_was_set(rehearse: Rehearse, captured: Capture) -> None:
    began = time.time()
    rehearse("inbound", "--set", "metadata.order=7", "--set", "call.call_id=call_7", "--check")
    calls = [event.call for event in captured.events]
    assert {call.call_id for call in calls if call} == {"call_7"}
    assert {call.metadata["order"] for call in calls if call and call.metadata} == {7}
    assert began - 35 < calls[0].start_timestamp / 1000 < began  # type: ignore[union-attr, operator]


def test_pauses_are_kept_to(rehearse: Rehearse) -> None:
    began = time.monotonic()
    rehearse("completed", "--pace", "0.02")
    assert 0.6 <= time.monotonic() - began < 10


def test_a_call_that_is_rejected_is_over(
    shop: Shop, rehearse: Rehearse, retell: RetellBlueprint
) -> None:
    retell.inbound("call")(lambda inbound: InboundAnswer(reject=True))
    assert "call_started" not in rehearse("inbound", "--check")
    assert shop.entries() == []


def test_an_inbox_that_stands_otherwise_is_told(
    shop: Shop, rehearse: Rehearse, fail: Callable[..., None]
) -> None:
    from retell_flask import GiveUp

    fail("call_ended", GiveUp("why"))
    output = rehearse("completed", "--check", code=1)
    assert "  call_ended: dead, not done" in output
    assert "call_started:" not in output


def test_a_function_that_is_not_there_is_told(
    make_shop: Callable[..., Shop], retell: RetellBlueprint
) -> None:
    shop = make_shop(RETELL_INBOX_URL="none")
    with serving(shop.app) as url:
        output = shop.run("rehearse", "function", "--pace", "0", "--url", url, code=1)
        assert "404 in" in output
        assert "flask retell functions lists those" in output
        assert shop.run("rehearse", "function", "--check", "--url", url, code=1)


def test_nothing_listens(shop: Shop) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    output = shop.run("rehearse", "error", "--pace", "0", "--url", url, code=1)
    assert "no connection" in output
    assert "Start the application" in output
    assert "call_ended" not in output
    assert "flask retell show" not in output


def test_a_scenario_of_ones_own_is_a_file(rehearse: Rehearse, shop: Shop, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"about": "A chat.", "steps": [{"send": "chat_started"}]}))
    rehearse(str(own), "--check")
    assert [entry.type for entry in shop.entries()] == ["chat_started"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "is no scenario"),
        ('{"steps": [{"send": "call_ended"}], "inbox": {"call_ended": ["don"]}}', "names 'don'"),
        ('{"about": "x", "steps": []}', "there is at least one"),
        ('{"about": "x", "steps": [{"at": 5, "send": "call_ended"}, {"send": "call_started"}]}',
         "in the order of sending"),
        ('{"steps": [{"at": 1e12, "send": "call_ended"}]}', "from 0 to those of a day"),
        ('{"about": "x", "steps": [{"sent": "call_ended"}]}', "unknown field `sent`"),
        ('{"about": "x", "steps": [{"at": 1}]}', "either 'send' or 'function'"),
        ('{"about": "x", "steps": [{"send": "call_end"}]}', "step 1: There is no sample"),
        ('{"about": "x", "steps": [{"send": "call_ended", "changes": {"end": 1}}]}', "no field"),
        ('{"about": "x", "steps": [{"send": "call_ended", "twins": 0}]}', "'twins' is from 1"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_scenario_says_why(
    shop: Shop, tmp_path: Path, content: str, text: str
) -> None:
    (tmp_path / "own.json").write_text(content)
    assert text in shop.run("rehearse", str(tmp_path / "own.json"), code=2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Which scenario?"),
        (["complete"], "There is no scenario 'complete'"),
        (["missing.json"], "No such file"),
        (["completed", "--set", "duration=5"], "has no field 'duration'"),
        (["completed", "--pace", "-1"], "--pace"),
        (["completed", "--pace", "nan"], "--pace is a number from 0 to 100"),
        (["completed", "--url", "127.0.0.1"], "is no URL"),
    ],
)
def test_wrong_usage_is_explained(shop: Shop, arguments: list[str], text: str) -> None:
    assert text in shop.run("rehearse", *arguments, code=2)


def test_the_scenarios_are_listed(shop: Shop) -> None:
    output = shop.run("rehearse", "--list")
    assert [line.split()[0] for line in output.splitlines()] == scenario_names()
