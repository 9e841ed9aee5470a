"""Calls that we make: the page, and what it shares with the command."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Iterable

from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from sqlalchemy.exc import SQLAlchemyError
from wtforms import Field, HiddenField, StringField, TextAreaField, ValidationError
from wtforms.validators import UUID, InputRequired, Regexp

from retell_flask import ApiError, ConfigurationError, KeyRefused, Unreachable

from . import records
from .handlers import retell
from .models import db

_logger = logging.getLogger(__name__)

outbound = Blueprint("outbound", __name__)

E164 = r"\+[1-9][0-9]{1,14}\Z"
HOW_TO_WRITE_A_NUMBER = "Write the number with + and the country code, such as +14155550142."


def start_call(
    from_number: str,
    to_number: str,
    *,
    agent_id: str | None = None,
    variables: dict[str, str] | None = None,
    idempotency_key: str | None = None,
) -> str:
    """Have an agent call, note it, and return the call's id. The phone really rings.

    Raises ``ValueError`` for a number that is not in E.164 form, and ``ApiError``. If it cannot be
    noted, that is left to ``call_started``: the phone rings already.
    """
    call = retell.client.create_phone_call(
        from_number,
        to_number,
        override_agent_id=agent_id or None,
        retell_llm_dynamic_variables=variables or None,
        idempotency_key=idempotency_key,
    )
    try:
        planned = {
            "direction": "outbound",
            "from_number": from_number,
            "to_number": to_number,
            "agent_id": call.agent_id or agent_id or None,
            "agent_name": call.agent_name,
        }
        records.save(call.call_id, records.Told([], planned))  # every event knows better
    except SQLAlchemyError as error:
        db.session.rollback()
        _logger.error("The call %a was started and not noted", call.call_id, exc_info=error)
    return call.call_id


def in_words(error: ApiError) -> str:
    """Why there is no call, or may be none."""
    if isinstance(error, Unreachable) and error.may_have_arrived:
        return f"It is not known whether Retell started the call. {error}"
    remedy = " See RETELL_API_KEY." if isinstance(error, KeyRefused) else ""
    return f"Retell did not start the call. {error}{remedy}"


def parse_variables(lines: Iterable[str]) -> dict[str, str]:
    """``name=value`` of each line. Raises ``ValueError``."""
    variables = {}
    for line in filter(str.strip, lines):
        name, equals, value = line.partition("=")
        if not (equals and name.strip()):
            raise ValueError(f"“{line.strip()}” is not name=value.")
        variables[name.strip()] = value.strip()
    return variables


def compact(number: str | None) -> str | None:
    """Without what people write, and address books put, between the digits."""
    return number and re.sub(r"[\s().\u2000-\u206f-]", "", number)


def _number_field(label: str, description: str) -> StringField:
    validators = [InputRequired("Which number?"), Regexp(E164, message=HOW_TO_WRITE_A_NUMBER)]
    return StringField(label, validators, filters=[compact], description=description)


class CallForm(FlaskForm):
    """Whom to call, from which number, by which agent."""

    from_number = _number_field("From", "One of your numbers at Retell.")
    to_number = _number_field("To", "Whom to call, such as +14155550142.")
    agent_id = StringField(
        "Agent ID (optional)",
        filters=[lambda text: text and text.strip()],
        description="Instead of the agent that the number is bound to.",
    )
    variables = TextAreaField(
        "Variables (optional)",
        filters=[lambda text: text or ""],
        description="For the agent's prompt, one name=value on each line.",
    )
    form_id = HiddenField(default=lambda: str(uuid.uuid4()), validators=[UUID()])

    def validate_variables(self, field: Field) -> None:
        try:
            parse_variables(field.data.splitlines())
        except ValueError as error:
            raise ValidationError(str(error)) from None

    @property
    def idempotency_key(self) -> str:
        """Equal for what is sent twice; another once something was changed in the form."""
        fields = (self.from_number, self.to_number, self.agent_id, self.variables)
        content = json.dumps([field.data for field in fields])
        return uuid.uuid5(uuid.UUID(self.form_id.data), content).hex


@outbound.route("/outbound", methods=["GET", "POST"])
def new_call() -> ResponseReturnValue:
    form, problem = CallForm(), None
    if form.validate_on_submit():
        try:
            call_id = start_call(
                form.from_number.data,
                form.to_number.data,
                agent_id=form.agent_id.data,
                variables=parse_variables(form.variables.data.splitlines()),
                idempotency_key=form.idempotency_key,
            )
        except ApiError as error:
            problem = in_words(error)
        except ConfigurationError as error:
            problem = error.message
        else:
            return redirect(url_for("pages.call", call_id=call_id), 303)
    status = 502 if problem else 422 if form.errors else 200
    return render_template("outbound.html", form=form, problem=problem), status
