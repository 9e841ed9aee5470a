"""What the models have in common."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec
from msgspec.structs import force_setattr

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A frozen view of a JSON object of Retell's; unknown keys are ignored.

    Every field is None where Retell left it out, sent null, or sent another type than
    documented (which is logged). The content is personal data, so ``repr`` leaves it out.
    """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return []


def moment(milliseconds: int | None) -> datetime | None:
    """Unix milliseconds as an aware UTC datetime; None beyond the years 1 to 9999."""
    if milliseconds is None:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def span(milliseconds: int | None) -> timedelta | None:
    """Milliseconds as a timedelta; None beyond its range."""
    if milliseconds is None:
        return None
    try:
        return timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def unite(model: Model, name: str, older_name: str) -> None:
    """Give two fields that mean the same the value that either of them has.

    Only for a model that nobody else has seen yet.
    """
    value, older_value = getattr(model, name), getattr(model, older_name)
    if value is None:
        force_setattr(model, name, older_value)
    elif older_value != value:
        force_setattr(model, older_name, value)
