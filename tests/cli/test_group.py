"""What all commands share: the group, the choice of a blueprint, times and errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from flask import Flask
from flask.cli import FlaskGroup, ScriptInfo

from cli.shop import Shop
from retell_flask import RetellBlueprint
from retell_flask.cli import common
from retell_flask.cli.advice import run_once
from support import KEY, make_app

COMMANDS = [
    "backfill",
    "call",
    "config",
    "doctor",
    "events",
    "forget",
    "functions",
    "init-db",
    "prune",
    "receivers",
    "rehearse",
    "replay",
    "send",
    "show",
    "stats",
    "sweep",
    "verify",
    "worker",
]


def test_the_group_lists_its_commands(shop: Shop) -> None:
    listed = shop.run("--help").partition("Commands:")[2]
    assert [line.split()[0] for line in listed.strip().splitlines()] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_an_example(shop: Shop, command: str) -> None:
    help_ = shop.run(command, "--help")
    assert f"flask retell {command}" in help_ or "flask --app shop retell worker" in help_
    assert "STORED" not in help_


@pytest.mark.parametrize("given", [["--app", "shop:create_app"], []])
def test_commands_to_run_name_the_app_if_it_has_to_be_named(
    given: list[str], shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASK_APP", "" if given else "shop")
    with click.Context(click.Command("x"), obj=ScriptInfo(*given[1:])), shop.app.app_context():
        assert run_once(shop.state) == f"flask {' '.join([*given, ''])}retell worker --once"


def test_an_app_that_cannot_be_made_is_told_without_a_traceback(retell: RetellBlueprint) -> None:
    group = FlaskGroup(create_app=lambda: make_app(retell, RETELL_API_KEY=None))
    result = CliRunner().invoke(group, ["retell", "stats"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: RETELL_API_KEY is not set")
    assert "Traceback" not in result.output


def two_blueprints(tmp_path: Path) -> Flask:
    return make_app(
        RetellBlueprint("sales", url_prefix="/sales", config_prefix="SALES"),
        RetellBlueprint("support", url_prefix="/support", config_prefix="SUPPORT"),
        SALES_API_KEY=KEY,
        SUPPORT_API_KEY=KEY,
        SALES_INBOX_URL=f"sqlite:///{tmp_path}/sales.sqlite3",
        SUPPORT_INBOX_URL="none",
    )


def invoke(app: Flask, *arguments: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["retell", *arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize("command", ["events", "stats", "config", "receivers", "worker"])
def test_one_of_several_blueprints_has_to_be_chosen(tmp_path: Path, command: str) -> None:
    code, output = invoke(two_blueprints(tmp_path), command)
    assert code == 2
    assert "add --blueprint, of sales, support" in output


def test_a_blueprint_is_chosen_by_name(tmp_path: Path) -> None:
    app = two_blueprints(tmp_path)
    assert "SALES_LEASE" in invoke(app, "config", "--blueprint", "sales")[1]
    code, output = invoke(app, "config", "--blueprint", "sails")
    assert code == 2
    assert "There is no blueprint 'sails'. Registered: sales, support." in output


def test_the_only_blueprint_needs_no_choice_and_may_be_named(shop: Shop) -> None:
    assert shop.run("stats", "--blueprint", "retell") == shop.run("stats")
    assert "Registered: retell." in shop.run("stats", "--blueprint", "other", code=2)


def test_suggested_commands_name_the_blueprint_where_that_is_needed(tmp_path: Path) -> None:
    app = two_blueprints(tmp_path)
    sales = app.extensions["retell"]["sales"]
    with app.app_context():
        assert run_once(sales) == "flask retell worker --once --blueprint sales"


@pytest.mark.parametrize(
    "command",
    [["events"], ["stats"], ["show", "x"], ["replay"], ["prune"], ["forget", "x"], ["worker"]],
)
def test_without_an_inbox_a_command_says_so(
    make_shop: Callable[..., Shop], command: list[str]
) -> None:
    output = make_shop(RETELL_INBOX_URL="none").run(*command, code=1)
    assert output.startswith("Error: retell has no inbox (RETELL_INBOX_URL is none)")


@pytest.mark.parametrize("command", [["events"], ["stats"], ["show", "x"], ["replay"], ["prune"]])
def test_a_look_makes_no_file(
    make_shop: Callable[..., Shop], tmp_path: Path, command: list[str]
) -> None:
    output = make_shop().run(*command, code=1)
    assert f"There is no inbox yet in the SQLite file {tmp_path}/inbox.sqlite3" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["events"], ["receivers"], ["worker", "--once"], ["init-db"]])
def test_a_database_that_does_not_answer_is_one_line(
    make_shop: Callable[..., Shop], command: list[str]
) -> None:
    url = "postgresql://somebody:secret@127.0.0.1:1/nowhere"
    output = make_shop(RETELL_INBOX_URL=url).run(*command, code=1)
    assert output.startswith("Error: The inbox does not answer: OperationalError:")
    assert len(output.splitlines()) == 1
    assert "secret" not in output


def test_an_inbox_in_memory_is_mentioned(make_shop: Callable[..., Shop]) -> None:
    output = make_shop(RETELL_INBOX_URL="sqlite://").run("events")
    assert output.startswith("The inbox is in memory")


@pytest.mark.parametrize(
    ("text", "ago"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("30d", 2_592_000)]
)
def test_a_time_is_how_long_ago(text: str, ago: float) -> None:
    passed = datetime.now(timezone.utc) - common.moment(text)
    assert abs(passed - timedelta(seconds=ago)) < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-31", (2026, 1, 31)),
        ("2026-01-31 14:05", (2026, 1, 31, 14, 5)),
        ("2026-01-31T14:05:10Z", (2026, 1, 31, 14, 5, 10)),
        ("2026-01-31T14:05+02:00", (2026, 1, 31, 12, 5)),
    ],
)
def test_a_time_is_a_date_in_utc_unless_it_has_an_offset(text: str, utc: Any) -> None:
    assert common.moment(text) == datetime(*utc, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026", "20260131", "5", "0s", "-1h", "1w", "99999999d", "9" * 400]
)
@pytest.mark.parametrize("read", [common.moment, common.span])
def test_what_is_no_time_or_has_no_unit_is_refused(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is no (time|duration)"):
        read(text)


def test_a_time_before_all_times_is_refused() -> None:
    with pytest.raises(click.BadParameter):
        common.moment("0001-01-01T00:00+10:00")


@pytest.mark.parametrize("command", ["events", "replay"])
def test_a_span_that_ends_before_it_begins_is_refused(shop: Shop, command: str) -> None:
    assert "nothing could be in between" in shop.run(
        command, "--since", "1h", "--until", "2h", code=2
    )
