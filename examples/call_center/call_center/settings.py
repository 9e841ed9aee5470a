"""The options, read from the environment. What is not set is not used."""

from __future__ import annotations

import os
from urllib.parse import quote

from flask import Flask, current_app
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from retell_flask import ConfigurationError

# Without these, a host that is gone keeps the threads waiting that Retell's webhooks need. In the
# URL, others can be set.
_TIME_OUTS = {"connect_timeout": "5", "tcp_user_timeout": "10000"}  # s, ms
_KNOWN = "It begins with sqlite:// or postgresql://."

# Name and default. Each service is used once its token is there.
OPTIONS: dict[str, str | None] = {
    "CALL_CENTER_DATABASE_URL": "sqlite:///call_center.sqlite3",
    "CALL_CENTER_PUBLIC_URL": "http://127.0.0.1:5000",  # for links to a call's page
    "CALL_CENTER_PROXIES": "0",  # in front of us, each of which adds to X-Forwarded-For
    "CALL_CENTER_USER": "agent",
    "CALL_CENTER_PASSWORD": None,
    "SECRET_KEY": None,
    "RETELL_API_TIMEOUT": "10s",  # somebody waits for it, on the page of outbound calls
    "OPENAI_API_KEY": None,
    "OPENAI_BASE_URL": None,  # of any compatible server, such as one of your own
    "OPENAI_MODEL": "gpt-5-mini",
    "TODOIST_API_TOKEN": None,
    "TODOIST_PROJECT_ID": None,
    "SLACK_BOT_TOKEN": None,
    "SLACK_CHANNEL": "#customer-escalations",
    "HUBSPOT_ACCESS_TOKEN": None,
    # Where the services are, for tests.
    "SLACK_URL": "https://slack.com/api/",
    "HUBSPOT_URL": "https://api.hubapi.com",
}


def read_settings(app: Flask) -> None:
    """Take each option from the environment, unless ``app.config`` has it."""
    for name, default in OPTIONS.items():
        if app.config.get(name) is None:
            app.config[name] = os.environ.get(name) or default
    app.config["SQLALCHEMY_DATABASE_URI"] = _database(app.config["CALL_CENTER_DATABASE_URL"])
    if not str(app.config["CALL_CENTER_PROXIES"]).isdecimal():
        raise ConfigurationError(
            "CALL_CENTER_PROXIES is no number: how many proxies are in front?"
        )


def _database(address: str) -> URL:
    """The address of a PostgreSQL database is written as hosts write it."""
    try:
        url = make_url(address)
    except ArgumentError:
        raise ConfigurationError(f"CALL_CENTER_DATABASE_URL is no URL. {_KNOWN}") from None
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg", query={**_TIME_OUTS, **url.query})
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigurationError(
            f"CALL_CENTER_DATABASE_URL is of another kind of database. {_KNOWN}"
        )
    return url


def page_of(call_id: str) -> str:
    """The address of a call's page."""
    return f"{current_app.config['CALL_CENTER_PUBLIC_URL'].rstrip('/')}/calls/{quote(call_id, '')}"
