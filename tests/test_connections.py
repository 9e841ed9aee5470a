from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask

from retell_flask import RetellBlueprint, call_ended, webhook_rejected
from retell_flask.identity import connected


def handler(sender: Any, **extra: Any) -> None: ...


def another(sender: Any, **extra: Any) -> None: ...


def generator(sender: Any, **extra: Any) -> Iterator[int]:
    yield 1


def test_a_weak_closure_is_warned_about() -> None:
    def closure(sender: Any, **extra: Any) -> None: ...

    with pytest.warns(RuntimeWarning, match=r"closure is held weakly by call_ended.*module level"):
        call_ended.connect(closure)
    call_ended.disconnect(closure)
    with pytest.warns(RuntimeWarning, match="held weakly"):
        call_ended.connect(lambda sender, **extra: None)


def test_strong_closures_and_module_functions_are_not(retell: RetellBlueprint) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @call_ended.connect_via(retell)
        def closure(sender: Any, **extra: Any) -> None: ...

        with call_ended.connected_to(handler):
            pass


def test_a_second_receiver_of_one_identity_is_warned_about(retell: RetellBlueprint) -> None:
    call_ended.connect(handler, sender=retell)
    call_ended.connect(handler, sender=retell)  # the same one: nothing new
    call_ended.connect(another, sender=retell)
    with pytest.warns(
        RuntimeWarning, match=r'called .*:handler, and both run.*@retell.on\("call_ended", name='
    ):
        call_ended.connect(functools.partial(handler), sender=retell, weak=False)


def test_receivers_of_all_blueprints_are_looked_at_too() -> None:
    first, second = functools.partial(handler), functools.partial(handler)
    call_ended.connect(first)
    with pytest.warns(RuntimeWarning, match="has two receivers called"):
        call_ended.connect(second)


def test_a_factory_that_connects_anew_each_time_is_told_where_to_define_it(
    retell: RetellBlueprint,
) -> None:
    def create_app() -> None:
        @call_ended.connect_via(retell)
        def store(sender: Any, **extra: Any) -> None: ...

    create_app()
    with pytest.warns(RuntimeWarning, match=r"both run.*factory.*define it at module level"):
        create_app()


def test_another_sender_than_a_blueprint_is_warned_about() -> None:
    with pytest.warns(RuntimeWarning, match="only a RetellBlueprint sends it"):
        call_ended.connect(handler, sender=Flask("app"))


def test_what_cannot_be_called_is_refused(retell: RetellBlueprint) -> None:
    with pytest.raises(TypeError, match="decorates a function"):
        retell.on("call_ended")(None)  # type: ignore[type-var]


def test_a_callable_without_a_module_has_an_identity_too(retell: RetellBlueprint) -> None:
    with pytest.warns(RuntimeWarning, match="cannot be called"):
        retell.on("call_ended")((5).__add__)
    assert [identity for identity, _ in connected(call_ended, retell)] == ["builtins:int.__add__"]


@pytest.mark.parametrize(
    "receiver", [lambda event: None, lambda: None, lambda sender, event, needed: None]
)
def test_a_receiver_that_cannot_be_called_is_warned_about(
    receiver: Any, retell: RetellBlueprint
) -> None:
    with pytest.warns(RuntimeWarning, match=r"Define it as \(sender, event, \*\*extra\)"):
        retell.on("call_ended")(receiver)


def test_each_signal_has_keywords_of_its_own(retell: RetellBlueprint) -> None:
    retell.on(webhook_rejected)(lambda sender, status, reason, skew_ms, remote_addr: None)
    retell.on(call_ended)(lambda sender, event: None)
    retell.on("call_started")(Mock())  # whatever it takes


def test_a_generator_that_would_never_run_is_warned_about(retell: RetellBlueprint) -> None:
    with pytest.warns(RuntimeWarning, match="generator has a yield in it"):
        retell.on("call_ended")(generator)


def test_the_warning_points_at_the_line_that_connects(retell: RetellBlueprint) -> None:
    for connect in (
        lambda: retell.on("call_ended")(generator),
        lambda: call_ended.connect_via(RetellBlueprint("b"))(generator),
        lambda: call_ended.connect(generator, sender=RetellBlueprint("c")),
    ):
        with pytest.warns(RuntimeWarning) as caught:
            connect()
        assert caught[0].filename == __file__
