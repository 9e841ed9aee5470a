from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from databases import KINDS, Clock, make_inbox, open_kind
from retell_flask.inbox.database import Database
from retell_flask.inbox.store import Inbox


@pytest.fixture(params=KINDS)
def database(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql_url: Callable[[], str]
) -> Iterator[Database]:
    database = open_kind(request.param, tmp_path, postgresql_url)
    yield database
    database.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(database: Database, clock: Clock) -> Callable[..., Inbox]:
    def make(**options: Any) -> Inbox:
        return make_inbox(database, clock, **options)

    return make


@pytest.fixture
def inbox(make: Callable[..., Inbox]) -> Inbox:
    return make()
