"""The hook by itself; ``test_lifecycle.py`` runs it in gunicorn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from retell_flask import RetellBlueprint
from retell_flask.gunicorn import post_worker_init, start
from support import make_app


@pytest.mark.parametrize("wrap", [lambda app: app, ProxyFix, lambda app: app.wsgi_app])
def test_the_application_is_found_through_its_middleware(wrap: Any, app: Flask) -> None:
    state = app.extensions["retell"]["retell"]
    assert state._dispatcher is None
    post_worker_init(SimpleNamespace(wsgi=wrap(app)))
    assert state._dispatcher is not None


def test_all_blueprints_are_started() -> None:
    app = make_app(RetellBlueprint(), RetellBlueprint("other", url_prefix="/other"))
    start(SimpleNamespace(wsgi=app))
    assert all(state._dispatcher for state in app.extensions["retell"].values())


def test_another_application_is_said(caplog: pytest.LogCaptureFixture) -> None:
    start(SimpleNamespace(wsgi=lambda environ, start_response: []))
    assert "deliveries start with the first request" in caplog.text


def test_an_application_without_a_blueprint_is_left_alone() -> None:
    start(SimpleNamespace(wsgi=Flask("plain")))
