from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from databases import rows
from retell_flask import ConfigurationError, RetellBlueprint
from retell_flask.inbox import location, sqlite
from retell_flask.inbox.database import Database
from retell_flask.inbox.sqlite import FileDatabase, MemoryDatabase
from retell_flask.settings import Settings, read_settings
from retell_flask.testing import RetellTestClient
from support import call_payload, make_app, make_post


def settings(**options: Any) -> Settings:
    config = {f"RETELL_{name}": value for name, value in options.items()}
    return read_settings({"RETELL_API_KEY": "k", **config}, environ={})


def open_database(testing: bool = False, **options: Any) -> Database:
    return location.open_database(settings(**options), "/instance", testing=testing)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "/instance/retell.sqlite3"),
        ({"INBOX_URL": "sqlite:///calls.db"}, "/instance/calls.db"),
        ({"INBOX_URL": "sqlite:////var/calls.db"}, "/var/calls.db"),
    ],
)
def test_a_file_is_below_the_instance_path(options: Any, path: str) -> None:
    database = open_database(**options)
    assert isinstance(database, FileDatabase)
    assert database.path == Path(path)


def test_testing_moves_the_default_into_memory_and_no_explicit_option() -> None:
    assert isinstance(open_database(testing=True), MemoryDatabase)
    explicit = open_database(testing=True, INBOX_URL="sqlite:///calls.db")
    assert isinstance(explicit, FileDatabase)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_memory_can_be_asked_for(url: str) -> None:
    assert isinstance(open_database(INBOX_URL=url), MemoryDatabase)


def test_nothing_is_opened_or_made_at_registration(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/instance/inbox.sqlite3"
    make_app(RetellBlueprint(), RETELL_INBOX_URL=url)
    make_app(RetellBlueprint(), RETELL_INBOX_URL="postgresql://nobody@127.0.0.1:1/none")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "config",
    [
        {"SQLALCHEMY_DATABASE_URI": "sqlite:////data/app.db"},
        {"SQLALCHEMY_BINDS": {"a": "sqlite:////data/./app.db"}},
        {"SQLALCHEMY_BINDS": {"a": {"url": "sqlite:////data/app.db"}}},
    ],
)
def test_the_hosts_own_sqlite_file_is_refused(config: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^RETELL_INBOX_URL names the SQLite file of"):
        make_app(RetellBlueprint(), RETELL_INBOX_URL="sqlite:////data/app.db", **config)


def test_other_databases_of_the_host_are_no_matter() -> None:
    config: dict[str, Any] = {
        "SQLALCHEMY_DATABASE_URI": "postgresql://h/d",
        "SQLALCHEMY_BINDS": {"a": "sqlite:////data/other.db", "b": "sqlite://", "c": None},
    }
    make_app(RetellBlueprint(), RETELL_INBOX_URL="sqlite:////data/app.db", **config)


def test_an_old_sqlite_is_refused_and_the_extra_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        sqlite_version = "3.34.1"
        sqlite_version_info = (3, 34, 1)

    monkeypatch.setattr(sqlite, "sqlite_module", lambda: Old)
    with pytest.raises(ConfigurationError, match=r"3\.34\.1 is too old.*retell-flask\[sqlite\]"):
        make_app(RetellBlueprint())
    make_app(RetellBlueprint(), RETELL_INBOX_URL="postgresql://h/d")
    make_app(RetellBlueprint(), RETELL_INBOX_URL="none")


@pytest.mark.parametrize("as_callable", [False, True])
def test_the_hosts_engine_is_used_as_it_is(as_callable: bool, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/host.sqlite3")
    retell = RetellBlueprint(engine=(lambda: engine) if as_callable else engine)
    app = make_app(retell)
    inbox = app.extensions["retell"]["retell"].inbox
    assert RetellTestClient(app).post(call_payload("call_ended")).status_code == 200
    assert [row["status"] for row in rows(inbox.database)] == ["done"]
    assert inbox.database.engine is engine
    engine.dispose()


def test_the_engine_of_flask_sqlalchemy_is_found_in_the_app_context(tmp_path: Path) -> None:
    from flask_sqlalchemy import SQLAlchemy

    db = SQLAlchemy()
    app = make_app(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/host.sqlite3")
    db.init_app(app)
    app.register_blueprint(RetellBlueprint(engine=lambda: db.engine))
    assert RetellTestClient(app).post(call_payload("call_ended")).status_code == 200
    with app.app_context():
        db.engine.dispose()


def test_an_engine_and_a_url_are_one_too_many() -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(ConfigurationError, match="Remove one of the two"):
        make_app(RetellBlueprint(engine=engine), RETELL_INBOX_URL="sqlite://")
    with pytest.raises(ConfigurationError, match="Remove one of the two"):
        make_app(RetellBlueprint(engine=engine), RETELL_INBOX_URL="none")


def test_what_is_no_engine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes as engine a SQLAlchemy Engine"):
        make_app(RetellBlueprint(engine="sqlite://"))  # type: ignore[arg-type]


def test_a_callable_that_fails_is_an_outage_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    post = make_post(make_app(RetellBlueprint(engine=lambda: None)))  # type: ignore[arg-type,return-value]
    assert post(call_payload("call_ended")).status_code == 503
    assert "engine=lambda: db.engine" in caplog.text
