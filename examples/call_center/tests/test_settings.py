from __future__ import annotations

import logging

import pytest

from call_center import create_app
from retell_flask import ConfigurationError


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("CALL_CENTER_DATABASE_URL", "pass:word", "CALL_CENTER_DATABASE_URL is no URL."),
        (
            "CALL_CENTER_DATABASE_URL",
            "mysql://a:pass@b/c",
            "of another kind of database. It begins",
        ),
        ("CALL_CENTER_DATABASE_URL", "sqlite:////no/such/file", "unable to open database file"),
        ("CALL_CENTER_PROXIES", "one", "CALL_CENTER_PROXIES is no number"),
    ],
)
def test_a_wrong_option_is_named_and_not_shown(option, value, said):
    with pytest.raises(ConfigurationError, match=said) as raised:
        create_app(**{"TESTING": True, "CALL_CENTER_DATABASE_URL": "sqlite://", option: value})
    assert option in raised.value.message
    assert "pass" not in raised.value.message


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgresql_is_written_as_hosts_write_it(scheme):
    app = create_app(TESTING=True, CALL_CENTER_DATABASE_URL=f"{scheme}://user@host/name")
    url = app.config["SQLALCHEMY_DATABASE_URI"]
    assert url.render_as_string().partition("?")[0] == "postgresql+psycopg://user@host/name"


def test_a_database_that_is_silent_is_not_waited_for_without_end():
    address = "postgresql://user@host/name?connect_timeout=2"
    app = create_app(TESTING=True, CALL_CENTER_DATABASE_URL=address)
    query = app.config["SQLALCHEMY_DATABASE_URI"].query
    assert query == {"connect_timeout": "2", "tcp_user_timeout": "10000"}


@pytest.mark.parametrize(("key", "lines"), [(None, 1), ("one of your own", 0)])
def test_without_a_key_for_forms_the_log_says_what_follows(key, lines, monkeypatch, caplog):
    monkeypatch.setenv("RETELL_INBOX_URL", "sqlite://")
    monkeypatch.setenv("RETELL_API_KEY", "key")
    caplog.set_level(logging.WARNING)
    create_app(CALL_CENTER_DATABASE_URL="sqlite://", SECRET_KEY=key)
    assert caplog.text.count("SECRET_KEY is not set") == lines
