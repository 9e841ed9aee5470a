from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from databases import KINDS, Clock, make_inbox, open_kind, postgresql
from retell_flask.inbox.database import Database
from retell_flask.inbox.store import Inbox


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[Callable[[], str]]:
    """Made at the first call: most of a run may be without a server."""
    with ExitStack() as stack:
        made: list[str] = []

        def url() -> str:
            if not made:
                made.append(stack.enter_context(postgresql()))
            return made[0]

        yield url


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
