from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any
from weakref import ref

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings

from databases import postgresql
from retell_flask import RetellBlueprint
from retell_flask.signals import SIGNALS
from retell_flask.testing import Capture, RetellTestClient, capture
from retellapi import RetellApi, retell_api
from support import Post, make_app

# Machines are slow at times, and that is no fault of what is tested.
settings.register_profile(
    "here",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("here")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Lone surrogates, which some tests log, cannot cross to the process that prints reports."""
    return _printable((yield))


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _printable(each) for name, each in value.items()}
    return type(value)(map(_printable, value)) if isinstance(value, (list, tuple)) else value


@pytest.fixture(autouse=True)
def no_options_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("RETELL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def nobody_stays_connected() -> Iterator[None]:
    before = {signal: set(signal.receivers) for signal in SIGNALS.values()}
    yield
    for signal, known in before.items():
        for key in set(signal.receivers) - known:
            receiver = signal.receivers[key]
            signal.disconnect(receiver() if isinstance(receiver, ref) else receiver)


@pytest.fixture
def retell() -> RetellBlueprint:
    return RetellBlueprint()


@pytest.fixture
def app(retell: RetellBlueprint) -> Flask:
    return make_app(retell)


@pytest.fixture
def post(retell_client: RetellTestClient) -> Post:
    return retell_client.post


@pytest.fixture
def captured(retell: RetellBlueprint) -> Iterator[Capture]:
    """What the blueprint signals, whichever application it is on."""
    with capture(sender=retell) as captured:
        yield captured


@pytest.fixture
def api() -> Iterator[RetellApi]:
    with retell_api() as api:
        yield api


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
