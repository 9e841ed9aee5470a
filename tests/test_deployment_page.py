"""What docs/deployment.md shows runs, and what it names is there."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from databases import postgresql
from retell_flask import GiveUp, RetellBlueprint, call_ended
from retell_flask import cli as commands
from retell_flask.settings import OPTIONS
from retell_flask.testing import RetellTestClient
from support import PATH, make_app

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/deployment.md").read_text("utf-8")
PROXIES, ENGINE, COUNTING = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
RETELL = "100.20.5.228"


def run(code: str, **names: Any) -> dict[str, Any]:
    names["__name__"] = "page"
    exec(compile(code, "deployment.md", "exec"), names)
    return names


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setenv("RETELL_API_KEY", "k")
    monkeypatch.setenv("RETELL_INBOX_URL", "sqlite://")
    app: Flask = run(PROXIES)["create_app"]()
    app.testing = True
    return app


@pytest.mark.parametrize(
    ("forwarded", "path", "status"),
    [
        (RETELL, PATH, 401),  # without a signature
        ("203.0.113.7", PATH, 403),
        (f"{RETELL}, 203.0.113.7", PATH, 403),  # the first is the client's own invention
        (f"203.0.113.7, {RETELL}", PATH, 401),
        ("203.0.113.7", f"{PATH}/health", 405),
        ("203.0.113.7", "/", 404),
    ],
)
def test_retell_alone_is_admitted_by_the_address_that_the_proxy_saw(
    app: Flask, forwarded: str, path: str, status: int
) -> None:
    headers = {"X-Forwarded-For": forwarded}
    assert app.test_client().post(path, data=b"{}", headers=headers).status_code == status


def test_an_engine_without_prepared_statements_keeps_the_inbox(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with postgresql() as url:
        monkeypatch.setenv("DATABASE_URL", url.replace("postgresql:", "postgresql+psycopg:"))
        names = run(ENGINE)
        engine = names["engine"]
        with RetellTestClient(make_app(names["retell"])) as client:
            assert client.send("call_ended").response.status_code == 200
        with engine.connect() as connection:
            assert connection.connection.driver_connection.prepare_threshold is None
        engine.dispose()


def test_refusals_and_dead_deliveries_are_counted() -> None:
    retell = RetellBlueprint()

    def bill(sender: Any, event: Any, **extra: Any) -> None:
        raise GiveUp("No such customer")

    retell.on(call_ended, name="bill")(bill)
    counted = run(COUNTING, retell=retell)["counted"]
    with RetellTestClient(make_app(retell)) as client:
        client.post({"event": "call_ended", "call": {"call_id": "c"}}, key="another")
        client.send("call_ended", check=False)
    assert counted == {"refused: mismatch": 1, "dead: bill": 1}


def test_fly_ends_gunicorn_as_it_should_and_makes_the_tables() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    fly = tomllib.loads(text)
    assert (fly["kill_signal"], fly["kill_timeout"]) == ("SIGTERM", 30)
    assert fly["deploy"]["release_command"].endswith("retell init-db")
    service = fly["http_service"]
    assert str(service["internal_port"]) == fly["env"]["PORT"]
    assert service["checks"] == [
        {"method": "GET", "path": f"{PATH}/health", "interval": "15s", "timeout": "9s"}
    ]


def test_nginx_has_our_limit_path_and_address() -> None:
    (text,) = re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL)
    (limit,) = [option.default for option in OPTIONS if option.name == "MAX_BODY"]
    assert f"client_max_body_size {limit >> 20}m;" in text
    assert f"location {PATH} {{" in text
    assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", PAGE)) == {RETELL, "127.0.0.1", "0.0.0.0"}
    assert RETELL in (ROOT / "README.md").read_text("utf-8")


def test_the_commands_are_there_with_their_options() -> None:
    lines = re.findall(r"flask[^`\n]*?\bretell[ ,]([^`\n|\"]+)", PAGE)
    asked = [re.split(r"[ ,]", line) for line in lines]
    assert {words[0] for words in asked} >= {"worker", "init-db", "stats", "backfill", "doctor"}
    for name, *words in asked:
        command = commands.retell.commands[name]
        options = {option for parameter in command.params for option in parameter.opts}
        assert [word for word in words if word.startswith("--") and word not in options] == []


def test_the_check_of_the_stats_fails_when_somebody_has_to_look() -> None:
    (expression,) = re.findall(r"jq -e '(.*?)'", PAGE)
    for field in re.findall(r"\.(\w+)(?=[. )])", expression):
        assert f'"{field}"' in printed_stats()
    if shutil.which("jq") is None:
        pytest.skip("There is no jq")

    def check(**values: Any) -> int:
        stats = json.dumps({**json.loads(printed_stats()), **values})
        return subprocess.run(["jq", "-e", expression], input=stats, text=True).returncode

    assert check() == 0
    assert check(oldest_pending_seconds=901.5) == 1
    assert check(deliveries={"pending": 0, "done": 1, "dead": 1}) == 1


def printed_stats() -> str:
    app = make_app(RetellBlueprint())
    with RetellTestClient(app) as client:
        client.send("call_ended")
        printed = app.test_cli_runner().invoke(args=["retell", "stats", "--json"]).output
        return printed.splitlines()[-1]


def test_the_fields_of_the_stats_are_there() -> None:
    row = r"^\| (?:`flask retell stats --json`|the same), `([\w.]+)`"
    names = re.findall(row, PAGE, re.MULTILINE)
    assert len(names) == 4
    for name in names:
        found = json.loads(printed_stats())
        for part in name.split("."):
            found = found[part]


def test_every_logger_is_a_module() -> None:
    names = set(re.findall(r"^\| `(retell_flask\.[\w.]+)` \|", PAGE, re.MULTILINE))
    assert len(names) == 5
    assert [name for name in sorted(names) if importlib.util.find_spec(name) is None] == []


@pytest.mark.parametrize("target", re.findall(r"\]\((\.\./[^)#]+)", PAGE))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()


@pytest.mark.parametrize("anchor", re.findall(r"\]\(#([^)]+)", PAGE))
def test_anchors_are_headings(anchor: str) -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    slugs = [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings]
    assert anchor in slugs
