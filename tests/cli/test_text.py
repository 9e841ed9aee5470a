from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone

import pytest

from retell_flask.cli import text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("call_1", "call_1"),
        ("größer 値", "größer 値"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202eevil\u200b", r"\u202eevil\u200b"),
        ("\ud800", r"\ud800"),
        ("x" * 300, "x" * 197 + "..."),
    ],
)
def test_a_foreign_text_is_one_line_that_no_terminal_obeys(given: str, shown: str) -> None:
    assert text.plain(given) == shown


def test_what_the_terminal_cannot_write_is_spelt_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(type(sys.stdout), "encoding", "ascii", raising=False)
    text.say("größer")
    assert capsys.readouterr().out == "gr\\xf6\\xdfer\n"


def test_a_table_is_aligned_with_numbers_to_the_right() -> None:
    assert text.table(("NAME", "COUNT"), [("a", "1,000"), ("bcdef", ""), ("g", "7")]) == [
        "NAME   COUNT",
        "a      1,000",
        "bcdef",
        "g          7",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert text.table(("NAME", "COUNT"), []) == ["NAME  COUNT"]


def test_a_narrow_terminal_cuts_flexible_columns_in_their_order() -> None:
    rows = [("a" * 20, "b" * 20, "c" * 20)]
    header = ("A", "B", "C")
    assert text.table(header, rows, flexible=(2, 1), width=64)[1] == "  ".join(
        ["a" * 20, "b" * 20, "c" * 20]
    )
    assert text.table(header, rows, flexible=(2, 1), width=54)[1] == "  ".join(
        ["a" * 20, "b" * 18, "c" * 10 + ".."]
    ).replace("b" * 18, "b" * 16 + "..")
    assert text.table(header, rows, flexible=(2, 1), width=10)[1] == "  ".join(
        ["a" * 20, "b" * 10 + "..", "c" * 10 + ".."]
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3599, "59m 59s"),
        (7500, "2h 5m"),
        (86_405, "1d"),
        (200_000, "2d 7h"),
    ],
)
def test_an_age_has_at_most_two_units(seconds: float, shown: str) -> None:
    assert text.age(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0124, "12 ms"), (2.345, "2.3 s"), (61, "1m 1s"), (-1, "0 ms")]
)
def test_a_run_is_shown_as_finely_as_it_was_short(seconds: float, shown: str) -> None:
    assert text.took(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0"), (0.25, "250ms"), (90, "90s"), (300, "5m"), (86_400, "1d"), (90_000, "25h")],
)
def test_a_duration_is_written_as_options_take_it(seconds: float, shown: str) -> None:
    assert text.duration(timedelta(seconds=seconds)) == shown


def test_times_ahead_are_counted_from_now() -> None:
    now = datetime(2026, 1, 31, tzinfo=timezone.utc)
    assert text.until(now, now) == "now"
    assert text.until(now + timedelta(seconds=1), now) == "in 1s"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (2_500_000, "2.5 MB")],
)
def test_sizes_have_a_unit(count: int, shown: str) -> None:
    assert text.size(count) == shown


def test_counts_agree_with_their_nouns() -> None:
    assert text.counted(1, "event") == "1 event"
    assert text.counted(2000, "delivery", "deliveries") == "2,000 deliveries"
