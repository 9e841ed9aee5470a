"""``init-db``: the tables."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..state import State
from .common import all_states, find_state
from .place import describe_place
from .text import say


@click.command("init-db", short_help="Make the inbox's tables.")
@click.option("--blueprint", metavar="NAME", help="Only for this blueprint, of several.")
@with_appcontext
def init_db(blueprint: str | None) -> None:
    """Make the inbox's tables, for every blueprint of the application.

    On PostgreSQL run it with each release, before the application starts; where they are
    there already nothing happens. A SQLite file is also made by itself, with its first use.

    \b
      flask retell init-db
    """
    states = all_states().values() if blueprint is None else [find_state(blueprint)]
    for state in states:
        say(f"{state.blueprint.name}: {_prepare(state)}")


def _prepare(state: State) -> str:
    if state.inbox is None:
        return f"no inbox ({state.blueprint.config_prefix}_INBOX_URL is none), nothing to make."
    made = state.inbox.database.init()
    where = describe_place(state)
    return f"the tables were {'made' if made else 'there already'}, in {where}."
