"""Which database an inbox is in, and whether it can be there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ..errors import ConfigurationError, InboxError
from ..settings import Settings
from ..values import Place
from . import sqlite
from .database import Database, connect_to_server
from .statements import DIALECTS

_logger = logging.getLogger(__name__)

EngineSource = Engine | Callable[[], Engine]


def open_database(settings: Settings, instance_path: str, *, testing: bool) -> Database:
    """The database that the options name. Connects with the first use."""
    url = settings.inbox_url
    if isinstance(url, URL) and url.get_backend_name() != "sqlite":
        return connect_to_server(url)
    if is_in_memory(url) or (url is Place.INSTANCE and testing):
        if not testing:
            _logger.warning(
                "The inbox is in memory: it ends with this process, and other processes have "
                "inboxes of their own"
            )
        return sqlite.MemoryDatabase()
    return sqlite.FileDatabase(sqlite_path(url, instance_path), settings.sqlite_synchronous)


def use_engine(engine: EngineSource) -> Database:
    """The host's own engine, or what its callable returns, as it is."""

    def find() -> Engine:
        try:
            found = engine() if callable(engine) else engine
            check_engine(found)
        except ConfigurationError as error:
            raise InboxError(str(error)) from None
        except Exception as error:  # whose text may hold a password
            name = type(error).__name__
            raise InboxError(f"The blueprint's engine is not to be had: {name}") from None
        return found

    return Database(find)


def check_engine(engine: object) -> None:
    """Raise ``ConfigurationError`` for what is no engine, or one for another database."""
    if not isinstance(engine, Engine):
        if callable(engine):
            return
        raise ConfigurationError(
            "RetellBlueprint takes as engine a SQLAlchemy Engine, or a callable that returns "
            "one, such as engine=lambda: db.engine."
        )
    if engine.dialect.name not in DIALECTS:
        raise ConfigurationError(
            f"RetellBlueprint's engine is for {engine.dialect.name}, and an inbox can be in "
            "SQLite or PostgreSQL."
        )
    if engine.dialect.name == "sqlite":
        _check_version(getattr(engine.dialect, "dbapi", None) or sqlite.sqlite_module())


def _check_version(module: Any) -> None:
    if module.sqlite_version_info < sqlite.OLDEST:
        raise ConfigurationError(
            f"SQLite {module.sqlite_version} is too old for an inbox. "
            "pip install 'retell-flask[sqlite]' brings a newer one."
        )


def is_in_memory(url: URL | Place) -> bool:
    """Whether a URL names no file."""
    return isinstance(url, URL) and url.database in (None, "", ":memory:")


def sqlite_path(url: URL | Place, instance_path: str) -> Path:
    """The file of a SQLite inbox; relative paths are below the instance path."""
    name = url.value if isinstance(url, Place) else str(url.database)
    return Path(instance_path, name)


def check_sqlite(
    settings: Settings, prefix: str, config: Mapping[str, Any], instance_path: str
) -> None:
    """Raise ``ConfigurationError`` where SQLite cannot be used as the options say."""
    url = settings.inbox_url
    if url is Place.NONE or (isinstance(url, URL) and url.get_backend_name() != "sqlite"):
        return
    _check_version(sqlite.sqlite_module())
    if is_in_memory(url):
        return
    try:
        path = sqlite_path(url, instance_path).resolve()
    except (OSError, RuntimeError, ValueError):  # NUL, surrogates, links in a circle
        raise ConfigurationError(f"{prefix}_INBOX_URL names no file that could be.") from None
    if path in {sqlite_path(each, instance_path).resolve() for each in _hosts_urls(config)}:
        raise ConfigurationError(
            f"{prefix}_INBOX_URL names the SQLite file of this application's own database. "
            "An inbox in SQLite needs a file of its own: leave the option out for one in the "
            "instance path."
        )


def _hosts_urls(config: Mapping[str, Any]) -> Iterable[URL]:
    """The SQLite databases that Flask-SQLAlchemy was told of."""
    binds = config.get("SQLALCHEMY_BINDS")
    given = [config.get("SQLALCHEMY_DATABASE_URI")]
    given += binds.values() if isinstance(binds, Mapping) else []
    for each in given:
        if isinstance(each, Mapping):
            each = each.get("url")
        if not isinstance(each, (str, URL)):
            continue
        try:
            url = make_url(each)
        except (ArgumentError, ValueError, TypeError):
            continue
        if url.get_backend_name() == "sqlite" and not is_in_memory(url):
            yield url
