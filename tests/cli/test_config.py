from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from cli.shop import Shop
from retell_flask import RetellBlueprint
from retell_flask.settings import OPTIONS
from support import KEY, SECRET, make_app

KEYS = {"RETELL_API_KEY": [KEY, "key_old"], "RETELL_WEBHOOK_SECRET": SECRET}


def option(shop: Shop, name: str) -> list[str]:
    """The row of an option: its value, and where it comes from."""
    (line,) = [line for line in shop.run("config").splitlines() if line.startswith(name)]
    return line.split(maxsplit=2)[1:]


def test_every_option_has_a_row(shop: Shop) -> None:
    lines = shop.run("config").partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines[1:]] == [f"RETELL_{each.name}" for each in OPTIONS]
    assert list(shop.run_json("config")["options"]) == [f"RETELL_{each.name}" for each in OPTIONS]


def test_a_value_is_shown_with_where_it_comes_from(
    make_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETELL_LEASE", "90")
    shop = make_shop(RETELL_RETENTION=timedelta(days=7))
    assert option(shop, "RETELL_LEASE") == ["90s", "environment"]
    assert option(shop, "RETELL_RETENTION") == ["7d", "app.config"]
    assert option(shop, "RETELL_ORDER_WAIT") == ["30s", "default"]
    assert option(shop, "RETELL_DISPATCH") == ["threads", "default"]
    assert option(shop, "RETELL_WEBHOOK_SECRET") == ["none", "default"]
    assert option(shop, "RETELL_SIGNATURE_SCHEMES") == ["timestamped,plain", "default"]


def test_json_has_numbers_as_numbers(make_shop: Callable[..., Shop]) -> None:
    shown = make_shop(RETELL_LEASE="2m", RETELL_WORKERS=0).run_json("config")
    assert shown["blueprint"] == "retell"
    options = shown["options"]
    late = {"changed_too_late": False}
    assert options["RETELL_LEASE"] == {"value": 120.0, "source": "app.config", **late}
    assert options["RETELL_WORKERS"] == {"value": 0, "source": "app.config", **late}
    assert options["RETELL_API_KEY"] == {"value": "1 key", "source": "app.config", **late}


def test_keys_are_counted_and_never_shown(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(**KEYS)
    output = shop.run("config") + shop.run("config", "--json")
    assert "2 keys" in output
    for key in (KEY, "key_old", SECRET):
        assert key not in output


def test_a_url_is_shown_without_its_passwords(make_shop: Callable[..., Shop]) -> None:
    url = "postgresql://user:secret@127.0.0.1:1/calls?password=another&application_name=shop"
    shop = make_shop(RETELL_INBOX_URL=url)
    output = shop.run("config") + shop.run("config", "--json")
    assert "postgresql+psycopg://user:***@127.0.0.1:1/calls?application_name=shop" in output
    assert "secret" not in output
    assert "another" not in output


def test_an_option_that_was_set_too_late_is_marked(shop: Shop) -> None:
    shop.app.config["RETELL_LEASE"] = "5m"
    assert option(shop, "RETELL_LEASE") == [
        "1m",
        "app.config, changed since the blueprint was registered: no effect",
    ]
    shop.app.config["RETELL_LEASE"] = "nonsense"
    assert shop.run_json("config")["options"]["RETELL_LEASE"]["changed_too_late"] is True


@pytest.mark.parametrize(
    ("options", "dispatch"),
    [
        ({}, "inline, in the request"),
        ({"TESTING": False}, "threads, 4 in each process of the application"),
        (
            {"TESTING": False, "RETELL_WORKERS": 0},
            "threads, none in each process of the application",
        ),
        ({"RETELL_INBOX_URL": "none"}, "inline, in the request, without records"),
    ],
)
def test_the_dispatch_in_effect_is_named(
    make_shop: Callable[..., Shop], options: dict[str, Any], dispatch: str
) -> None:
    assert make_shop(**options).run_json("config")["effective"]["dispatch"] == dispatch


def test_the_file_in_effect_is_named_and_not_made(
    make_shop: Callable[..., Shop], tmp_path: Path
) -> None:
    effective = make_shop().run_json("config")["effective"]
    assert effective["webhook"] == "POST /webhooks/retellai"
    assert effective["inbox"] == f"the SQLite file {tmp_path}/inbox.sqlite3"
    assert "journal mode" in effective["sqlite"]
    assert "TESTING is on" in effective["testing"]
    assert not list(tmp_path.iterdir())


def test_an_inbox_in_memory_is_named(make_shop: Callable[..., Shop]) -> None:
    effective = make_shop(RETELL_INBOX_URL=None).run_json("config")["effective"]
    assert effective["inbox"] == "the memory of each process"


def test_an_engine_of_the_application_is_named_without_its_password() -> None:
    engine = create_engine("postgresql+psycopg://user:secret@127.0.0.1:1/shop")
    shop = Shop(make_app(RetellBlueprint(engine=engine)))
    effective = shop.run_json("config")["effective"]
    assert effective["inbox"] == (
        "the application's own engine, postgresql+psycopg://user:***@127.0.0.1:1/shop"
    )


def test_an_engine_that_is_not_to_be_had_is_no_error() -> None:
    def fail() -> Any:
        raise RuntimeError("no database yet")

    shop = Shop(make_app(RetellBlueprint(engine=fail)))
    assert "not to be had" in shop.run_json("config")["effective"]["inbox"]
