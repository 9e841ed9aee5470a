"""Each service runs for a test, and the application is set to use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
from flask import Flask

from retell_flask.testing import RetellTestClient

from .attempts import Attempts
from .hubspot import HubSpot
from .openai import OpenAI
from .service import Service
from .slack import Slack
from .todoist import Todoist

Kind = TypeVar("Kind", bound=Service)


@contextmanager
def running(kind: type[Kind]) -> Iterator[Kind]:
    service = kind()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture
def openai(app: Flask) -> Iterator[OpenAI]:
    with running(OpenAI) as service:
        app.config.update(OPENAI_API_KEY=service.token, OPENAI_BASE_URL=service.base_url)
        yield service


@pytest.fixture
def todoist(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Todoist]:
    with running(Todoist) as service:
        # The SDK has no option for it.
        url = f"{service.url}/api/v1"
        monkeypatch.setattr("todoist_api_python._core.endpoints.API_URL", url)
        app.config.update(TODOIST_API_TOKEN=service.token)
        yield service


@pytest.fixture
def slack(app: Flask) -> Iterator[Slack]:
    with running(Slack) as service:
        app.config.update(SLACK_BOT_TOKEN=service.token, SLACK_URL=f"{service.url}/api/")
        yield service


@pytest.fixture
def hubspot(app: Flask) -> Iterator[HubSpot]:
    with running(HubSpot) as service:
        app.config.update(HUBSPOT_ACCESS_TOKEN=service.token, HUBSPOT_URL=service.url)
        yield service


@pytest.fixture
def attempts(
    app: Flask, retell_client: RetellTestClient, caplog: pytest.LogCaptureFixture
) -> Attempts:
    return Attempts(app, retell_client, caplog)
