"""What is kept in the process, and the line in which its threads stand."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from databases import Clock
from retell_flask.functions import results
from retell_flask.functions.results import MemoryResults, SingleFlight
from retell_flask.inbox.answers import Kept
from servers import eventually

DAY = timedelta(days=1)
KEPT = Kept(b"done", False)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> MemoryResults:
    return MemoryResults(clock)


def in_child(check: Callable[[], bool]) -> bool:
    """What ``check`` finds in a forked process."""
    child = os.fork()
    if not child:  # no assertion may leave this branch
        try:
            os._exit(0 if check() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_a_result_is_kept_for_its_time_and_not_longer(memory: MemoryResults, clock: Clock) -> None:
    memory.put(b"key", KEPT, DAY)
    clock.tick(DAY.total_seconds() - 1)
    assert memory.get(b"key") == KEPT
    clock.tick(1)
    assert memory.get(b"key") is None
    assert memory.get(b"another") is None


def test_a_new_result_takes_the_place_of_an_older_one(memory: MemoryResults) -> None:
    memory.put(b"key", KEPT, DAY)
    memory.put(b"key", Kept(b"2", True), DAY)
    assert memory.get(b"key") == Kept(b"2", True)


def test_the_oldest_go_where_there_are_many(
    memory: MemoryResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_MOST_IN_MEMORY", 2)
    for key in (b"1", b"2", b"1", b"3"):
        memory.put(key, KEPT, DAY)
    assert [memory.get(key) for key in (b"1", b"2", b"3")] == [KEPT, None, KEPT]


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_knows_what_its_parent_knew(memory: MemoryResults) -> None:
    memory.put(b"key", KEPT, DAY)
    with memory._lock:
        assert in_child(lambda: memory.get(b"key") == KEPT)


def test_one_at_a_time_works_on_a_key() -> None:
    flight = SingleFlight()
    assert flight.enter(b"key", 0)
    assert not flight.enter(b"key", 0.01)
    assert flight.enter(b"another", 0)
    flight.leave(b"key")
    assert flight.enter(b"key", 0)


def test_whoever_waits_begins_when_the_first_is_through() -> None:
    flight = SingleFlight()
    flight.enter(b"key", 0)
    entered: list[bool] = []
    thread = threading.Thread(target=lambda: entered.append(flight.enter(b"key", 30)))
    thread.start()
    assert entered == []
    flight.leave(b"key")
    eventually(lambda: entered == [True])
    thread.join()


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_nobody_works_on_anything_in_a_forked_process() -> None:
    flight = SingleFlight()
    flight.enter(b"key", 0)
    with flight._changed:
        assert in_child(lambda: flight.enter(b"key", 0))
    assert not flight.enter(b"key", 0)
