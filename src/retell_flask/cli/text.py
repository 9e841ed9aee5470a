"""What commands print: tables, times and sizes, and nothing that a terminal would obey."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import click

_GAP = "  "
_NARROWEST = 12
_WIDEST_PARAGRAPH = 88
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
_SIZES = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def plain(text: str, longest: int = 200) -> str:
    """A foreign text on one line; what does not print is spelt out, escape sequences too."""
    cut = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        for character in cut
    )


def say(*lines: str) -> None:
    """Print lines, whatever the terminal's encoding lacks."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    for line in lines:
        click.echo(line.encode(encoding, "backslashreplace").decode(encoding))


def say_json(value: Any) -> None:
    """Print one JSON value on one line."""
    click.echo(json.dumps(value, default=_for_json))


def _for_json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def paragraph(text: str, indent: str = "") -> str:
    """A text wrapped to the terminal's width."""
    width = min(terminal_width() or _WIDEST_PARAGRAPH, _WIDEST_PARAGRAPH)
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def terminal_width() -> int | None:
    """None where a file or a pipe takes the output, as wide as it is."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_terminal else None


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    flexible: Iterable[int] = (),
    width: int | None = None,
) -> list[str]:
    """A line for the header and one for each row, with numbers to the right.

    The columns of ``flexible`` are cut, in this order, where ``width`` is too narrow.
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    excess = 0 if width is None else sum(widths) + len(_GAP) * (len(widths) - 1) - width
    for index in flexible:
        cut = min(max(0, excess), max(0, widths[index] - _NARROWEST))
        widths[index] -= cut
        excess -= cut
    aligned = [_align(column, size) for column, size in zip(columns, widths, strict=True)]
    return [_GAP.join(line).rstrip() for line in zip(*aligned, strict=True)]


def _align(column: Sequence[str], width: int) -> list[str]:
    cells = [cell if len(cell) <= width else f"{cell[: width - 2]}.." for cell in column]
    is_numeric = not "".join(cells[1:]).replace(",", "").strip("0123456789")
    return [cell.rjust(width) if is_numeric else cell.ljust(width) for cell in cells]


def moment(time: datetime) -> str:
    """A time of day and date, in UTC like all times here."""
    return f"{time:%Y-%m-%d %H:%M:%S}"


def age(span: timedelta) -> str:
    """Roughly how long, such as ``2h 5m``."""
    left = max(0, int(span.total_seconds()))
    for (unit, size), (smaller_unit, smaller) in pairwise(_UNITS):
        if left >= size:
            rest = left % size // smaller
            return f"{left // size}{unit}" + (f" {rest}{smaller_unit}" if rest else "")
    return f"{left}s"


def until(time: datetime, now: datetime) -> str:
    """How far ahead a time is, such as ``in 2h 5m``."""
    return "now" if time <= now else f"in {age(time - now)}"


def took(span: timedelta) -> str:
    """How long a receiver ran."""
    seconds = max(0.0, span.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else age(span)


def duration(span: timedelta) -> str:
    """The exact length, as options take it: ``90s``, ``5m``, ``30d``."""
    for unit, seconds in _UNITS:
        if span and not span % timedelta(seconds=seconds):
            return f"{span // timedelta(seconds=seconds)}{unit}"
    return f"{span / timedelta(milliseconds=1):g}ms" if span else "0"


def size(count: int) -> str:
    """Bytes in a unit that is easily read."""
    for unit, bytes_ in _SIZES:
        if count >= bytes_:
            return f"{count / bytes_:.1f} {unit}"
    return f"{count} bytes"


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 event``, ``2,000 events``."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
