"""A tool call that comes again is answered by its first result, whoever kept it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from databases import Clock, make_inbox, rows
from functions.asking import WITHOUT_BODY, invocation, tool_call, whole
from retell_flask import Call, InboxError, RetellBlueprint
from retell_flask.functions import desk
from retell_flask.functions.desk import FunctionDesk
from retell_flask.functions.request import read_body
from retell_flask.inbox.database import Database
from retell_flask.inbox.store import utc_now
from retell_flask.invocation import Invoker
from retell_flask.testing import encode
from servers import eventually
from support import make_app, make_post

FAILED = {"error": "Function failed"}
BOOK = {"day": "thursday"}
TOOL_CALL = tool_call("book", BOOK)
BY_ARGUMENTS = whole("book", BOOK)
MINUTES_10, DAY = 600, 86_400
LEASE = 60
PATIENCE = 10.0

OpenApp = Callable[..., Flask]
OpenUrl = Callable[[str], str | None]


def send(app: Flask, name: str, body: Any = b"", **options: Any) -> TestResponse:
    """As ``asking.send``, of an inbox that is locked or broken or whose accesses count."""
    return make_post(app)(body, f"/functions/{name}", **options)


class Book:
    """A function that counts its runs, and waits in them while it is told to."""

    def __init__(self) -> None:
        self.runs = 0
        self.errors: list[BaseException] = []
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, day: str) -> dict[str, Any]:
        self.runs += 1
        run = self.runs
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        if self.errors:
            raise self.errors.pop(0)
        return {"run": run}


@pytest.fixture
def book(retell: RetellBlueprint) -> Iterator[Book]:
    book = Book()
    retell.function("book")(book)
    yield book
    book.go_on.set()


def use_clock(app: Flask, clock: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Flask:
    """Have ``clock`` say what time it is; before the first function is called."""
    monkeypatch.setattr(desk, "utc_now", clock)
    inbox = app.extensions["retell"]["retell"].inbox
    if inbox is not None:
        inbox.clock = clock
    return app


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["none", "memory", "sqlite", "postgresql"])
def app(
    request: pytest.FixtureRequest,
    retell: RetellBlueprint,
    open_app: OpenApp,
    open_url: OpenUrl,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> Flask:
    """An application with each kind of inbox, and without one; time stands still in it."""
    return use_clock(open_app(retell, open_url(request.param)), clock, monkeypatch)


@pytest.fixture(params=["sqlite", "postgresql"])
def two_apps(
    request: pytest.FixtureRequest,
    retell: RetellBlueprint,
    book: Book,
    open_app: OpenApp,
    open_url: OpenUrl,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Flask, Flask]:
    """The same application over one inbox, as two processes have it."""
    other = RetellBlueprint()
    other.function("book")(book)
    url = open_url(request.param)
    one, two = (use_clock(open_app(each, url), clock, monkeypatch) for each in (retell, other))
    return one, two


class Answers:
    """Requests in threads, and what was answered so far."""

    def __init__(self) -> None:
        self.json: list[Any] = []
        self.threads: list[threading.Thread] = []

    def ask(self, app: Flask, body: Any = TOOL_CALL) -> threading.Thread:
        def work() -> None:
            self.json.append(send(app, "book", body).json)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        self.threads.append(thread)
        return thread

    def wait(self) -> list[Any]:
        for thread in self.threads:
            thread.join(3 * PATIENCE)
        return self.json


# Over every kind of inbox


@pytest.mark.parametrize("body", [TOOL_CALL, BY_ARGUMENTS], ids=["tool call", "by arguments"])
def test_a_repeat_is_answered_by_the_first_result(
    body: Any, app: Flask, book: Book, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, repeat = send(app, "book", body), send(app, "book", body)
    assert (repeat.status_code, repeat.data) == (first.status_code, first.data)
    assert first.json == {"run": 1}
    assert repeat.content_type == first.content_type == "application/json"
    assert book.runs == 1
    assert "Answered a repeat of book by its first result" in caplog.text


def test_text_stays_text(app: Flask, retell: RetellBlueprint) -> None:
    results = ["José ✓", "another"]
    retell.function("look")(lambda: results.pop(0))
    body = tool_call("look", {})
    send(app, "look", body)
    repeat = send(app, "look", body)
    assert repeat.text == "José ✓"
    assert repeat.content_type == "text/plain; charset=utf-8"


@pytest.mark.parametrize("result", [None, "", False, 0, []], ids=repr)
def test_an_empty_result_is_a_result(result: Any, app: Flask, retell: RetellBlueprint) -> None:
    results = [result, "another"]
    retell.function("look")(lambda: results.pop(0))
    body = tool_call("look", {})
    assert send(app, "look", body).data == send(app, "look", body).data
    assert results == ["another"]


def test_fifty_repeats_at_once_run_the_function_once(app: Flask, book: Book) -> None:
    answers = Answers()
    for _ in range(50):
        answers.ask(app)
    assert answers.wait() == [{"run": 1}] * 50
    assert book.runs == 1


def test_a_repeat_during_the_first_run_waits_for_it(app: Flask, book: Book) -> None:
    book.go_on.clear()
    answers = Answers()
    answers.ask(app)
    assert book.begun.wait(PATIENCE)
    repeat = answers.ask(app)
    repeat.join(0.3)
    assert repeat.is_alive()
    book.go_on.set()
    assert answers.wait() == [{"run": 1}] * 2
    assert book.runs == 1


def test_another_tool_call_does_not_wait(app: Flask, book: Book) -> None:
    book.go_on.clear()
    answers = Answers()
    answers.ask(app)
    assert book.begun.wait(PATIENCE)
    book.begun.clear()
    answers.ask(app, tool_call("book", BOOK, "tool_2"))
    assert book.begun.wait(PATIENCE)
    book.go_on.set()
    answers.wait()
    assert book.runs == 2


def test_a_failure_is_not_kept(app: Flask, book: Book) -> None:
    book.errors = [ValueError("mine"), SystemExit(3)]
    statuses = [send(app, "book", TOOL_CALL).status_code for _ in range(4)]
    assert statuses == [500, 500, 200, 200]
    assert book.runs == 3


def test_a_result_without_a_form_in_json_is_not_kept(app: Flask, retell: RetellBlueprint) -> None:
    results = [object(), "Booked."]
    retell.function("look")(lambda: results.pop(0))
    body = tool_call("look", {})
    assert send(app, "look", body).json == FAILED
    assert send(app, "look", body).text == "Booked."


def test_a_repeat_that_waits_runs_anew_what_failed(app: Flask, book: Book) -> None:
    book.errors = [ValueError("mine")]
    book.go_on.clear()
    answers = Answers()
    answers.ask(app)
    assert book.begun.wait(PATIENCE)
    for _ in range(5):
        answers.ask(app)
    book.go_on.set()
    assert sorted(answers.wait(), key=str) == [FAILED] + [{"run": 2}] * 5
    assert book.runs == 2


def test_repeats_by_arguments_are_known_for_ten_minutes(
    app: Flask, book: Book, clock: Clock
) -> None:
    send(app, "book", BY_ARGUMENTS)
    clock.tick(MINUTES_10 - 1)
    assert send(app, "book", BY_ARGUMENTS).json == {"run": 1}
    clock.tick(1)  # of the first, and not of its repeat
    assert send(app, "book", BY_ARGUMENTS).json == {"run": 2}
    clock.tick(MINUTES_10 - 1)
    assert send(app, "book", BY_ARGUMENTS).json == {"run": 2}


def test_repeats_of_a_tool_call_are_known_for_a_day(app: Flask, book: Book, clock: Clock) -> None:
    send(app, "book", TOOL_CALL)
    clock.tick(DAY - 1)
    assert send(app, "book", TOOL_CALL).json == {"run": 1}
    clock.tick(1)
    assert send(app, "book", TOOL_CALL).json == {"run": 2}


def test_the_time_counts_from_the_end_of_the_first_run(
    app: Flask, retell: RetellBlueprint, clock: Clock
) -> None:
    runs: list[int] = []

    @retell.function
    def slow() -> int:
        clock.tick(MINUTES_10)
        runs.append(len(runs))
        return runs[-1]

    body = whole("slow", {})
    send(app, "slow", body)
    clock.tick(MINUTES_10 - 1)
    assert send(app, "slow", body).json == 0
    clock.tick(1)
    assert send(app, "slow", body).json == 1


@pytest.mark.parametrize(
    "other",
    [
        tool_call("book", {"day": "friday"}),
        tool_call("book", BOOK, "tool_2"),
        tool_call("book", BOOK, call_id="call_2"),
        BY_ARGUMENTS,
    ],
    ids=["arguments", "tool call", "call", "no transcript"],
)
def test_another_tool_call_is_no_repeat(other: Any, app: Flask, book: Book) -> None:
    send(app, "book", TOOL_CALL)
    assert send(app, "book", other).json == {"run": 2}
    assert send(app, "book", TOOL_CALL).json == {"run": 1}


def test_tool_calls_at_once_with_different_arguments_both_run(app: Flask, book: Book) -> None:
    friday = {"day": "friday"}
    items = [invocation("tool_1", "book", BOOK), invocation("tool_2", "book", friday)]
    for _ in range(2):
        assert send(app, "book", whole("book", BOOK, *items)).json == {"run": 1}
        assert send(app, "book", whole("book", friday, *items)).json == {"run": 2}


def test_without_a_call_nothing_is_a_repeat(app: Flask, book: Book) -> None:
    for method in WITHOUT_BODY:
        for _ in range(2):
            send(app, "book", method=method, query_string=BOOK)
    for body in (BOOK, {"name": "book", "args": BOOK}):
        for method in ("POST", "PUT"):
            for _ in range(2):
                send(app, "book", body, method=method)
    assert book.runs == 12


def test_a_repeat_may_come_by_another_method(app: Flask, book: Book) -> None:
    for method in ("POST", "PUT", "PATCH"):
        assert send(app, "book", TOOL_CALL, method=method).json == {"run": 1}


def test_the_calls_of_two_functions_have_results_of_their_own(
    app: Flask, retell: RetellBlueprint, book: Book
) -> None:
    retell.function("greet")(lambda: "Hello.")
    assert send(app, "book", BY_ARGUMENTS).json == {"run": 1}
    assert send(app, "greet", BY_ARGUMENTS).text == "Hello."


# Over an inbox that several processes share


def test_two_blueprints_in_one_database_have_results_of_their_own(
    two_apps: tuple[Flask, Flask], open_app: OpenApp, book: Book
) -> None:
    one, _ = two_apps
    other = RetellBlueprint("other")
    other.function("book")(book)
    app = open_app(other, one.config["RETELL_INBOX_URL"])
    assert send(one, "book", TOOL_CALL).json == {"run": 1}
    assert send(app, "book", TOOL_CALL).json == {"run": 2}


def test_a_repeat_in_another_process_is_answered_by_the_first_result(
    two_apps: tuple[Flask, Flask], book: Book
) -> None:
    assert [send(app, "book", TOOL_CALL).json for app in two_apps] == [{"run": 1}] * 2
    assert book.runs == 1


def test_a_repeat_in_another_process_waits_for_the_first_run(
    two_apps: tuple[Flask, Flask], book: Book
) -> None:
    one, two = two_apps
    book.go_on.clear()
    answers = Answers()
    answers.ask(one)
    assert book.begun.wait(PATIENCE)
    repeat = answers.ask(two)
    repeat.join(0.5)
    assert repeat.is_alive()
    book.go_on.set()
    assert answers.wait() == [{"run": 1}] * 2
    assert book.runs == 1


def test_fifty_repeats_in_two_processes_run_the_function_once(
    two_apps: tuple[Flask, Flask], book: Book
) -> None:
    answers = Answers()
    for number in range(50):
        answers.ask(two_apps[number % 2])
    assert answers.wait() == [{"run": 1}] * 50
    assert book.runs == 1


def test_a_repeat_in_another_process_runs_anew_what_failed(
    two_apps: tuple[Flask, Flask], book: Book
) -> None:
    one, two = two_apps
    book.errors = [ValueError("mine")]
    book.go_on.clear()
    answers = Answers()
    first = answers.ask(one)
    assert book.begun.wait(PATIENCE)
    answers.ask(two)
    book.go_on.set()
    first.join(PATIENCE)
    assert answers.wait() == [FAILED, {"run": 2}]


def test_the_run_of_a_process_that_was_killed_is_taken_over_after_its_lease(
    two_apps: tuple[Flask, Flask], book: Book, clock: Clock
) -> None:
    one, two = two_apps
    book.errors = [KeyboardInterrupt()]  # ends the process, and the run with it
    with pytest.raises(KeyboardInterrupt):
        send(one, "book", TOOL_CALL)
    clock.tick(LEASE - 1)
    answers = Answers()
    repeat = answers.ask(two)
    repeat.join(0.5)
    assert repeat.is_alive()
    assert book.runs == 1
    clock.tick(1)
    assert answers.wait() == [{"run": 2}]
    assert send(one, "book", TOOL_CALL).json == {"run": 2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_process_that_is_killed_in_a_run_leaves_it_to_others(
    kind: str, retell: RetellBlueprint, open_app: OpenApp, open_url: OpenUrl
) -> None:
    parent = os.getpid()

    @retell.function("book")
    def book(day: str) -> str:
        if os.getpid() != parent:
            os._exit(9)
        return "booked by the parent"

    app = open_app(retell, open_url(kind), RETELL_LEASE="1s")
    child = os.fork()
    if not child:  # no assertion may leave this branch
        try:
            send(app, "book", TOOL_CALL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (row,) = rows(app.extensions["retell"]["retell"].inbox.database, "retell_answer")
    assert row["token"] is not None
    assert send(app, "book", TOOL_CALL).text == "booked by the parent"


@pytest.fixture(params=["sqlite", "postgresql"])
def two_databases(
    request: pytest.FixtureRequest,
    retell: RetellBlueprint,
    open_app: OpenApp,
    open_url: OpenUrl,
) -> list[Database]:
    url = open_url(request.param)
    apps = [open_app(each, url) for each in (retell, RetellBlueprint())]
    return [app.extensions["retell"]["retell"].inbox.database for app in apps]


def test_a_run_of_several_leases_that_lives_is_not_taken_over(
    two_databases: list[Database], retell: RetellBlueprint, book: Book
) -> None:
    lease = 0.3
    function = retell.functions.get("book")
    assert function is not None
    request = read_body(encode(TOOL_CALL), "book", function.parameters)
    desks = [
        FunctionDesk(
            Invoker(make_app(RetellBlueprint()), retell),
            make_inbox(database, utc_now, lease=lease),  # type: ignore[arg-type]
        )
        for database in two_databases
    ]
    book.go_on.clear()
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda d=d: answers.append(d.answer(function, request).body))
        for d in desks
    ]
    for thread in threads:
        thread.start()
    threads[0].join(5 * lease)
    assert book.runs == 1
    book.go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == [b'{"run":1}'] * 2


# Where the inbox fails


def break_inbox(
    app: Flask, monkeypatch: pytest.MonkeyPatch, *, after: int = 0
) -> Callable[[], None]:
    """Have the inbox fail, after so many transactions; what it returns makes it whole."""
    database = app.extensions["retell"]["retell"].inbox.database
    write, left = database._write, [after]

    def fail(operation: Any) -> Any:
        if left[0]:
            left[0] -= 1
            return write(operation)
        raise InboxError("The inbox does not answer.")

    monkeypatch.setattr(database, "_write", fail)
    return lambda: monkeypatch.setattr(database, "_write", write)


@pytest.fixture
def broken(
    retell: RetellBlueprint,
    open_app: OpenApp,
    open_url: OpenUrl,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> Flask:
    return use_clock(open_app(retell, open_url("sqlite")), clock, monkeypatch)


def test_while_the_inbox_is_down_functions_run_and_the_process_knows_repeats(
    broken: Flask,
    book: Book,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    repair = break_inbox(broken, monkeypatch)
    assert send(broken, "book", TOOL_CALL).json == {"run": 1}
    assert send(broken, "book", TOOL_CALL).json == {"run": 1}
    assert "Repeats of tool calls are known in this process alone: The inbox does" in caplog.text
    repair()
    clock.tick(DAY - 1)
    assert send(broken, "book", TOOL_CALL).json == {"run": 1}
    (row,) = rows(broken.extensions["retell"]["retell"].inbox.database, "retell_answer")
    assert row["body"]  # other processes know it, too, from now on
    clock.tick(DAY)
    assert send(broken, "book", TOOL_CALL).json == {"run": 2}


def test_fifty_repeats_at_once_run_it_once_while_the_inbox_is_down(
    broken: Flask, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_inbox(broken, monkeypatch)
    answers = Answers()
    for _ in range(50):
        answers.ask(broken)
    assert answers.wait() == [{"run": 1}] * 50
    assert book.runs == 1


def test_a_result_that_cannot_be_written_is_known_in_the_process(
    broken: Flask, book: Book, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    break_inbox(broken, monkeypatch, after=1)
    assert send(broken, "book", TOOL_CALL).json == {"run": 1}
    assert "A result could not be kept in the inbox: The inbox does not answer." in caplog.text
    assert send(broken, "book", TOOL_CALL).json == {"run": 1}


def test_a_failure_while_the_inbox_is_down_is_not_kept(
    broken: Flask, book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_inbox(broken, monkeypatch)
    book.errors = [ValueError("mine")]
    assert send(broken, "book", TOOL_CALL).json == FAILED
    assert send(broken, "book", TOOL_CALL).json == {"run": 2}


def test_log_lines_of_an_outage_are_throttled(
    broken: Flask, book: Book, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    break_inbox(broken, monkeypatch)
    for number in range(15):
        send(broken, "book", tool_call("book", BOOK, f"tool_{number}"))
    assert caplog.text.count("Repeats of tool calls are known in this process alone") == 10


def test_whoever_waits_for_too_long_is_told_of_a_failure(
    two_apps: tuple[Flask, Flask],
    book: Book,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(desk, "_LONGEST_WAIT_SECONDS", 0.2)
    book.go_on.clear()
    answers = Answers()
    answers.ask(two_apps[0])
    assert book.begun.wait(PATIENCE)
    for app in two_apps:
        response = send(app, "book", TOOL_CALL)
        assert (response.status_code, response.json) == (500, FAILED)
    assert caplog.text.count("A repeat of book gave up waiting for the first run") == 2
    book.go_on.set()
    assert answers.wait() == [{"run": 1}]


def test_what_is_kept_in_an_inbox_goes_with_its_call(
    broken: Flask, retell: RetellBlueprint
) -> None:
    @retell.function
    def look(*, call: Call) -> str:
        return call.call_id

    send(broken, "look", tool_call("look", {}))
    inbox = broken.extensions["retell"]["retell"].inbox
    (row,) = rows(inbox.database, "retell_answer")
    assert (row["session"], row["body"], row["token"]) == ("call_1", b"call_1", None)
    assert row["expires_at"] == inbox.clock() + timedelta(days=1)


def test_what_runs_does_not_show_in_the_log_at_what_it_was_asked(
    app: Flask, book: Book, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "said in confidence"
    body = tool_call("book", {"day": secret}, transcript=secret)
    send(app, "book", body)
    send(app, "book", body)
    if app.extensions["retell"]["retell"].inbox is not None:
        break_inbox(app, monkeypatch)
        send(app, "book", tool_call("book", {"day": secret}, "tool_2"))
    assert "Answered a repeat of book" in caplog.text
    assert secret not in caplog.text
    eventually(lambda: book.runs >= 1)
