"""``flask retell …``: a look at the inbox, and a hand on it."""

from __future__ import annotations

from flask import Flask

from . import (
    backfill,
    call,
    cleaning,
    config,
    doctor,
    events,
    functions,
    overview,
    preparing,
    rehearse,
    replay,
    send,
    show,
    sweep,
    verify,
    worker,
)
from .common import RetellGroup

_HELP = """Look after Retell's webhooks: what came, who handled it, and what failed.

Events are kept in the inbox and delivered to the receivers connected to their signals, each
with a record of its own. An event is pending until every receiver is done with it, and dead
when one of them failed for the last time.

\b
  flask retell stats                      how it stands
  flask retell events --status dead       what failed
  flask retell show call_0123             why
  flask retell replay                     try it again, once that is mended

Times are in UTC. Nothing that is printed holds a key, and no transcript but by show --body, or
in what a receiver raised.
"""

_COMMANDS = (
    backfill.backfill,
    call.call,
    cleaning.forget,
    cleaning.prune,
    config.config,
    doctor.doctor,
    events.events,
    functions.functions,
    overview.receivers,
    overview.stats,
    preparing.init_db,
    rehearse.rehearse,
    replay.replay,
    send.send,
    show.show,
    sweep.sweep,
    verify.verify,
    worker.worker,
)

retell: RetellGroup = RetellGroup("retell", help=_HELP, short_help="Look after Retell's webhooks.")
for _command in _COMMANDS:
    retell.add_command(_command)


def add_commands(app: Flask) -> None:
    """Add the group ``retell`` to the app's commands."""
    app.cli.add_command(retell)
