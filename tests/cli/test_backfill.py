"""``backfill``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from backfilling import ALL, HOUR, Aftermath, both, break_calls, skip_pauses
from cli.shop import Shop
from retell_flask.inbox.store import utc_now
from retell_flask.testing import Capture
from retellapi import RetellApi
from support import KEY


@pytest.fixture
def shop(make_shop: Callable[..., Shop], api: RetellApi) -> Aftermath:
    """Time stands still in its inbox, which knows ``agent_1``."""
    shop = Aftermath(make_shop(RETELL_API_URL=api.url).app, api)
    shop.clock.freeze(utc_now().replace(microsecond=0))
    shop.hear_of("agent_1")
    return shop


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_pauses(monkeypatch)


def last_line(output: str) -> str:
    return output.splitlines()[-1]


def test_what_never_came_is_delivered(shop: Aftermath, captured: Capture) -> None:
    shop.happened(1, ago=3 * HOUR)
    shop.happened(2, "call_started", "call_ended")
    shop.happened(3, *ALL)
    output = shop.run("backfill", "--since", "24h")
    assert "Looked at 3 calls of 1 agent (agent_1)." in output
    assert output.endswith("3 events of 2 calls never came, and were made.\n")
    analyzed = [each.event for each in captured.of("call_analyzed")]
    assert [event.synthetic for event in analyzed if event].count(True) == 2


def test_a_second_run_finds_nothing(shop: Aftermath) -> None:
    shop.happened(1)
    shop.run("backfill", "--since", "24h")
    output = shop.run("backfill", "--since", "24h")
    assert output == "Looked at 1 call of 1 agent (agent_1). Nothing is missing.\n"


def test_a_dry_run_lists_the_calls_and_makes_nothing(shop: Aftermath) -> None:
    shop.happened(1, ago=3 * HOUR)
    shop.happened(2, "call_ended")
    shop.happened(3, *ALL)
    output = shop.run("backfill", "--since", "24h", "--dry-run")
    ended = shop.inbox.clock() - 3 * HOUR
    assert f"{ended:%Y-%m-%d %H:%M:%S}  call_000001  call_ended, call_analyzed\n" in output
    assert "  call_000002  call_analyzed\n" in output
    assert "call_000003" not in output
    assert output.endswith("3 events of 2 calls never came, and would be made.\n")
    assert (shop.made(), shop.fetched()) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        (["--since", "4h"], [2, 3]),
        (["--since", "4h", "--until", "2h"], [2]),
        (["--since", "7h", "--until", "4h"], [1]),
        (["--since", "7h", "--grace", "4h"], [1]),
        (["--since", "7h", "--grace", "90m"], [1, 2]),
    ],
)
def test_calls_are_chosen_by_their_end(
    shop: Aftermath, arguments: list[str], made: list[int]
) -> None:
    for number, hours in ((1, 5), (2, 3), (3, 1)):
        shop.happened(number, ago=hours * HOUR)
    shop.run("backfill", *arguments)
    assert shop.made() == both(*made)


def test_moments_are_dates_and_times_in_utc(shop: Aftermath) -> None:
    for number, hours in ((1, 5), (2, 3), (3, 1)):
        shop.happened(number, ago=hours * HOUR)
    since, until = (shop.inbox.clock() - hours * HOUR for hours in (4, 2))
    shop.run("backfill", "--since", f"{since:%Y-%m-%dT%H:%M:%S}", "--until", f"{until:%F %T}Z")
    assert shop.made() == both(2)


@pytest.mark.parametrize(
    ("arguments", "made"),
    [
        ([], [1]),
        (["--agent", "agent_2"], [2]),
        (["--agent", "agent_2", "--agent", "agent_3"], [2, 3]),
        (["--all-agents"], [1, 2, 3]),
    ],
)
def test_agents_are_those_that_are_known_or_named(
    shop: Aftermath, arguments: list[str], made: list[int]
) -> None:
    for number in (1, 2, 3):
        shop.happened(number, agent_id=f"agent_{number}")
    shop.run("backfill", "--since", "24h", *arguments)
    assert shop.made() == both(*made)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all-agents"], "Missing option '--since'"),
        (["--since", "24h", "--agent", "agent_1", "--all-agents"], "give one of them"),
        (["--since", "24"], "'24' is no time"),
        (["--since", "yesterday"], "'yesterday' is no time"),
        (["--since", "2026-02-30"], "'2026-02-30' is no time"),
        (["--since", "24h", "--until", "soon"], "'soon' is no time"),
        (["--since", "24h", "--grace", "15"], "'15' is no duration"),
        (["--since", "31d"], "too long ago"),
        (["--since", "10m"], "less than the grace"),
        (["--since", "1h", "--until", "2h"], "not before until"),
        (["--since", "2099-01-01"], "less than the grace"),
    ],
)
def test_what_has_no_answer_is_a_usage_error(
    shop: Aftermath, arguments: list[str], message: str
) -> None:
    assert message in " ".join(shop.run("backfill", *arguments, code=2).split())
    assert shop.api.requests == []


def test_the_whole_retention_can_be_asked_for(shop: Aftermath) -> None:
    shop.happened(1, ago=timedelta(days=29))
    shop.clock.thaw()  # it goes on between reading "30d" and looking at it
    assert "2 events of 1 call" in shop.run("backfill", "--since", "30d")


def test_an_inbox_that_heard_of_no_agent_says_what_to_do(
    make_shop: Callable[..., Shop], api: RetellApi
) -> None:
    shop = make_shop(RETELL_API_URL=api.url)
    shop.inbox.check()
    output = shop.run("backfill", "--since", "24h", code=2)
    assert "--agent" in output
    assert "--all-agents" in output


def test_an_api_that_is_down_is_said_in_the_last_line(
    make_shop: Callable[..., Shop], shop: Aftermath
) -> None:
    shop = make_shop(RETELL_API_URL="http://127.0.0.1:9")  # type: ignore[assignment]
    output = shop.run("backfill", "--since", "24h", code=1)
    assert last_line(output).startswith("Error: POST http://127.0.0.1:9/v3/list-calls: no")


def test_a_key_that_is_refused_is_said_in_the_last_line(shop: Aftermath) -> None:
    shop.api.key = "another"
    output = shop.run("backfill", "--since", "24h", code=1)
    assert last_line(output).startswith("Error: POST /v3/list-calls: 401")


def test_receivers_that_are_left_to_run_are_exit_code_1(
    shop: Aftermath, fail: Callable[..., None]
) -> None:
    fail("call_ended", RuntimeError("later"))
    shop.happened(1)
    output = shop.run("backfill", "--since", "24h", code=1)
    assert "Receivers of 1 event failed, or could not run now" in output
    assert "flask retell worker --once" in output


def test_calls_that_could_not_be_fetched_are_exit_code_1(shop: Aftermath) -> None:
    shop.happened(1)
    shop.happened(2)
    break_calls(shop.api, 1)
    output = shop.run("backfill", "--since", "24h", code=1)
    assert last_line(output).startswith("Error: 1 call could not be fetched: see the log")
    assert shop.made() == both(2)


def test_calls_that_retell_has_no_longer_are_counted(shop: Aftermath) -> None:
    shop.happened(1)
    shop.happened(2)
    shop.api.calls["call_000001"] = shop.api.calls.pop("call_000001") | {"call_id": "call_x"}
    output = shop.run("backfill", "--since", "24h")
    assert last_line(output) == "1 call with missing events Retell has no longer."


def test_ids_cannot_command_the_terminal(shop: Aftermath) -> None:
    shop.happened(1, call_id="call_\x1b[2J")
    output = shop.run("backfill", "--since", "24h", "--dry-run")
    assert "call_\\x1b[2J" in output
    assert "\x1b" not in output


def test_it_needs_an_inbox(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(RETELL_INBOX_URL="none")
    assert "has no inbox" in shop.run("backfill", "--since", "24h", code=1)


def test_an_inbox_that_is_not_there_yet_is_made(
    make_shop: Callable[..., Shop], api: RetellApi
) -> None:
    shop = Aftermath(make_shop(RETELL_API_URL=api.url).app, api)
    shop.happened(1)
    shop.run("backfill", "--since", "24h", "--agent", "agent_1")
    assert shop.made() == both(1)


def test_where_nobody_is_known_to_deliver_it_is_said_who_does(
    make_shop: Callable[..., Shop], api: RetellApi
) -> None:
    shop = Aftermath(make_shop(RETELL_API_URL=api.url, RETELL_DISPATCH="threads").app, api)
    shop.happened(1)
    output = shop.run("backfill", "--since", "24h", "--all-agents")
    assert "Looked at 1 call of all agents." in output
    assert last_line(output) == "  flask retell worker --once"
    assert shop.statuses() == ["pending", "pending"]


def test_a_run_that_saw_no_call_names_the_agents(shop: Aftermath) -> None:
    shop.happened(1, agent_id="agent_\x1b2")
    output = shop.run("backfill", "--since", "24h")
    assert "Looked at 0 calls of 1 agent (agent_1). Nothing is missing.\n" in output
    assert "--all-agents" in output
    output = shop.run("backfill", "--since", "24h", "--agent", "agent_\x1b2", "--dry-run")
    assert "agent_\\x1b2" in output


def test_a_test_does_not_ask_retell(make_shop: Callable[..., Shop], shop: Aftermath) -> None:
    output = make_shop().run("backfill", "--since", "24h", code=1)
    assert "TESTING is on" in output


def test_the_help_teaches(shop: Aftermath) -> None:
    output = shop.run("backfill", "--help")
    assert "flask retell backfill --since 24h --dry-run" in output
    assert "[default: 15m]" in output
    for text in ("synthetic", "run again", "--until", "--agent", "--all-agents", "UTC"):
        assert text in output
    assert "backfill" in shop.run("--help")


APP = """
from flask import Flask

from retell_flask import RetellBlueprint

app = Flask(__name__)
app.register_blueprint(RetellBlueprint())
"""


def run_at_a_terminal(directory: Path, *arguments: str, **environ: str) -> tuple[str, str]:
    """What ``backfill`` writes to a pipe, and to a terminal as its standard error."""
    (directory / "shop_app.py").write_text(APP)
    terminal, end = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "shop_app", "retell", "backfill", *arguments],
        cwd=directory,
        env={**os.environ, "RETELL_API_KEY": KEY, "RETELL_WORKERS": "0", **environ},
        stdout=subprocess.PIPE,
        stderr=end,
    )
    os.close(end)
    written = b""
    with suppress(OSError):  # the other end was closed
        while read := os.read(terminal, 10_000):
            written += read
    os.close(terminal)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, (output, written)
    return output.decode(), written.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
def test_a_terminal_shows_a_bar(shop: Aftermath, file_url: str, tmp_path: Path) -> None:
    shop.happened(1, ago=5 * HOUR)
    shop.happened(2, ago=timedelta(minutes=16))
    environ = {"RETELL_INBOX_URL": file_url, "RETELL_API_URL": shop.api.url}
    output, written = run_at_a_terminal(tmp_path, "--since", "10h", **environ)
    assert "Calls that ended  [" in written
    assert "100%" in written
    assert "4 events of 2 calls never came, and were made.\n" in output
    assert shop.made() == both(1, 2)


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")
def test_a_dry_run_at_a_terminal_lists_the_calls_too(
    shop: Aftermath, file_url: str, tmp_path: Path
) -> None:
    shop.happened(1)
    environ = {"RETELL_INBOX_URL": file_url, "RETELL_API_URL": shop.api.url}
    output, _ = run_at_a_terminal(tmp_path, "--since", "10h", "--dry-run", **environ)
    assert "  call_000001  call_ended, call_analyzed\n" in output
