"""A browser, and the application as ``flask run`` serves it, with Retell played by the tests."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests

from call_center.settings import OPTIONS
from retell_flask.testing import HEADER, encode, renew, sample, sign
from retell_stand_in import retell_stand_in

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
KEY = "key_for_tests"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _do_without("playwright is not installed: pip install -r requirements-test.txt")
    if not CHROMIUM.exists():
        _do_without(f"there is no {CHROMIUM}: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def expect(browser: Any) -> Any:
    """Playwright's assertions, which wait."""
    from playwright.sync_api import expect

    expect.set_options(timeout=10_000)
    return expect


def _do_without(reason: str) -> None:
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass
class Server:
    """The application in a process of its own."""

    url: str
    started: dict[str, datetime] = field(default_factory=dict)

    def tell(self, call_id: str, name: str, **changes: Any) -> None:
        """Post a sample of Retell's, signed, as an event of this call."""
        soon = timedelta(seconds=27)  # so that the samples' call ends about now
        started = self.started.setdefault(call_id, datetime.now(timezone.utc) - soon)
        body = encode(renew(sample(name, **changes), session_id=call_id, started_at=started))
        headers = {HEADER: sign(body, KEY), "Content-Type": "application/json"}
        answer = requests.post(
            f"{self.url}/webhooks/retellai", data=body, headers=headers, timeout=10
        )
        assert answer.json() == {"received": True}

    def wait_for(self, call_id: str, text: str) -> None:
        """Wait until the call's page has it: handlers run after the answer."""
        for _ in range(100):
            page = requests.get(f"{self.url}/calls/{call_id}", timeout=10).text
            if text in page:
                return
            time.sleep(0.1)
        pytest.fail(f"{text!r} is not on the page of {call_id}.")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    with socket.socket() as free, retell_stand_in() as retell:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        environment = {name: text for name, text in os.environ.items() if name not in OPTIONS}
        environment.update(
            PYTHONPATH=str(ROOT),
            CALL_CENTER_DATABASE_URL=f"sqlite:///{directory}/call_center.sqlite3",
            RETELL_API_KEY=KEY,
            RETELL_API_URL=retell.url,
            RETELL_DISPATCH="threads",
            RETELL_INBOX_URL=f"sqlite:///{directory}/retell.sqlite3",
        )
        command = f"-m flask --app call_center run --debug --no-reload --no-debugger --port {port}"
        with (directory / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *command.split()],
                cwd=directory,
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, process)
            yield Server(url)
        finally:
            process.terminate()
            process.wait(10)
    assert not re.search("^Traceback", (directory / "log").read_text(), re.MULTILINE)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            requests.get(f"{url}/health", timeout=1).raise_for_status()
        except requests.RequestException:
            assert process.poll() is None
            time.sleep(0.1)
        else:
            return
    pytest.fail("The server did not start.")


@pytest.fixture
def open_page(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Opens a page whose scripts must not fail, and which must ask nobody anything."""
    problems: list[str] = []
    contexts = []

    def note_error(said: Any) -> None:
        # That a page itself is an error, or the network off, is for a test to judge.
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            problems.append(said.text)

    def note_missing(answer: Any) -> None:
        is_page = answer.request.resource_type == "document"
        if answer.status >= 400 and not is_page:
            problems.append(f"{answer.url} is {answer.status}")

    def open_page(path: str, *, width: int = 1280, **options: Any) -> Any:
        options = {"viewport": {"width": width, "height": 800}, "color_scheme": "light", **options}
        contexts.append(browser.new_context(base_url=server.url, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", note_error)
        page.on("response", note_missing)
        page.on("dialog", lambda dialog: problems.append(f"a dialog: {dialog.message}"))
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="session")
def screenshots(pytestconfig: pytest.Config) -> Path:
    """The directory for them."""
    directory = Path(os.environ.get("SCREENSHOTS") or pytestconfig.rootpath / "test-output")
    directory.mkdir(parents=True, exist_ok=True)
    return directory
