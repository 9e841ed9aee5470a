from __future__ import annotations

from retell_flask.throttle import Throttle, withheld_note


def test_a_flood_is_ten_lines_and_a_count() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    admitted = [throttle.admit("stale") for _ in range(1000)]
    assert admitted[:10] == [0] * 10
    assert set(admitted[10:]) == {None}
    now[0] = 10.0
    assert throttle.admit("stale") == 990
    assert throttle.admit("stale") == 0


def test_kinds_are_counted_apart() -> None:
    throttle = Throttle(lambda: 0.0)
    for _ in range(20):
        throttle.admit("stale")
    assert throttle.admit("stale") is None
    assert throttle.admit("missing") == 0


def test_the_note_says_how_many() -> None:
    assert withheld_note(0) == ""
    assert "990" in withheld_note(990)


def test_one_line_may_be_enough() -> None:
    throttle = Throttle(lambda: 0.0, most=1)
    assert [throttle.admit("outage") for _ in range(3)] == [0, None, None]
