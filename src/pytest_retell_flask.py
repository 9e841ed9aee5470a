"""The pytest plugin of retell-flask: fixtures for an application that has an ``app`` fixture.

It is loaded by every run of pytest in an environment that has retell-flask, so nothing of
retell-flask, Flask or SQLAlchemy is imported before a fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flask import Flask

    from retell_flask.testing import Capture, InboxView, RetellTestClient

TEST_KEY = "key_for_tests"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Set ``RETELL_API_KEY`` where it is unset, since no app can be made without one.

    Before any conftest.py is loaded, which may make the app.
    """
    if not os.environ.get("RETELL_API_KEY"):
        os.environ["RETELL_API_KEY"] = TEST_KEY
        early_config.add_cleanup(_unset_key)


def _unset_key() -> None:
    os.environ.pop("RETELL_API_KEY", None)


@pytest.fixture
def retell_client(app: Flask) -> Iterator[RetellTestClient]:
    """Sends your ``app`` what Retell would: ``retell_client.send("call_ended")``.

    ``app`` is a fixture of yours that returns the application, with ``TESTING`` on.
    """
    from retell_flask.testing import RetellTestClient

    with RetellTestClient(app) as client:
        yield client


@pytest.fixture
def retell_inbox(retell_client: RetellTestClient) -> InboxView:
    """What came into the inbox in this test: ``retell_inbox.statuses()``."""
    return retell_client.inbox


@pytest.fixture
def retell_events(retell_client: RetellTestClient) -> Iterator[Capture]:
    """What was signalled in this test: ``retell_events.of("call_ended")``."""
    with retell_client.capture() as captured:
        yield captured
