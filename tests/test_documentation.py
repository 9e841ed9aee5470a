"""What the README shows runs, and what a host can use is in it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import retell_flask
from retell_flask import cli as commands
from retell_flask.settings import OPTIONS
from retell_flask.signals import SIGNALS
from retell_flask.testing import sample
from support import PATH, make_post

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PROGRAM, HANDLERS, TURNS, HOOK, TWO_BLUEPRINTS, LOOK, TEST = re.findall(
    r"```python\n(.*?)```", README, re.DOTALL
)


def run(code: str, **names: Any) -> dict[str, Any]:
    names["__name__"] = "readme"
    exec(compile(code, "README.md", "exec"), names)
    return names


def test_the_program_is_the_quickstart_and_handles_a_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (ROOT / "examples/quickstart.py").read_text("utf-8").endswith(PROGRAM)
    monkeypatch.setenv("RETELL_API_KEY", "k")
    monkeypatch.setenv("RETELL_INBOX_URL", "sqlite://")
    monkeypatch.setenv("RETELL_DISPATCH", "inline")
    names = run(PROGRAM)
    run(TURNS, **run(HANDLERS, retell=names["retell"]))
    post = make_post(names["create_app"]())
    for name in ("call_started", "call_ended", "call_analyzed", "call_ended_not_connected"):
        assert post(sample(name), key="k").status_code == 200
    printed = capsys.readouterr().out
    assert "is talking to Bayview Front Desk" in printed
    assert "The caller was positive" in printed
    assert "calls check_availability with" in printed
    assert "+14155550177: Nobody answered." in printed


def test_the_hook_is_gunicorns() -> None:
    assert callable(run(HOOK)["post_worker_init"])


def test_two_blueprints_have_an_app_together() -> None:
    names = run(TWO_BLUEPRINTS)
    post = make_post(names["app"])
    assert post(sample("call_ended"), path="/webhooks/sales", key="key_1").status_code == 200
    assert post(sample("call_ended"), path="/webhooks/support", key="key_2").status_code == 200


def test_the_look_at_a_delivery_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    app = run(TWO_BLUEPRINTS)["app"]
    app.before_request(run(LOOK)["look"])
    make_post(app)(sample("call_ended"), path="/webhooks/sales", key="another")
    assert "None of the keys makes this digest" in capsys.readouterr().out


def test_the_tests_of_handlers_pass(tmp_path: Path) -> None:
    (tmp_path / "quickstart.py").write_text(PROGRAM, "utf-8")
    (tmp_path / "test_readme.py").write_text(TEST, "utf-8")
    pytest_run = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path)]
    done = subprocess.run(pytest_run, cwd=tmp_path, capture_output=True, text=True)
    assert "2 passed" in done.stdout, done.stdout


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
    assert re.search(rf"\b{name}\b", README)


def test_the_path_is_the_default_one() -> None:
    assert PATH in README
