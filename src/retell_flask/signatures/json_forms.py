"""The forms in which different writers put the same JSON.

The text is taken as its tokens, so that repeated keys, the order of keys and any depth stay
as they are. Text that is not JSON becomes other text that is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Literal, NamedTuple

Write = Callable[[str], str]
Language = Literal["javascript", "python"]

# The closing quote is optional, or a text of quotes without an end takes quadratic time.
_STRING = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*"?)', re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_INDENT = re.compile(r"\n[ \t]*")
_LINE_END = re.compile(r"(?<=[\[{,])(?![\]}])|(?<![\[{])(?=[\]}])")
_HALF_OF_A_PAIR = re.compile("[\ud800-\udfff]")
_MOST_EXACT_DIGITS = 15  # a double holds every integer as long as this

_read = json.JSONDecoder(strict=False).decode
_write = json.JSONEncoder(ensure_ascii=False).encode
_write_ascii = json.JSONEncoder().encode


class Form(NamedTuple):
    """A writer's way with strings, with numbers, and with the white space around them."""

    writer: str
    strings: Write
    numbers: Write
    layout: Write


class JsonText:
    """JSON, taken apart into its strings and what stands between them."""

    def __init__(self, text: str) -> None:
        parts = _STRING.split(text)
        self._between, self._strings = parts[::2], parts[1::2]
        self._rewritten: dict[Write, list[str]] = {}

    def write(self, form: Form) -> bytes:
        """The same JSON as the writer of ``form`` puts it."""
        parts = [""] * (len(self._between) + len(self._strings))
        parts[::2] = _map(form.layout, self._map_once(form.numbers, self._between))
        parts[1::2] = self._map_once(form.strings, self._strings)
        return "".join(parts).encode()

    def is_compact(self) -> bool:
        """Whether there is no white space around its tokens, as Retell has none."""
        return all(map(_is_compact, set(self._between)))

    def language(self) -> Language | None:
        """Whose usual library writes this text exactly so; None where that cannot be told."""
        for habits in (_USUAL, _POSSIBLE):
            found = {habit.language for habit in habits if self._has(habit)}
            if found:
                return found.pop() if len(found) == 1 else None
        return None

    def _has(self, habit: _Habit) -> bool:
        pieces = set(self._between)
        return (
            any(all(map(is_laid_out, pieces)) for is_laid_out in habit.layouts)
            and self._map_once(habit.numbers, self._between) == self._between
            and self._map_once(habit.strings, self._strings) == self._strings
        )

    def _map_once(self, write: Write, tokens: list[str]) -> list[str]:
        if write is _as_it_is:
            return tokens
        if write not in self._rewritten:
            self._rewritten[write] = _map(write, tokens)
        return self._rewritten[write]


def _map(write: Write, tokens: list[str]) -> list[str]:
    """``write`` for each token; most occur often, and are written once."""
    written = {token: write(token) for token in set(tokens)}
    return [written[token] for token in tokens]


def _as_it_is(token: str) -> str:
    return token


def _javascript_string(token: str) -> str:
    if _is_plain(token):
        return token
    try:
        written = _write(_read(token))
    except ValueError:
        return token
    return _HALF_OF_A_PAIR.sub(lambda match: f"\\u{ord(match[0]):04x}", written)


def _ascii_string(token: str) -> str:
    if _is_plain(token):
        return token
    try:
        return _write_ascii(_read(token))
    except ValueError:
        return token


def _is_plain(token: str) -> bool:
    """Nothing in it that anybody escapes, but the slash."""
    return "\\" not in token and token.isascii() and token.isprintable()


def _php_string(token: str) -> str:
    return _ascii_string(token).replace("/", r"\/")


def _unescaped_php_string(token: str) -> str:
    return _javascript_string(token).replace("/", r"\/")


def _javascript_numbers(piece: str) -> str:
    return _NUMBER.sub(lambda match: _javascript_number(match[0]), piece)


def _javascript_number(token: str) -> str:
    """Python finds the same digits, and puts point and exponent elsewhere."""
    if token.isdigit() and len(token) <= _MOST_EXACT_DIGITS:
        return token
    written = repr(float(token))
    if written in ("0.0", "-0.0"):
        return "0"
    number = Decimal(written)
    if not number.is_finite():
        return "null"
    if -7 < number.adjusted() < 21:
        return f"{number:f}".removesuffix(".0")
    return re.sub("e([+-])0*", r"e\1", written)


def _python_numbers(piece: str) -> str:
    return _NUMBER.sub(lambda match: _python_number(match[0]), piece)


def _python_number(token: str) -> str:
    return token if token.lstrip("-").isdigit() else repr(float(token))


def _compact(piece: str) -> str:
    return "".join(piece.split())


def _spaced(piece: str) -> str:
    return _compact(piece).replace(",", ", ").replace(":", ": ")


def _is_compact(piece: str) -> bool:
    return piece == _compact(piece)


def _is_spaced(piece: str) -> bool:
    return piece == _spaced(piece)


def _is_indented(piece: str) -> bool:
    in_lines = _LINE_END.sub("\n", _compact(piece)).replace(":", ": ")
    return _INDENT.sub("\n", piece) == in_lines


# What may have been signed. Retell signs the first.
FORMS = (
    Form("JavaScript's JSON.stringify", _javascript_string, _javascript_numbers, _compact),
    Form("Python's json.dumps", _ascii_string, _python_numbers, _spaced),
    Form("a json.dumps without ASCII escapes", _javascript_string, _python_numbers, _spaced),
    Form("a json.dumps without spaces", _ascii_string, _python_numbers, _compact),
    Form(
        "a json.dumps without spaces and ASCII escapes",
        _javascript_string,
        _python_numbers,
        _compact,
    ),
    Form("PHP's json_encode", _php_string, _as_it_is, _compact),
    Form("PHP's json_encode", _unescaped_php_string, _as_it_is, _compact),
    Form("something else", _as_it_is, _as_it_is, _compact),
    Form("something else", _as_it_is, _as_it_is, _spaced),
)


class _Habit(NamedTuple):
    language: Language
    strings: Write
    numbers: Write
    layouts: tuple[Callable[[str], bool], ...]


_USUAL = (
    _Habit("javascript", _javascript_string, _javascript_numbers, (_is_compact, _is_indented)),
    _Habit("python", _ascii_string, _python_numbers, (_is_spaced, _is_indented)),
)
_POSSIBLE = (
    _Habit("python", _ascii_string, _python_numbers, (_is_compact,)),
    _Habit("python", _javascript_string, _python_numbers, (_is_compact, _is_spaced, _is_indented)),
)
