"""What follows from a service's answer."""

from __future__ import annotations

import pytest

from call_center import failures
from retell_flask import GiveUp, Retry


@pytest.mark.parametrize("status", [408, 409, 423, 425, 429, 477, 500, 502, 503, 504, 599])
def test_what_may_pass_is_tried_again(status):
    assert isinstance(failures.of_status("It", status, {}, {}), Retry)


@pytest.mark.parametrize("status", [300, 307, 400, 401, 403, 404, 410, 413, 422, 431])
def test_what_stays_is_given_up_and_its_remedy_named(status):
    error = failures.of_status("It", status, {"Retry-After": "1"}, {status: "See IT."})
    assert isinstance(error, GiveUp)
    assert str(error) == f"It answered {status}. See IT."


@pytest.mark.parametrize(
    ("after", "shortest", "longest"),
    [("0", 5, 60), ("30", 35, 90), ("3600", 3605, 3660), ("999999999", 3605, 3660)],
)
def test_the_pause_is_somewhat_longer_than_asked_for(after, shortest, longest):
    error = failures.of_status("It", 429, {"Retry-After": after}, {})
    assert error.after is not None
    assert shortest <= error.after.total_seconds() <= longest


@pytest.mark.parametrize("after", ["", "-1", "1.5", "Fri, 27 Nov 2026 08:00:00 GMT", "9" * 5000])
def test_a_pause_that_cannot_be_read_is_the_usual_one(after):
    assert failures.of_status("It", 503, {"Retry-After": after}, {}).after is None
