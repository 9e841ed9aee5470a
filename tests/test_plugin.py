"""The pytest plugin, as a host project has it: from the wheel, beside its own tests."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

HANDLERS = """
from flask import Flask
from retell_flask import InboundAnswer, RetellBlueprint, call_ended

retell = RetellBlueprint()
minutes = {}


@call_ended.connect_via(retell)
def bill(sender, event, **extra):
    if event.call.metadata is None:
        raise LookupError("no order")
    minutes[event.call.call_id] = event.call.duration.total_seconds() / 60


@retell.inbound
def greet(inbound):
    return InboundAnswer(dynamic_variables={"number": inbound.from_number})


def create_app():
    app = Flask(__name__)
    app.register_blueprint(retell)
    return app
"""

TESTS = """
import pytest
from shop import bill, create_app, minutes


@pytest.fixture
def app():
    app = create_app()
    app.testing = True
    return app


def test_a_call_is_billed(retell_client):
    sent = retell_client.send("call_ended", duration_ms=90_000)
    assert minutes[sent.event.call.call_id] == 1.5


def test_a_call_without_an_order_fails(retell_client, retell_inbox):
    with pytest.raises(LookupError, match="no order"):
        retell_client.send("call_ended", metadata=None)
    assert retell_inbox.statuses() == {"call_ended": ["pending"]}


def test_a_call_is_billed_after_an_outage(retell_client, retell_inbox, retell_events):
    with retell_client.failing(bill, times=2):
        retell_client.send_call("completed", check=False)
        retell_client.drain()
    assert set(retell_inbox.statuses()) >= {"call_started", "call_ended", "call_analyzed"}
    assert len(retell_events.of("delivery_failed")) == 2


def test_a_caller_is_greeted(retell_client):
    answer = retell_client.ask_inbound(from_number="+14155550111")
    assert answer["dynamic_variables"] == {"number": "+14155550111"}
"""

CONFTEST = """
import pytest
import shop

made_early = shop.create_app()


@pytest.fixture(scope="session")
def app():
    made_early.testing = True
    return made_early
"""

SHARED = """
import pytest
from shop import bill


@pytest.mark.parametrize("number", range(2))
def test_each_has_a_call_of_its_own(number, retell_client, retell_inbox):
    assert retell_inbox.statuses() == {}
    with retell_client.failing(bill):
        retell_client.send("call_ended", check=False)
    assert [run.receiver for run in retell_client.drain("0s")] == []
"""

UNUSED = """
import os, sys


def test_nothing_of_ours_is_loaded(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("retell_flask")
    heavy = {"flask", "sqlalchemy", "retell_flask", "requests", "msgspec", "blinker"}
    assert heavy.isdisjoint(sys.modules)


def test_a_key_is_there_for_whoever_has_none():
    assert os.environ["RETELL_API_KEY"] == "key_for_tests"
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run_pytest(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs pytest where the wheel is installed; its dependencies are those of this run."""
    place = tmp_path_factory.mktemp("host")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(ROOT)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = place.glob("*.whl")
    venv.create(place / "venv", symlinks=os.name != "nt")
    python = place / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    own = [*pip, f"--python={python}", "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(own, check=True)
    (installed,) = (place / "venv").rglob("retell_flask/__init__.py")
    # Of the other environment only the packages, and not its link to this repository.
    others = sysconfig.get_path("purelib")
    (installed.parent.parent / "dependencies.pth").write_text(others, "utf-8")

    def run(**files: str) -> subprocess.CompletedProcess[str]:
        directory = tmp_path_factory.mktemp("project")
        for name, code in files.items():
            (directory / f"{name}.py").write_text(code, "utf-8")
        command = [str(python), "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
        return subprocess.run(command, cwd=directory, capture_output=True, text=True)

    return run


def test_a_host_project_passes_its_tests_with_the_plugin_alone(run_pytest: Run) -> None:
    done = run_pytest(shop=HANDLERS, test_shop=TESTS)
    assert "4 passed" in done.stdout, done.stdout
    assert "error" not in done.stdout


def test_an_app_may_be_made_early_and_once_for_all_tests(run_pytest: Run) -> None:
    done = run_pytest(shop=HANDLERS, conftest=CONFTEST, test_shop=SHARED)
    assert "2 passed" in done.stdout, done.stdout


def test_a_plugin_that_nobody_uses_loads_nothing(run_pytest: Run) -> None:
    done = run_pytest(test_other=UNUSED)
    assert "2 passed" in done.stdout, done.stdout


def test_who_has_no_app_is_told_so(run_pytest: Run) -> None:
    done = run_pytest(test_other="def test_it(retell_client): ...")
    assert "fixture 'app' not found" in done.stdout
