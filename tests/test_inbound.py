"""Inbound calls and messages, answered through the routes."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import pytest
from flask import Flask, current_app, g, has_request_context

from retell_flask import (
    ConfigurationError,
    InboundAnswer,
    InboundCall,
    InboundMessage,
    RetellBlueprint,
    inbound_answered,
)
from retell_flask import inbound as inbound_module
from retell_flask.testing import HEADER, Capture, RetellTestClient, capture, sample
from servers import eventually
from support import PATH, SECRET, Post, make_app

CALL, MESSAGE = sample("call_inbound"), sample("chat_inbound")
NUMBER = CALL["call_inbound"]["from_number"]
DEFAULT = InboundAnswer(override_agent_id="agent_default")
DEFAULT_SENT = {"call_inbound": {"override_agent_id": "agent_default"}}
REJECTED = {"call_inbound": {"reject": True}}
BUDGET = 0.2  # seconds
LONG = 30.0
LONGEST_BUDGET = 10.0
PATIENCE = 8.0  # far less than LONG, and what Retell waits

Hang = Callable[[Any], InboundAnswer]


def reject(inbound: Any) -> InboundAnswer:
    return InboundAnswer(reject=True)


def call_from(number: str) -> dict[str, Any]:
    return {"event": "call_inbound", "call_inbound": {"from_number": number, "to_number": "+2"}}


def in_threads(count: int, work: Callable[[], Any]) -> tuple[list[threading.Thread], list[Any]]:
    """Threads that have begun, and the list to which they add what ``work`` returns."""
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(work()), daemon=True) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads, results


def inbound_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "retell-inbound"]


@pytest.fixture(params=["", "/inbound"], ids=["one URL for all", "a URL of its own"])
def post(retell_client: RetellTestClient, request: pytest.FixtureRequest) -> Post:
    return functools.partial(retell_client.post, path=request.param)


@pytest.fixture
def hang() -> Iterator[Hang]:
    """A handler that hangs for 30 s, or until the test is over."""
    over = threading.Event()

    def hang(inbound: Any) -> InboundAnswer:
        over.wait(LONG)
        return InboundAnswer(reject=True)

    yield hang
    over.set()
    for thread in inbound_threads():
        thread.join(PATIENCE)


@pytest.fixture
def hurried(retell: RetellBlueprint) -> Post:
    return RetellTestClient(make_app(retell, RETELL_INBOUND_TIMEOUT=BUDGET)).post


@pytest.fixture
def told(retell: RetellBlueprint) -> Iterator[Capture]:
    with capture(inbound_answered, sender=retell) as told:
        yield told


# Who answers


def test_without_a_handler_nothing_is_overridden_and_the_log_says_why(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    for payload, key in ((CALL, "call_inbound"), (MESSAGE, "chat_inbound")):
        response = post(payload)
        assert (response.status_code, response.json) == (200, {key: {}})
        assert response.content_type == "application/json"
        assert f"No handler of @retell.inbound answers {key}" in caplog.text


def test_a_handler_answers_both_kinds(retell: RetellBlueprint, post: Post) -> None:
    asked: list[Any] = []

    @retell.inbound
    def answer(inbound: InboundCall | InboundMessage) -> InboundAnswer:
        asked.append(inbound)
        return InboundAnswer(metadata={"from": inbound.from_number})

    assert post(CALL).json == {"call_inbound": {"metadata": {"from": NUMBER}}}
    assert post(MESSAGE).json == {"chat_inbound": {"metadata": {"from": NUMBER}}}
    call, message = asked
    assert isinstance(call, InboundCall)
    assert isinstance(message, InboundMessage)
    assert call.event_timestamp == CALL["event_timestamp"]
    assert message.chat_id == MESSAGE["chat_inbound"]["chat_id"]


def test_each_kind_has_a_handler_of_its_own(retell: RetellBlueprint, post: Post) -> None:
    retell.inbound("call")(lambda inbound: InboundAnswer(override_agent_id="calls"))
    retell.inbound("message")(lambda inbound: InboundAnswer(override_agent_id="messages"))
    assert post(CALL).json == {"call_inbound": {"override_agent_id": "calls"}}
    assert post(MESSAGE).json == {"chat_inbound": {"override_agent_id": "messages"}}


def test_the_other_kind_is_not_overridden(retell: RetellBlueprint, post: Post) -> None:
    retell.inbound("call")(reject)
    assert post(MESSAGE).json == {"chat_inbound": {}}


@pytest.mark.parametrize("kinds", [(), ("call", "message")])
def test_a_handler_of_all_kinds_however_it_is_said(
    kinds: Any, retell: RetellBlueprint, post: Post
) -> None:
    assert retell.inbound(*kinds)(reject) is reject
    assert [list(post(each).json.values()) for each in (CALL, MESSAGE)] == [[{"reject": True}]] * 2


def test_each_blueprint_has_handlers_of_its_own(retell: RetellBlueprint) -> None:
    other = RetellBlueprint("other", url_prefix="/other")
    retell.inbound(reject)
    app = make_app(retell, other)
    assert RetellTestClient(app, retell).ask_inbound() == {"reject": True}
    assert RetellTestClient(app, other).ask_inbound() == {}


def test_a_second_handler_of_a_kind_is_refused(retell: RetellBlueprint) -> None:
    retell.inbound("message")(reject)
    with pytest.raises(ConfigurationError, match=r"Inbound messages are answered by .*:reject al"):
        retell.inbound(lambda inbound: None)


def test_a_handler_that_was_refused_answers_no_kind(retell: RetellBlueprint, post: Post) -> None:
    retell.inbound("message")(lambda inbound: None)
    with pytest.raises(ConfigurationError):
        retell.inbound(reject)
    assert post(CALL).json == {"call_inbound": {}}


@pytest.mark.parametrize("kinds", [("sms",), ("call", "chat"), ("call_inbound",), (None,), (5,)])
def test_an_unknown_kind_is_refused(kinds: Any, retell: RetellBlueprint) -> None:
    with pytest.raises(ValueError, match="inbound takes 'call' and 'message', and not"):
        retell.inbound(*kinds)


def test_inbound_decorates_what_can_be_called(retell: RetellBlueprint) -> None:
    with pytest.raises(TypeError, match="inbound decorates a function"):
        retell.inbound("call")(InboundAnswer())  # type: ignore[type-var]


@pytest.mark.parametrize("function", [lambda: None, lambda one, two: None, lambda *, one: None])
def test_a_handler_takes_one_argument(function: Any, retell: RetellBlueprint) -> None:
    with pytest.raises(ConfigurationError, match="it must take one argument"):
        retell.inbound(function)


@pytest.mark.parametrize("default", [{}, None, {"reject": True}, InboundAnswer])
def test_a_default_is_an_inbound_answer(default: Any, retell: RetellBlueprint) -> None:
    with pytest.raises(ConfigurationError, match="default= of inbound must be an InboundAnswer"):
        retell.inbound(default=default)(reject)


def test_the_handler_runs_in_an_app_context_and_outside_of_the_request(
    retell: RetellBlueprint, app: Flask, post: Post
) -> None:
    seen: list[Any] = []
    leak = contextvars.ContextVar("leak", default="nothing")
    app.before_request(lambda: setattr(g, "user", "from the request"))
    app.before_request(lambda: leak.set("from the request") and None)

    @retell.inbound
    def look(inbound: Any) -> None:
        seen.append((current_app.name, has_request_context(), g.get("user"), leak.get()))

    post(CALL)
    assert seen == [("host", False, None, "nothing")]


def test_an_async_handler_answers(retell: RetellBlueprint, post: Post) -> None:
    @retell.inbound
    async def answer(inbound: Any) -> InboundAnswer:
        await asyncio.sleep(0)
        return InboundAnswer(override_agent_id=current_app.name)

    assert post(CALL).json == {"call_inbound": {"override_agent_id": "host"}}


def test_an_object_answers(retell: RetellBlueprint, post: Post) -> None:
    class Desk:
        async def __call__(self, inbound: Any) -> InboundAnswer:
            return InboundAnswer(reject=True)

    retell.inbound(Desk())
    assert post(CALL).json == REJECTED


# What goes out where the handler does not answer


class TimeOut(BaseException):
    """As those of gevent and eventlet are."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("mine"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        FutureTimeoutError(),
        TimeOut(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_handler_that_raises_is_answered_for(
    error: BaseException, retell: RetellBlueprint, post: Post, told: Capture
) -> None:
    @retell.inbound(default=DEFAULT)
    def raises(inbound: Any) -> InboundAnswer:
        raise error

    assert post(CALL).json == DEFAULT_SENT
    assert [each.keywords["fallback"] for each in told] == ["failed"]


def test_an_async_handler_that_raises_is_answered_for(retell: RetellBlueprint, post: Post) -> None:
    @retell.inbound
    async def raises(inbound: Any) -> InboundAnswer:
        raise ValueError("mine")

    assert post(CALL).json == {"call_inbound": {}}


@pytest.mark.parametrize(
    ("returned", "type_name"),
    [
        ({"reject": True}, "dict"),
        ({}, "dict"),
        ("reject", "str"),
        (True, "bool"),
        (InboundAnswer, "StructMeta"),
        ((InboundAnswer(reject=True), 200), "tuple"),
    ],
    ids=["dict", "empty dict", "str", "bool", "class", "tuple"],
)
def test_another_type_than_an_answer_is_refused_here(
    returned: Any,
    type_name: str,
    retell: RetellBlueprint,
    post: Post,
    told: Capture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    retell.inbound(default=DEFAULT)(lambda inbound: returned)
    assert post(CALL).json == DEFAULT_SENT
    assert f" returned a {type_name}, and not an InboundAnswer: its default was" in caplog.text
    assert [(each.keywords["answer"], each.keywords["fallback"]) for each in told] == [
        (DEFAULT, "failed")
    ]


def test_none_stands_for_the_default(retell: RetellBlueprint, post: Post, told: Capture) -> None:
    retell.inbound(default=DEFAULT)(lambda inbound: None)
    assert post(CALL).json == DEFAULT_SENT
    assert [(each.keywords["answer"], each.keywords["fallback"]) for each in told] == [
        (DEFAULT, None)
    ]


@pytest.mark.parametrize(
    "fields",
    [{"dynamic_variables": {"name": None}}, {"metadata": {"a": object()}}, {"reject": 1}],
    ids=lambda fields: next(iter(fields)),
)
def test_an_answer_that_retell_would_discard_never_leaves_the_handler(
    fields: dict[str, Any],
    retell: RetellBlueprint,
    post: Post,
    caplog: pytest.LogCaptureFixture,
) -> None:
    retell.inbound(default=DEFAULT)(lambda inbound: InboundAnswer(**fields))
    assert post(CALL).json == DEFAULT_SENT
    assert next(iter(fields)) in caplog.text  # in the traceback


@pytest.mark.parametrize("field", ["metadata", "agent_override"])
def test_an_answer_that_was_spoilt_after_it_was_made_is_answered_for(
    field: str, retell: RetellBlueprint, post: Post, told: Capture
) -> None:
    @retell.inbound(default=DEFAULT)
    def spoil(inbound: Any) -> InboundAnswer:
        tags: list[object] = []
        answer = InboundAnswer(**{field: {"agent": {"tags": tags}}})  # type: ignore[arg-type]
        tags.append(object())
        return answer

    assert post(CALL).json == DEFAULT_SENT
    assert [each.keywords["fallback"] for each in told] == ["failed"]


def test_a_default_that_was_spoilt_after_it_was_made_is_none(
    retell: RetellBlueprint, hurried: Post
) -> None:
    tags: list[object] = []
    retell.inbound(default=InboundAnswer(metadata={"tags": tags}))(lambda inbound: "wrong")
    tags.append(object())
    response = hurried(CALL)
    assert response.status_code == 200
    assert set(response.json["call_inbound"]) <= {"metadata"}


def test_text_without_a_form_in_utf_8_is_answered_for(retell: RetellBlueprint, post: Post) -> None:
    @retell.inbound(default=DEFAULT)
    def answer(inbound: Any) -> InboundAnswer:
        return InboundAnswer(dynamic_variables={"name": "\ud83d"})

    assert post(CALL).json == DEFAULT_SENT


def test_a_default_is_kept_where_the_function_is_passed_with_it(
    retell: RetellBlueprint, post: Post
) -> None:
    retell.inbound(lambda inbound: None, default=DEFAULT)  # type: ignore[call-overload]
    assert post(CALL).json == DEFAULT_SENT


# In time


def test_a_handler_that_hangs_for_30_s_is_answered_for_within_the_budget(
    retell: RetellBlueprint, hurried: Post, hang: Hang, told: Capture
) -> None:
    retell.inbound(default=DEFAULT)(hang)
    began = time.monotonic()
    assert hurried(CALL).json == DEFAULT_SENT
    assert BUDGET <= time.monotonic() - began < PATIENCE
    assert [(each.keywords["answer"], each.keywords["fallback"]) for each in told] == [
        (DEFAULT, "late")
    ]
    assert told[0].keywords["duration_ms"] >= BUDGET * 1000


def test_an_async_handler_that_hangs_is_answered_for_within_the_budget(
    retell: RetellBlueprint, hurried: Post
) -> None:
    over = threading.Event()

    @retell.inbound
    async def hangs(inbound: Any) -> InboundAnswer:
        while not over.is_set():
            await asyncio.sleep(0.01)
        return InboundAnswer(reject=True)

    assert hurried(CALL).json == {"call_inbound": {}}
    over.set()


def test_the_budget_is_eight_seconds_and_at_most_what_retell_waits(
    app: Flask, retell: RetellBlueprint
) -> None:
    assert app.extensions["retell"]["retell"].settings.inbound_timeout.total_seconds() == 8
    for value in (0, 11, "soon"):
        with pytest.raises(ConfigurationError, match="RETELL_INBOUND_TIMEOUT"):
            make_app(RetellBlueprint(), RETELL_INBOUND_TIMEOUT=value)


def test_a_late_answer_changes_nothing(
    retell: RetellBlueprint, hurried: Post, told: Capture
) -> None:
    answered: list[InboundAnswer] = []
    over = threading.Event()

    @retell.inbound
    def late(inbound: Any) -> InboundAnswer:
        over.wait(LONG)
        answered.append(InboundAnswer(reject=True))
        return answered[0]

    assert hurried(CALL).json == {"call_inbound": {}}
    over.set()
    eventually(lambda: answered and not inbound_threads())
    assert len(told) == 1


def test_a_hundred_hanging_handlers_at_once_are_answered_for_within_the_budget(
    retell: RetellBlueprint, hurried: Post, hang: Hang, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    @retell.inbound(default=DEFAULT)
    def answer(inbound: InboundCall) -> InboundAnswer:
        return hang(inbound) if inbound.from_number == NUMBER else InboundAnswer(reject=True)

    def ask() -> tuple[Any, float]:
        began = time.monotonic()
        return hurried(CALL).json, time.monotonic() - began

    threads, answers = in_threads(100, ask)
    for thread in threads:
        thread.join(LONG)
    assert [answer for answer, _ in answers] == [DEFAULT_SENT] * 100
    assert max(seconds for _, seconds in answers) < PATIENCE
    eventually(lambda: len(inbound_threads()) == 100)
    assert hurried(call_from("+1")).json == REJECTED


@pytest.fixture
def crowded(retell: RetellBlueprint, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """An application that runs two handlers at once, and not two hundred."""
    monkeypatch.setattr(inbound_module, "_MOST_AT_ONCE", 2)
    return make_app(retell, RETELL_INBOUND_TIMEOUT=LONGEST_BUDGET)


class Gate:
    """A handler that hangs for calls from ``NUMBER`` until it is opened."""

    def __init__(self) -> None:
        self.entered = 0
        self.opened = threading.Event()

    def __call__(self, inbound: InboundCall) -> InboundAnswer:
        if inbound.from_number == NUMBER:
            self.entered += 1
            self.opened.wait(LONG)
        return InboundAnswer(reject=True)


@pytest.fixture
def gate(retell: RetellBlueprint) -> Iterator[Gate]:
    gate = Gate()
    retell.inbound(default=DEFAULT)(gate)
    yield gate
    gate.opened.set()
    for thread in inbound_threads():
        thread.join(PATIENCE)


def test_beyond_the_limit_the_default_goes_out_at_once(
    crowded: Flask, gate: Gate, told: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    post = RetellTestClient(crowded).post
    threads, answers = in_threads(2, lambda: post(CALL).json)
    eventually(lambda: gate.entered == 2)
    assert post(call_from("+1")).json == DEFAULT_SENT
    assert [thread.is_alive() for thread in threads] == [True, True]
    assert [each.keywords["fallback"] for each in told] == ["busy"]
    assert "was not called, since 2 handlers run already: its default" in caplog.text
    gate.opened.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert answers == [REJECTED] * 2
    assert post(call_from("+1")).json == REJECTED


def test_a_handler_counts_until_it_ends_and_not_until_it_is_late(
    retell: RetellBlueprint, gate: Gate, monkeypatch: pytest.MonkeyPatch, told: Capture
) -> None:
    monkeypatch.setattr(inbound_module, "_MOST_AT_ONCE", 1)
    post = RetellTestClient(make_app(retell, RETELL_INBOUND_TIMEOUT=BUDGET)).post
    assert post(CALL).json == post(call_from("+1")).json == DEFAULT_SENT
    assert [each.keywords["fallback"] for each in told] == ["late", "busy"]
    gate.opened.set()
    eventually(lambda: post(call_from("+1")).json == REJECTED)


def test_the_limit_is_two_hundred() -> None:
    assert inbound_module._MOST_AT_ONCE == 200


def test_no_thread_stays_where_handlers_answer_or_raise(
    retell: RetellBlueprint, crowded: Flask
) -> None:
    @retell.inbound
    def raises(inbound: InboundCall) -> InboundAnswer:
        if inbound.from_number == NUMBER:
            raise SystemExit(3)
        return InboundAnswer(reject=True)

    post = RetellTestClient(crowded).post
    for _ in range(5):
        post(CALL)
    eventually(lambda: not inbound_threads())
    assert post(call_from("+1")).json == REJECTED


def test_where_no_thread_can_be_had_the_default_goes_out(
    retell: RetellBlueprint, crowded: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    retell.inbound(default=DEFAULT)(reject)
    post = RetellTestClient(crowded).post

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert [post(CALL).json for _ in range(3)] == [DEFAULT_SENT] * 3
    assert post(CALL).json == REJECTED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_the_limit_starts_anew(
    crowded: Flask, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    post = RetellTestClient(crowded).post
    in_threads(2, lambda: post(CALL))
    eventually(lambda: gate.entered == 2)
    child = os.fork()
    if not child:  # no assertion may leave this branch
        try:
            os._exit(0 if post(call_from("+1")).json == REJECTED else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert post(call_from("+1")).json == DEFAULT_SENT


# What is told


def test_the_record_of_an_answer_has_what_came_and_what_went(
    retell: RetellBlueprint, post: Post, told: Capture
) -> None:
    retell.inbound(reject)
    post(CALL)
    ((_, _, _, keywords),) = told
    assert set(keywords) == {"inbound", "answer", "fallback", "duration_ms"}
    assert isinstance(keywords["inbound"], InboundCall)
    assert keywords["inbound"].from_number == NUMBER
    assert keywords["answer"] == InboundAnswer(reject=True)
    assert keywords["fallback"] is None
    assert 0 <= keywords["duration_ms"] < PATIENCE * 1000


def test_nothing_is_told_where_nobody_decides(post: Post, told: Capture) -> None:
    post(CALL)
    assert told == []


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
def test_a_receiver_of_the_record_that_raises_changes_nothing(
    error: BaseException,
    retell: RetellBlueprint,
    post: Post,
    told: Capture,
    caplog: pytest.LogCaptureFixture,
) -> None:
    retell.inbound(reject)

    @retell.on("inbound_answered", name="raising")
    def raises(sender: Any, **extra: Any) -> None:
        raise error

    assert post(CALL).json == REJECTED
    assert len(told) == 1
    assert "raising failed" in caplog.text


def test_a_receiver_of_the_record_that_hangs_holds_no_answer_up(
    retell: RetellBlueprint, retell_client: RetellTestClient
) -> None:
    retell.inbound(reject)
    over = threading.Event()
    retell.on("inbound_answered")(lambda sender, **extra: over.wait(LONG))
    began = time.monotonic()
    assert retell_client.post(CALL).json == REJECTED
    assert time.monotonic() - began < PATIENCE
    over.set()


def test_receivers_of_the_record_that_hang_keep_no_handler_from_being_called(
    retell: RetellBlueprint, crowded: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbound_module, "_REPORT_SECONDS", 0.01)
    retell.inbound(default=DEFAULT)(reject)
    over = threading.Event()
    retell.on("inbound_answered")(lambda sender, **extra: over.wait(LONG))
    try:
        post = RetellTestClient(crowded).post
        assert [post(CALL).json for _ in range(4)] == [REJECTED] * 4
    finally:
        over.set()


def test_the_record_is_told_outside_of_the_request(retell: RetellBlueprint, post: Post) -> None:
    seen: list[Any] = []
    retell.inbound(reject)

    @retell.on("inbound_answered")
    def look(sender: Any, **extra: Any) -> None:
        seen.append((sender, current_app.name, has_request_context()))

    post(CALL)
    assert seen == [(retell, "host", False)]


def test_inbound_webhooks_fire_no_event_and_are_not_stored(
    app: Flask, retell: RetellBlueprint, post: Post, captured: Capture
) -> None:
    retell.inbound(reject)
    post(CALL)
    post(MESSAGE)
    assert captured.signals == ["inbound_answered"] * 2
    stats = app.test_cli_runner().invoke(args=["retell", "stats"])
    assert stats.output.endswith("The inbox is empty.\n")


def test_log_lines_of_failures_are_throttled(
    retell: RetellBlueprint, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    @retell.inbound
    def raises(inbound: Any) -> InboundAnswer:
        raise ValueError("mine")

    for _ in range(15):
        post(CALL)
    lines = [r for r in caplog.records if r.name == inbound_module.__name__]
    assert len(lines) == 10
    message = lines[0].getMessage()
    assert message.endswith(".raises raised an exception: its default was answered")
    assert {line.levelname for line in lines} == {"ERROR"}
    assert "ValueError: mine" in caplog.text


def test_no_log_line_shows_what_came_or_went(
    retell: RetellBlueprint,
    hurried: Post,
    hang: Hang,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "said in confidence"
    answers: list[Any] = [
        InboundAnswer(metadata={"a": secret}),
        {"metadata": {"a": secret}},
        secret,
        None,
        KeyError,
        hang,
    ]

    @retell.inbound(default=InboundAnswer(metadata={"b": secret}))
    def answer(inbound: Any) -> Any:
        wanted = answers.pop(0)
        if wanted is hang:
            return hang(inbound)
        if wanted is KeyError:
            return InboundAnswer(dynamic_variables={"name": [secret]})
        return wanted

    while answers:
        hurried(CALL)
    formatter = logging.Formatter("%(message)s")
    shown = "\n".join(f"{formatter.format(each)} {vars(each)}" for each in caplog.records)
    assert caplog.text.count("its default was answered") == 4
    assert NUMBER not in shown
    assert secret not in shown


# What is refused


def test_the_plain_scheme_is_refused(retell: RetellBlueprint, told: Capture) -> None:
    asked: list[Any] = []
    retell.inbound(asked.append)
    post = RetellTestClient(make_app(retell, RETELL_WEBHOOK_SECRET=SECRET)).post
    for path in ("", "/inbound"):
        response = post(CALL, path, scheme="plain")
        assert (response.status_code, response.json) == (401, {"error": "Invalid signature"})
    assert asked == told == []
    assert post(CALL, key=SECRET).status_code == 200  # by Retell's own scheme


@pytest.mark.parametrize("header", ["", "x", "v=1,d=" + "0" * 64])
def test_the_handler_does_not_hear_of_what_is_not_retell_s(
    header: str, retell: RetellBlueprint, post: Post
) -> None:
    asked: list[Any] = []
    retell.inbound(asked.append)
    assert post(CALL, header=header).status_code == 401
    assert asked == []


@pytest.mark.parametrize("event", ["call_inbound", "chat_inbound"])
@pytest.mark.parametrize(
    "subject", [{}, {"call_inbound": None}, {"chat_inbound": 5}, {"call": {}}]
)
def test_without_its_object_it_is_no_inbound_webhook(
    event: str, subject: dict[str, Any], retell: RetellBlueprint, post: Post
) -> None:
    asked: list[Any] = []
    retell.inbound(asked.append)
    response = post({"event": event, **subject})
    assert response.status_code == 400
    assert response.json == {"error": f"{event} needs an object {event!r}."}
    assert asked == []


@pytest.mark.parametrize("event", ["call_ended", "alert_triggered", "hologram", "custom_function"])
def test_the_url_of_inbound_webhooks_answers_nothing_else(
    event: str, retell_client: RetellTestClient
) -> None:
    payload = {"event": event, "call": {"call_id": "call_1"}, "alert": {}}
    response = retell_client.post(payload, "/inbound")
    assert response.status_code == 400
    assert response.json == {"error": "Only call_inbound and chat_inbound are answered here."}


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_inbound_webhooks_are_posted(method: str, app: Flask) -> None:
    response = app.test_client().open(f"{PATH}/inbound", method=method, headers={HEADER: "x"})
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
