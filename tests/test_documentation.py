"""What the README shows runs, and what a host can use is in it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from flask import Flask

import retell_flask
from retell_flask import cli as commands
from retell_flask import testing
from retell_flask.dispatch.celery import SWEEP
from retell_flask.filters import KINDS
from retell_flask.settings import OPTIONS
from retell_flask.signals import SIGNALS
from retell_flask.testing import RetellTestClient, sample, sample_names, scenario_names
from retell_flask.testing.rehearsal import read_scenario
from retellapi import make_call, retell_api
from support import PATH

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
TWO_WAY = (ROOT / "docs/two-way.md").read_text("utf-8")
TESTING_PAGE = (ROOT / "docs/testing.md").read_text("utf-8")
PROGRAM, HANDLERS, TURNS, LOGGING, CELERY, HOOK, TWO_BLUEPRINTS, CAPTURE, TEST = re.findall(
    r"```python\n(.*?)```", README, re.DOTALL
)
SET_UP, CALLING, WEB_CALL, INBOUND, ANSWERED, FUNCTION, CATCH_UP, TESTING = re.findall(
    r"```python\n(.*?)```", TWO_WAY, re.DOTALL
)


def run(code: str, **names: Any) -> dict[str, Any]:
    names["__name__"] = "readme"
    exec(compile(code, "README.md", "exec"), names)
    return names


def client_of(app: Flask, blueprint: str | None = None) -> RetellTestClient:
    app.testing = True
    return RetellTestClient(app, blueprint)


def test_the_program_is_the_quickstart_and_handles_a_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (ROOT / "examples/quickstart.py").read_text("utf-8").endswith(PROGRAM)
    monkeypatch.setenv("RETELL_API_KEY", "k")
    monkeypatch.setenv("RETELL_INBOX_URL", "sqlite://")
    monkeypatch.setenv("RETELL_DISPATCH", "inline")
    names = run(PROGRAM)
    run(TURNS, **run(HANDLERS, retell=names["retell"]))
    client = client_of(names["create_app"]())
    for name in ("call_started", "call_ended", "call_analyzed"):
        client.send(name)
    client.send("call_ended_not_connected", call_id="another")
    printed = capsys.readouterr().out
    assert "is talking to Bayview Front Desk" in printed
    assert "The caller was positive" in printed
    assert "calls check_availability with" in printed
    assert "+14155550177: Nobody answered." in printed


def test_lines_at_info_are_shown_as_the_page_says() -> None:
    program = f"{LOGGING}logging.getLogger('retell_flask.x').info('shown')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "shown" in done.stderr


def test_the_schedule_runs_the_sweep() -> None:
    celery_app = Celery()
    celery_app.config_from_object(run(CELERY)["CELERY"])
    (entry,) = celery_app.conf.beat_schedule.values()
    assert entry == {"task": SWEEP, "schedule": 10, "options": {"expires": 30}}


def test_the_hook_is_gunicorns() -> None:
    assert callable(run(HOOK)["post_worker_init"])


def test_two_blueprints_have_an_app_together() -> None:
    names = run(TWO_BLUEPRINTS)
    for name, key in (("sales", "key_1"), ("support", "key_2")):
        response = client_of(names["app"], name).post(sample("call_ended"), key=key)
        assert (response.status_code, response.request.path) == (200, f"/webhooks/{name}")


def test_what_is_captured_can_be_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    app = run(TWO_BLUEPRINTS)["app"]
    app.before_request(run(CAPTURE)["capture"])
    client_of(app, "sales").post(sample("call_ended"), key="another")
    header = capsys.readouterr().out.strip()
    asked = ["retell", "verify", "--blueprint", "sales", "--header", header]
    asked += ["--body-file", "delivery.json"]
    answer = app.test_cli_runner().invoke(args=asked)
    assert answer.exit_code == 1
    assert "None of the keys makes this digest" in answer.output


def run_pytest(directory: Path, **files: str) -> str:
    for name, code in files.items():
        (directory / f"{name}.py").write_text(code, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "--rootdir", str(directory)]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True).stdout


def test_the_tests_of_handlers_pass(tmp_path: Path) -> None:
    printed = run_pytest(tmp_path, quickstart=PROGRAM, test_readme=TEST)
    assert "1 passed" in printed, printed


def test_the_tests_of_the_testing_page_pass(tmp_path: Path) -> None:
    shop, *tests = re.findall(r"```python\n(.*?)```", TESTING_PAGE, re.DOTALL)
    printed = run_pytest(tmp_path, shop=shop, test_shop="\n".join(tests))
    count = len(re.findall(r"^ *def test_", "\n".join(tests), re.MULTILINE))
    assert f"{count} passed" in printed, printed


def test_the_scenario_of_the_testing_page_is_one(tmp_path: Path) -> None:
    (code,) = re.findall(r"```json\n(.*?)```", TESTING_PAGE, re.DOTALL)
    (tmp_path / "own.json").write_text(code, "utf-8")
    assert len(read_scenario(tmp_path / "own.json").steps) == 6


def test_the_testing_page_names_what_the_kit_has() -> None:
    there = [*sample_names(), *scenario_names(), *testing.__all__]
    assert [name for name in there if not re.search(rf"\b{name}\b", TESTING_PAGE)] == []


@pytest.fixture
def two_way(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, Any]]]:
    """Runs code of the page, in an app whose API is the stand-in."""
    # For dataclasses, which look their module up.
    monkeypatch.setitem(sys.modules, "readme", types.ModuleType("readme"))
    with retell_api() as api:
        monkeypatch.setenv("RETELL_API_KEY", api.key)
        monkeypatch.setenv("RETELL_API_URL", api.url)
        monkeypatch.setenv("RETELL_INBOX_URL", "sqlite://")
        monkeypatch.setenv("RETELL_DISPATCH", "inline")
        names = run(SET_UP)
        app = names["app"] = names["create_app"]()
        names["api"] = api
        names["client"] = client_of(app)
        with app.app_context():
            yield lambda code: run(code, **names)


TwoWay = Callable[[str], dict[str, Any]]


def test_the_client_calls_and_finds_calls(
    two_way: TwoWay, capsys: pytest.CaptureFixture[str]
) -> None:
    page = two_way(CALLING)
    page["remind"]({"phone": "+14155550142", "name": "Ada", "id": 7})
    assert page["api"].requests[0].json["retell_llm_dynamic_variables"]["visits"] == "3"
    now = round(time.time() * 1000)
    analysis = {"user_sentiment": "Negative", "call_summary": "She waits for a call."}
    call = make_call(1, agent_id="agent_0123", start_timestamp=now, call_analysis=analysis)
    page["api"].calls["call_000001"] = call
    page["unhappy_calls_of_today"]()
    assert capsys.readouterr().out == "call_000001 0:00:30 She waits for a call.\n"


def test_a_web_call_begins_in_a_view(two_way: TwoWay) -> None:
    page = two_way(WEB_CALL)
    page["app"].register_blueprint(page["pages"])
    answer = page["app"].test_client().post("/web-call").json
    assert answer["access_token"]
    assert answer["call_id"] in page["api"].calls


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    printed = run_pytest(
        tmp_path, test_page="\n".join((SET_UP, CALLING, INBOUND, FUNCTION, TESTING))
    )
    assert "4 passed" in printed, printed


def test_every_filter_is_named() -> None:
    assert all(f"`{name}`" in TWO_WAY for name in KINDS)


def test_inbound_calls_and_messages_are_answered_and_noted(
    two_way: TwoWay, capsys: pytest.CaptureFixture[str]
) -> None:
    page = two_way(INBOUND)
    run(ANSWERED, **page)
    call = page["client"].ask_inbound()
    assert call["dynamic_variables"] == {"name": "Ada", "balance": "42.5"}
    message = page["client"].ask_inbound("message")
    assert message["override_agent_id"] == "agent_sms"
    assert "rejected: False, fallback: None" in capsys.readouterr().out


def test_the_function_books_a_table(two_way: TwoWay, capsys: pytest.CaptureFixture[str]) -> None:
    page = two_way(FUNCTION)
    arguments = {"day": "2026-12-24", "guest": {"name": "Ada"}, "people": "4"}
    answer = page["client"].call_function("book_table", arguments)
    assert answer == {"booked": True, "table": 7, "day": "2026-12-24"}
    assert "Ada of +14155550142: 4 on 2026-12-24, inside" in capsys.readouterr().out


def test_the_backfill_says_what_it_made(
    two_way: TwoWay, capsys: pytest.CaptureFixture[str]
) -> None:
    page = two_way(CATCH_UP)
    agent_id = page["client"].send("call_started").event.call.agent_id
    ended = round((time.time() - 3600) * 1000)
    page["api"].calls["call_000001"] = make_call(1, agent_id=agent_id, end_timestamp=ended)
    page["catch_up"]()
    assert capsys.readouterr().out == "2 events of 1 calls, of 1\n"


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_has_a_row_with_its_keywords(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` \|.*$", README, re.MULTILINE)
    listed = (SIGNALS[name].__doc__ or "").rpartition("Keywords: ")[2]
    assert re.findall(r"`(\w+)`", row.split("|")[-2]) == re.findall(r"``(\w+)``", listed) != []


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_row_with_its_meaning_and_default(option: Any) -> None:
    row = rf"^\| `RETELL_{option.name}` \| (.*?) \| (.*?) \|$"
    ((default, meaning),) = re.findall(row, README, re.MULTILINE)
    assert meaning == option.doc
    assert default.strip("`") == option.shown


@pytest.mark.parametrize("name", commands.retell.commands)
def test_every_command_has_a_row(name: str) -> None:
    assert re.search(rf"^\| `{name}\b", README, re.MULTILINE)


@pytest.mark.parametrize("name", retell_flask.__all__)
def test_every_export_is_named(name: str) -> None:
    assert re.search(rf"\b{name}\b", README + TWO_WAY)


def test_the_path_is_the_default_one() -> None:
    assert PATH in README
