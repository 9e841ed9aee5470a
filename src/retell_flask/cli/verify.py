"""``verify``: whether a captured delivery verifies, and if not, why."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime, timedelta, timezone
from typing import BinaryIO, NamedTuple

import click

from ..errors import PayloadError, SignatureError
from ..events import INBOUND_TYPES, parse_event
from ..inbox.store import utc_now
from ..signatures import HEADER, OWN_SCHEME, Scheme, Verified, explain, read_header
from ..state import State
from .common import as_json, for_blueprint, moment, read_body
from .text import age, paragraph, say, say_json, until
from .text import moment as show_moment

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FUNCTION = "a custom function"
_ANSWERED = {*INBOUND_TYPES, _FUNCTION}  # by Retell's own scheme alone
_BARE = "(Bare arguments of a custom function are no event either, and have a URL of their own.)"
_SCHEMES: dict[Scheme, str] = {"timestamped": "Retell's own scheme", "plain": "the plain scheme"}


@click.command("verify", short_help="Say whether a captured delivery verifies, and if not, why.")
@click.option(
    "--header",
    required=True,
    metavar="TEXT",
    help=f"What {HEADER} held; the whole line will do, too.",
)
@click.option(
    "--body-file",
    type=click.File("rb"),
    required=True,
    metavar="FILE",
    help="The exact bytes of the body; - is standard input.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="TEXT",
    help="Try this API key instead of the application's, taken exactly as it is given, with its "
    "white space; give it once for each. It stays in your shell's history. Without this option, "
    "the keys are those of the application's options.",
)
@click.option(
    "--at",
    type=moment,
    metavar="TIME",
    help='Judge the timestamp by this time instead of the clock: "15m" ago, or a date and time '
    "(2026-01-31T14:05; UTC, unless it has an offset).",
)
@as_json
@for_blueprint
def verify(
    state: State,
    *,
    header: str,
    body_file: BinaryIO,
    keys: tuple[str, ...],
    at: datetime | None,
    as_json: bool,
) -> None:
    """Say whether a delivery verifies, with which key and scheme; if it does not, why not.

    \b
      flask retell verify --header "v=1769868300000,d=07024c..." --body-file body.bin
      flask retell verify --header "v=..." --body-file body.bin --at 2026-01-31T14:05

    To capture a delivery in development, have the application keep what comes, and let Retell
    send something:

    \b
      @app.before_request
      def keep():
          if header := request.headers.get("X-Retell-Signature"):
              print(header)
              pathlib.Path("body.bin").write_bytes(request.get_data())

    Keep the bytes: an editor or a clipboard changes them. They are personal data, so delete
    the file afterwards. A delivery is stale some minutes after it was signed: --at goes back to
    when it came.

    It is judged as the application would do it, by the same schemes and tolerance. The exit
    code is 0 if it verifies, and 1 if it does not.
    """
    if not all(keys):
        raise click.BadParameter("It is empty.", param_hint="--key")
    judged_at = at or utc_now()
    finding = _judge(
        state, _value(header), read_body(body_file), tuple(map(os.fsencode, keys)), judged_at
    )
    if as_json:
        say_json(finding._asdict())
    else:
        _print(finding)
    if not finding.verifies:
        click.get_current_context().exit(1)


class _Finding(NamedTuple):
    """``key`` and ``scheme`` are known where they made the digest of exactly this body.

    ``refused_with`` is the status that the application answers, if it does not accept it.
    """

    verifies: bool
    cause: str
    message: str
    key: str | None
    scheme: Scheme | None
    signed_at: datetime | None
    judged_at: datetime
    refused_with: int | None
    refused_because: str | None


def _value(header: str) -> str:
    line = re.fullmatch(rf"\s*{HEADER}\s*:(.*)", header, re.IGNORECASE | re.DOTALL)
    return line[1].strip() if line else header


def _judge(
    state: State, header: str, body: bytes, keys: tuple[bytes, ...], judged_at: datetime
) -> _Finding:
    settings, prefix = state.settings, state.blueprint.config_prefix
    kind, fault = _read_kind(body)
    schemes = OWN_SCHEME if kind in _ANSWERED else settings.signature_schemes
    tolerance_ms, now_ms = settings.tolerance_ms, (judged_at - _EPOCH) // timedelta(milliseconds=1)
    found = explain(
        body,
        header,
        keys or settings.api_key,
        secrets=() if keys else settings.webhook_secret,
        schemes=schemes,
        tolerance_ms=tolerance_ms,
        now_ms=now_ms,
    )
    made = found.verified
    # In the order in which the application looks: header, length, digest, content.
    refused_with, because = None, None
    if not _is_hopeful(header, schemes, tolerance_ms, now_ms):
        refused_with = 401
    elif len(body) > settings.max_body:
        refused_with, because = 413, f"It is longer than {prefix}_MAX_BODY allows."
    elif found.cause != "verified":
        refused_with = 401
    elif fault:
        refused_with, because = 400, fault
    return _Finding(
        verifies=found.cause == "verified",
        cause=found.cause,
        message=found.message.replace("RETELL_", f"{prefix}_"),
        key=made and (f"key {made.key_index + 1} of --key" if keys else _name_key(state, made)),
        scheme=made and made.scheme,
        signed_at=made and _signed_at(made),
        judged_at=judged_at,
        refused_with=refused_with,
        refused_because=because,
    )


def _is_hopeful(header: str, schemes: tuple[Scheme, ...], tolerance_ms: int, now_ms: int) -> bool:
    try:
        read_header(header, schemes=schemes, tolerance_ms=tolerance_ms, now_ms=now_ms)
    except SignatureError:
        return False
    return True


def _read_kind(body: bytes) -> tuple[str, str]:
    """The event's type, or that it is for a function, or why it is neither."""
    try:
        return parse_event(body, quiet=True).type, ""
    except PayloadError as error:
        fault = str(error)
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        return "", fault
    is_function = isinstance(sent, dict) and "event" not in sent and {"name", "args"} <= set(sent)
    return (_FUNCTION, "") if is_function else ("", f"{fault} {_BARE}")


def _name_key(state: State, made: Verified) -> str:
    """Where the key stands in the options, and nothing of itself."""
    prefix, api_keys = state.blueprint.config_prefix, len(state.settings.api_key)
    if made.key_index < api_keys:
        return f"key {made.key_index + 1} of {prefix}_API_KEY"
    return f"key {made.key_index - api_keys + 1} of {prefix}_WEBHOOK_SECRET"


def _signed_at(made: Verified) -> datetime | None:
    if made.timestamp_ms is None:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=made.timestamp_ms)
    except OverflowError:  # after the year 9999
        return None


def _print(finding: _Finding) -> None:
    if finding.verifies:
        say("It verifies.")
    else:
        say(f"It does not verify ({finding.cause}), and is refused with {finding.refused_with}.")
        say(paragraph(finding.message, "  "))
    if finding.key and finding.scheme:
        say(f"  Signed with {finding.key}, by {_SCHEMES[finding.scheme]}.")
    if finding.signed_at:
        distance = _distance(finding.signed_at, finding.judged_at)
        say(f"  Signed {show_moment(finding.signed_at)} UTC, {distance}.")
    if finding.cause == "stale" and finding.signed_at:
        say(f"  To judge it by when it came: --at {finding.signed_at:%Y-%m-%dT%H:%M:%S}")
    if finding.refused_because:
        say(f"All the same it is refused with {finding.refused_with}:")
        say(paragraph(finding.refused_because, "  "))


def _distance(time: datetime, now: datetime) -> str:
    return until(time, now) if time > now else f"{age(now - time)} ago"
