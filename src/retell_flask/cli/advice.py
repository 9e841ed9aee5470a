"""What several commands say about the receivers, and about who runs them."""

from __future__ import annotations

import os
import shlex

import click
from flask.cli import ScriptInfo

from ..dispatch.inline import Direct, Inline
from ..dispatch.threads import Threads
from ..inbox.entry import Delivery
from ..signals import SIGNALS
from ..state import State
from .common import all_states

Waiting = dict[tuple[str, str], int]


def connected_receivers(state: State) -> dict[str, list[str]]:
    """The identities of who hears each signal in this process, in order of connection."""
    return {
        name: [identity for identity, _ in state.invoker.all_hearing(signal)]
        for name, signal in SIGNALS.items()
    }


def is_connected(state: State, delivery: Delivery) -> bool:
    """Whether this process has the receiver of a delivery."""
    signal = SIGNALS.get(delivery.signal)
    hearing = state.invoker.all_hearing(signal) if signal is not None else []
    return delivery.receiver in dict(hearing)


def not_connected(connected: dict[str, list[str]], *waiting: Waiting) -> list[tuple[str, str]]:
    """Signal and receiver of what deliveries are kept for, and what this process lacks."""
    found: set[tuple[str, str]] = set().union(*waiting)
    return sorted(key for key in found if key[1] not in connected.get(key[0], ()))


def command(arguments: str, state: State) -> str:
    """A command to run, with ``--app`` and ``--blueprint`` where they are needed."""
    chosen = f" --blueprint {shlex.quote(state.blueprint.name)}" if len(all_states()) > 1 else ""
    return f"flask {_app()}retell {arguments}{chosen}"


def _app() -> str:
    """The application as this command was given it, if it will have to be given again."""
    context = click.get_current_context(silent=True)
    info = None if context is None else context.find_object(ScriptInfo)
    path = None if info is None else info.app_import_path
    return "" if not path or os.environ.get("FLASK_APP") else f"--app {shlex.quote(path)} "


def renaming(receiver: str, state: State) -> str:
    """The command for a receiver that is no longer connected under its name."""
    return command(f"replay --receiver {shlex.quote(receiver)} --as NEW", state)


def describe_dispatch(state: State) -> str:
    """Who runs the receivers."""
    dispatcher = state.dispatcher
    if state.settings.dispatch == "celery":
        queue = state.settings.celery_queue
        return f"Celery's workers, through {f'the queue {queue}' if queue else 'its own queue'}"
    if isinstance(dispatcher, Threads):
        workers = state.settings.workers
        return f"threads, {workers or 'none'} in each process of the application"
    return next(text for kind, text in _INLINE.items() if isinstance(dispatcher, kind))


_INLINE = {Inline: "inline, in the request", Direct: "inline, in the request, without records"}


def how_it_runs(state: State) -> str:
    """Who runs what is pending; where nobody does, ``run_once`` is the command."""
    if state.settings.dispatch == "celery":
        return (
            "Celery's workers take up what is pending, as a sweep tells them, within seconds. "
            f"Where nothing sweeps (Celery's beat, or {command('sweep', state)}), or no worker "
            "runs:"
        )
    if not isinstance(state.dispatcher, Threads):
        return "With inline dispatch nothing takes up what is pending by itself. Run:"
    if not state.settings.workers:
        prefix = state.blueprint.config_prefix
        return (
            f"{prefix}_WORKERS is 0, so a flask retell worker takes up what is pending, within "
            "seconds. Where none runs:"
        )
    return (
        "The threads of a running application take up what is pending, within seconds; they "
        "start with its first request. Where none runs:"
    )


def run_once(state: State) -> str:
    """The command that runs what is due."""
    return command("worker --once", state)
