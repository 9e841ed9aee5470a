"""Results of custom functions, and the right to run one, over every kind of database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from databases import Clock, make_inbox, rows
from retell_flask.errors import InboxError
from retell_flask.inbox import maintenance, pruning, schema
from retell_flask.inbox.answers import Answers, Kept, Run
from retell_flask.inbox.database import Database
from retell_flask.inbox.sqlite import FileDatabase
from retell_flask.inbox.store import Inbox
from servers import eventually

KEY, OTHER = b"\x00" * 32, b"\xff" * 32
KEPT = Kept(b'{"booked": true}', True)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
LEASE = 60


@pytest.fixture
def inbox(make: Callable[..., Inbox], database: Database) -> Inbox:
    database.write(lambda connection: connection.execute(schema.answers.delete()))
    return make()


@pytest.fixture
def answers(inbox: Inbox) -> Answers:
    return Answers(inbox)


def begin(answers: Answers, key: bytes = KEY, session: str = "call_1") -> Any:
    return answers.begin(key, "book", session)


def run(answers: Answers, key: bytes = KEY, session: str = "call_1") -> Run:
    begun = begin(answers, key, session)
    assert isinstance(begun, Run)
    return begun


def keep(answers: Answers, key: bytes = KEY, session: str = "call_1") -> None:
    answers.finish(run(answers, key, session), KEPT, DAY)


def kept_keys(inbox: Inbox) -> list[bytes]:
    return [row["key"] for row in rows(inbox.database, "retell_answer")]


# The right to run


def test_the_first_may_run_and_nobody_else_meanwhile(answers: Answers) -> None:
    first = run(answers)
    assert begin(answers) is None
    assert first.description == "The function book"
    assert (first.key, first.lost, first.started_at) == (KEY, False, answers.clock())
    assert isinstance(begin(answers, OTHER), Run)


def test_of_many_at_once_one_may_run(answers: Answers) -> None:
    begun: list[Any] = []
    barrier = threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        begun.append(begin(answers))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [isinstance(each, Run) for each in begun].count(True) == 1
    assert begun.count(None) == 7


def test_a_lease_is_taken_over_when_it_is_over_and_not_before(
    answers: Answers, clock: Clock
) -> None:
    first = run(answers)
    clock.tick(LEASE - 1)
    assert begin(answers) is None
    clock.tick(1)
    second = run(answers, session="call_2")
    assert second.token != first.token
    assert begin(answers) is None


def test_a_lease_that_is_extended_is_not_taken_over(answers: Answers, clock: Clock) -> None:
    first = run(answers)
    for _ in range(3):
        clock.tick(LEASE - 1)
        answers.extend([first])
        assert begin(answers) is None
    assert not first.lost
    clock.tick(LEASE)
    assert isinstance(begin(answers), Run)


def test_a_lease_that_is_over_and_not_taken_can_be_extended(
    answers: Answers, clock: Clock
) -> None:
    first = run(answers)
    clock.tick(2 * LEASE)
    answers.extend([first])
    assert not first.lost
    assert begin(answers) is None


def test_only_those_that_were_taken_over_are_lost(answers: Answers, clock: Clock) -> None:
    lost, held = run(answers), run(answers, OTHER)
    clock.tick(LEASE)
    run(answers)
    answers.extend([lost, held])
    assert (lost.lost, held.lost) == (True, False)
    answers.extend([])


def test_what_was_abandoned_is_run_anew(answers: Answers, inbox: Inbox) -> None:
    answers.abandon(run(answers))
    assert kept_keys(inbox) == []
    assert isinstance(begin(answers), Run)


# Results


def test_a_result_is_there_for_whoever_asks_the_same(answers: Answers) -> None:
    keep(answers)
    assert begin(answers) == begin(answers, session="call_2") == KEPT
    assert isinstance(begin(answers, OTHER), Run)


@pytest.mark.parametrize(
    "kept",
    [
        Kept(b"", False),
        Kept(b"null", True),
        Kept("José ✓".encode(), False),
        Kept(bytes(range(256)), False),
        Kept(b"x" * 60_000, False),
    ],
    ids=["empty", "null", "text", "bytes", "long"],
)
def test_a_result_comes_back_as_it_was(kept: Kept, answers: Answers) -> None:
    answers.finish(run(answers), kept, DAY)
    assert begin(answers) == kept


def test_a_result_is_kept_for_its_time_and_not_longer(answers: Answers, clock: Clock) -> None:
    answers.finish(run(answers), KEPT, MINUTE)
    clock.tick(59)
    assert begin(answers) == KEPT
    clock.tick(1)
    answers.finish(run(answers), Kept(b"2", True), MINUTE)
    assert begin(answers) == Kept(b"2", True)


def test_the_time_counts_from_the_end_of_the_run(answers: Answers, clock: Clock) -> None:
    begun = run(answers)
    clock.tick(LEASE - 1)
    answers.finish(begun, KEPT, MINUTE)
    clock.tick(59)
    assert begin(answers) == KEPT


def test_whoever_lost_the_lease_changes_nothing(answers: Answers, clock: Clock) -> None:
    late = run(answers)
    clock.tick(LEASE)
    second = run(answers)
    answers.finish(late, Kept(b"late", False), DAY)
    answers.abandon(late)
    assert begin(answers) is None
    answers.finish(second, KEPT, DAY)
    answers.abandon(late)
    answers.abandon(second)
    assert begin(answers) == KEPT


def test_blueprints_have_results_of_their_own(
    answers: Answers, inbox: Inbox, clock: Clock
) -> None:
    keep(answers)
    other = Answers(Inbox(inbox.database, "other", inbox.settings, clock))
    assert isinstance(begin(other), Run)
    assert begin(answers) == KEPT


def test_any_id_of_a_call_is_stored(answers: Answers) -> None:
    for number, session in enumerate(["", "x" * 300, "nul\0", "half \ud83d", "José"]):
        keep(answers, bytes([number]) * 32, session)
        assert begin(answers, bytes([number]) * 32) == KEPT


def test_a_result_is_not_shown_by_repr() -> None:
    assert "booked" not in repr(KEPT)


# What becomes of them


def test_forgetting_a_call_deletes_its_results(answers: Answers, inbox: Inbox) -> None:
    keep(answers)
    keep(answers, OTHER, "call_2")
    assert maintenance.count_results(inbox, "call_1") == 1
    assert maintenance.forget(inbox, "call_1") == (0, 1, True)
    assert kept_keys(inbox) == [OTHER]
    assert maintenance.count_results(inbox, "call_1") == 0


def test_forgetting_a_call_with_a_long_id_deletes_its_results(
    answers: Answers, inbox: Inbox
) -> None:
    keep(answers, session="x" * 300)
    maintenance.forget(inbox, "x" * 300)
    assert kept_keys(inbox) == []


def test_what_ran_when_its_call_was_forgotten_is_not_kept(answers: Answers, inbox: Inbox) -> None:
    begun = run(answers)
    maintenance.forget(inbox, "call_1")
    answers.extend([begun])
    assert begun.lost
    answers.finish(begun, KEPT, DAY)
    assert kept_keys(inbox) == []


def test_forgetting_leaves_other_blueprints_alone(
    answers: Answers, inbox: Inbox, clock: Clock
) -> None:
    other = Inbox(inbox.database, "other", inbox.settings, clock)
    keep(Answers(other))
    maintenance.forget(inbox, "call_1")
    assert kept_keys(inbox) == [KEY]


def test_pruning_takes_what_is_over_and_nothing_else(
    answers: Answers, inbox: Inbox, clock: Clock
) -> None:
    answers.finish(run(answers), KEPT, MINUTE)
    keep(answers, OTHER)
    clock.tick(59)
    assert pruning.prune_results(inbox) == 0
    clock.tick(1)
    assert pruning.prune_results(inbox) == 1
    assert kept_keys(inbox) == [OTHER]


def test_pruning_takes_no_run_that_is_held(answers: Answers, inbox: Inbox, clock: Clock) -> None:
    begun = run(answers)
    clock.tick(LEASE - 1)
    answers.extend([begun])
    clock.tick(LEASE - 1)
    assert pruning.prune_results(inbox) == 0


def test_pruning_takes_a_run_that_nobody_went_on_with(
    answers: Answers, inbox: Inbox, clock: Clock
) -> None:
    run(answers)
    clock.tick(LEASE + DAY.total_seconds() - 1)
    assert pruning.prune_results(inbox) == 0
    clock.tick(1)
    assert pruning.prune_results(inbox) == 1


def test_after_an_outage_those_who_run_get_time_to_say_so(
    answers: Answers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = run(answers)
    with monkeypatch.context() as outage:
        outage.setattr(answers._database, "_write", _fail)
        with pytest.raises(InboxError):
            answers.extend([begun])
        clock.tick(2 * LEASE)
    assert begin(answers) is None
    answers.extend([begun])
    assert not begun.lost
    clock.tick(LEASE / 2)
    assert begin(answers) is None


def test_after_an_outage_a_dead_run_is_taken_over_half_a_lease_later(
    answers: Answers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = run(answers)
    with monkeypatch.context() as outage:
        outage.setattr(answers._database, "_write", _fail)
        with pytest.raises(InboxError):
            begin(answers)
        clock.tick(2 * LEASE)
    assert begin(answers) is None
    clock.tick(LEASE / 2)
    assert isinstance(begin(answers), Run)
    assert not answers.finish(begun, KEPT, DAY)


def _fail(operation: Any) -> Any:
    raise InboxError("The inbox does not answer.")


def test_pruning_leaves_other_blueprints_alone(
    answers: Answers, inbox: Inbox, clock: Clock
) -> None:
    keep(answers)
    clock.tick(DAY.total_seconds())
    other = Inbox(inbox.database, "other", inbox.settings, clock)
    assert pruning.prune_results(other) == 0
    assert kept_keys(inbox) == [KEY]


def test_whatever_delivers_prunes_all_results_that_are_over(
    answers: Answers, inbox: Inbox, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_TOGETHER", 2)
    for number in range(5):
        keep(answers, bytes([number]) * 32)
    clock.tick(DAY.total_seconds())
    pruner = pruning.Pruner(inbox)
    pruner._next = 0.0
    eventually(lambda: pruner.prune_some() or not kept_keys(inbox))


def test_an_inbox_of_the_release_before_gains_the_table(tmp_path: Path, clock: Clock) -> None:
    before = FileDatabase(tmp_path / "before.sqlite3")
    before.init()

    def back_to_version_1(connection: Any) -> None:
        schema.answers.drop(connection)
        connection.execute(schema.schema_version.update().values(version=1))

    before.write(back_to_version_1)
    before.dispose()
    database = FileDatabase(tmp_path / "before.sqlite3")
    keep(Answers(make_inbox(database, clock)))
    assert [row["key"] for row in rows(database, "retell_answer")] == [KEY]
    database.dispose()
