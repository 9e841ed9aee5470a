"""``functions``: what an agent can call, and what Retell's dashboard wants to know of it."""

from __future__ import annotations

import json
from typing import Any

import click

from ..functions.definition import CustomFunction
from ..state import State
from .common import as_json, for_blueprint
from .text import plain, say, say_json, table, terminal_width


@click.command("functions", short_help="Show the custom functions, and their schemas for Retell.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--schema", is_flag=True, help="Print what to paste into Retell's dashboard.")
@as_json
@for_blueprint
def functions(state: State, *, names: tuple[str, ...], schema: bool, as_json: bool) -> None:
    """Show the custom functions that this application answers, all or those that are named.

    \b
      flask retell functions
      flask retell functions --schema book_table
      flask retell functions --json

    In Retell's dashboard, add a custom function to the agent for each: name, description and
    URL as they are shown here, and the schema as its parameters. The method is POST, and
    "Payload: args only" stays off, so that a function learns of its call and a repeat is known
    as one. With --json there is a list of tools as Retell's API takes them; its URLs, too,
    begin with a host that you fill in.
    """
    found = _select(state, names)
    if as_json:
        say_json([_tool(state, each) for each in found])
    elif not found:
        say("No custom function is connected here. Is the module that they are in imported?")
    elif schema:
        say("\n\n".join(_described(state, each) for each in found))
    else:
        rows = [(each.name, _path(state, each), _summary(each)) for each in found]
        say(*table(("NAME", "PATH", "WHAT IT DOES"), rows, flexible=(2,), width=terminal_width()))


def _select(state: State, names: tuple[str, ...]) -> list[CustomFunction]:
    known = {each.name: each for each in state.blueprint.functions}
    for name in names:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise click.UsageError(f"There is no function {plain(name)!r}. Connected: {listed}.")
    return [known[name] for name in names] if names else list(known.values())


def _path(state: State, function: CustomFunction) -> str:
    return f"{state.url_prefix.rstrip('/')}/functions/{function.name}"


def _url(state: State, function: CustomFunction) -> str:
    return f"https://<your host>{_path(state, function)}"


def _summary(function: CustomFunction) -> str:
    return plain(function.description.partition("\n")[0]) or "(no description)"


def _tool(state: State, function: CustomFunction) -> dict[str, Any]:
    return {
        "type": "custom",
        "name": function.name,
        "description": function.description,
        "url": _url(state, function),
        "method": "POST",
        "parameters": function.parameters.schema,
    }


def _described(state: State, function: CustomFunction) -> str:
    lines = [
        f"Name         {function.name}",
        f"URL          {_url(state, function)}",
        "Description",
        *(f"  {each}".rstrip() for each in function.description.splitlines()),
        "Parameters",
        json.dumps(function.parameters.schema, indent=2, ensure_ascii=False),
    ]
    return "\n".join(lines)
