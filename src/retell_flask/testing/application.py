"""The blueprint that a test client is for, as it is on one application."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from flask import Flask

from ..blueprint import RetellBlueprint
from ..errors import ConfigurationError
from ..identity import Receiver, identity_of
from ..inbox.sqlite import FileDatabase
from ..signals import SIGNALS
from ..signatures import Scheme, sign, sign_plain
from ..state import State
from ..values import Place


def find_state(app: Flask, blueprint: RetellBlueprint | str | None) -> State:
    """The state of a blueprint, or of the only one. Raises ``ConfigurationError``."""
    states: dict[str, State] = app.extensions.get("retell", {})
    if not states:
        raise ConfigurationError(
            "No RetellBlueprint is registered on this app. Call app.register_blueprint first."
        )
    name = getattr(blueprint, "name", blueprint)
    if name is None and len(states) == 1:
        return next(iter(states.values()))
    if name not in states:
        raise ConfigurationError(
            f"Say which blueprint: RetellTestClient(app, name), of {', '.join(states)}."
        )
    return states[name]


def check_testing(state: State) -> None:
    """Raise ``RuntimeError`` where the inbox would be the one that its owner works with."""
    if not state.app.testing:
        raise RuntimeError(
            "RetellTestClient is for tests, and TESTING is off: set app.testing = True right "
            "after the app is made. Without it the inbox would be the one that you work with."
        )
    inbox, is_default = state.inbox, state.settings.inbox_url is Place.INSTANCE
    if is_default and inbox is not None and isinstance(inbox.database, FileDatabase):
        raise RuntimeError(
            "TESTING was set after the inbox had been opened, which is thus the one that you work "
            "with: set app.testing = True right after the app is made, before the first request."
        )


def check_connected(state: State, receivers: Iterable[Receiver | str]) -> None:
    """Raise ``ValueError`` for a receiver that is connected to no signal."""
    pairs = [pair for signal in SIGNALS.values() for pair in state.invoker.all_hearing(signal)]
    known = sorted({identity for identity, _ in pairs})
    for receiver in receivers:
        if not any(receiver in pair for pair in pairs):
            name = receiver if isinstance(receiver, str) else identity_of(receiver)
            close = difflib.get_close_matches(name, known, 1)
            guess = f" Is {close[0]!r} meant?" if close else ""
            raise ValueError(
                f"{name!r} is connected to no signal.{guess} Connected: "
                f"{', '.join(known) or 'none'}."
            )


def make_header(
    state: State, body: bytes, key: str | bytes | None, scheme: Scheme, timestamp_ms: int | None
) -> str:
    """The signature of a body, by default under the application's own key."""
    key = key or state.settings.signing_key(scheme)
    if key is None:
        raise ConfigurationError(
            f"{state.blueprint.config_prefix}_WEBHOOK_SECRET is not set, and the plain scheme is "
            "checked against nothing else: set it, or give a key."
        )
    return (
        sign_plain(body, key) if scheme == "plain" else sign(body, key, timestamp_ms=timestamp_ms)
    )
