"""``flask call-center``: calls that we make, and those that are to be forgotten; the database."""

from __future__ import annotations

import re

import click
from flask.cli import AppGroup
from sqlalchemy.exc import SQLAlchemyError

from retell_flask import ApiError, ConfigurationError

from .models import Call, create_tables, db, delete_call
from .outbound import E164, HOW_TO_WRITE_A_NUMBER, compact, in_words, parse_variables, start_call
from .settings import page_of

commands = AppGroup("call-center", help="Calls that we make or forget, and the database.")


class Number(click.ParamType):
    """A telephone number, as people write it."""

    name = "number"

    def convert(
        self, value: str, parameter: click.Parameter | None, context: click.Context | None
    ) -> str:
        number = compact(value) or ""
        if not re.match(E164, number):
            self.fail(HOW_TO_WRITE_A_NUMBER, parameter, context)
        return number


@commands.command("call")
@click.argument("from_number", metavar="FROM", type=Number())
@click.argument("to_number", metavar="TO", type=Number())
@click.option("--agent", metavar="ID", help="Instead of the agent that FROM is bound to.")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="For the prompt.")
def call(from_number: str, to_number: str, agent: str | None, variables: tuple[str, ...]) -> None:
    """Have an agent call TO from FROM, a number of yours at Retell, and show where it is seen."""
    try:
        call_id = start_call(
            from_number, to_number, agent_id=agent, variables=parse_variables(variables)
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except ApiError as error:
        raise click.ClickException(in_words(error)) from None
    click.echo(page_of(call_id))


@commands.command("forget")
@click.argument("call_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(call_id: str, yes: bool) -> None:
    """Delete a call, its tasks and the notes of what was sent.

    First have the inbox forget it, by flask retell forget, or an event that is still to be
    delivered brings it back. What other services were sent is theirs: it is listed.
    """
    call = db.session.get(Call, call_id)
    if call is None:
        raise click.ClickException(f"There is no call {call_id} here.")
    if not yes:
        click.confirm(f"Delete the call {call_id} for good?", abort=True)
    sent = [each for each in call.sendings if each.worked and each.service != "log"]
    delete_call(call_id)
    click.echo("It is deleted here.")
    for sending in sent:
        made = f", its id is {sending.detail}" if sending.detail else ""
        click.echo(f"{sending.service} was sent {sending.what}{made}")


@commands.command("init-db")
def init_db() -> None:
    """Make the tables that are not there; with each release."""
    make_tables()
    click.echo(f"The tables are there, in {db.engine.url.render_as_string()}")


def make_tables() -> None:
    """Make them, or raise ``ConfigurationError`` with what the database said."""
    try:
        create_tables()
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip()
        raise ConfigurationError(
            f"CALL_CENTER_DATABASE_URL: no tables could be made. {said}"
        ) from error
