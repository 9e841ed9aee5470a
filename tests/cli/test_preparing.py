"""``init-db``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine

from cli.shop import Shop
from retell_flask import RetellBlueprint
from support import KEY, make_app


def test_a_file_is_made_once_with_its_directory(
    make_shop: Callable[..., Shop], tmp_path: Path
) -> None:
    shop = make_shop(RETELL_INBOX_URL=f"sqlite:///{tmp_path}/new/inbox.sqlite3")
    where = f"in the SQLite file {tmp_path}/new/inbox.sqlite3.\n"
    assert shop.run("init-db") == f"retell: the tables were made, {where}"
    assert shop.run("init-db") == f"retell: the tables were there already, {where}"
    assert shop.run("events") == "No such events.\n"


def test_an_engine_of_the_application_gets_tables(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/shop.sqlite3")
    shop = Shop(make_app(RetellBlueprint(engine=engine)))
    assert "the tables were made" in shop.run("init-db")
    assert "the tables were there already" in shop.run("init-db")
    assert shop.run("events") == "No such events.\n"
    engine.dispose()


def test_every_blueprint_is_prepared_or_the_one_that_is_named(tmp_path: Path) -> None:
    names = ("sales", "support", "spare")
    shop = Shop(
        make_app(
            *(
                RetellBlueprint(name, url_prefix=f"/{name}", config_prefix=name.upper())
                for name in names
            ),
            **{f"{name.upper()}_API_KEY": KEY for name in names},
            SALES_INBOX_URL=f"sqlite:///{tmp_path}/inbox.sqlite3",
            SUPPORT_INBOX_URL=f"sqlite:///{tmp_path}/inbox.sqlite3",
            SPARE_INBOX_URL="none",
        )
    )
    assert shop.run("init-db", "--blueprint", "support").startswith(
        "support: the tables were made"
    )
    sales, support, spare = shop.run("init-db").splitlines()
    assert sales.startswith("sales: the tables were there already")
    assert support.startswith("support: the tables were there already")
    assert spare == "spare: no inbox (SPARE_INBOX_URL is none), nothing to make."
    for name in ("sales", "support"):
        shop.app.extensions["retell"][name].inbox.database.dispose()
