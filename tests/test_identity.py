from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from blinker import NamedSignal

from retell_flask import RetellBlueprint, call_ended, call_started
from retell_flask.identity import (
    connected,
    identity_of,
)


def handler(sender: Any, **extra: Any) -> None: ...


def another(sender: Any, **extra: Any) -> None: ...


class Handlers:
    def method(self, sender: Any, **extra: Any) -> None: ...

    def __call__(self, sender: Any, **extra: Any) -> None: ...


HERE = __name__


@pytest.mark.parametrize(
    ("receiver", "name"),
    [
        (handler, "handler"),
        (functools.partial(handler, x=1), "handler"),
        (functools.partial(functools.partial(handler)), "handler"),
        (Handlers().method, "Handlers.method"),
        (Handlers(), "Handlers"),
    ],
)
def test_identity_is_module_and_qualified_name(receiver: Any, name: str) -> None:
    assert identity_of(receiver) == f"{HERE}:{name}"


@pytest.mark.parametrize(("run_as", "module"), [("file", "shop"), ("module", "shop")])
def test_main_goes_by_the_name_that_it_is_imported_under(
    run_as: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "import sys\n"
        "from retell_flask.identity import identity_of\n"
        "def handler(sender, **extra): pass\n"
        "sys.stdout.write(identity_of(handler))\n"
    )
    (tmp_path / "shop.py").write_text(source)
    output = _python("shop.py" if run_as == "file" else "-mshop", cwd=tmp_path)
    assert output == f"{module}:handler"


def test_main_of_a_package_goes_by_the_package(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "__main__.py").write_text(
        "from retell_flask.identity import identity_of\n"
        "def handler(sender, **extra): pass\n"
        "print(identity_of(handler), end='')\n"
    )
    assert _python("-mshop", cwd=tmp_path) == "shop:handler"


def _python(argument: str, cwd: Path) -> str:
    return subprocess.run(
        [sys.executable, argument], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout


def test_receivers_come_in_order_of_connection_however_many() -> None:
    signal, sender = NamedSignal("s"), object()
    receivers = [functools.partial(handler, n=n) for n in range(50)]
    for receiver in receivers:
        signal.connect(receiver, sender=sender, weak=False)
    pairs = connected(signal, sender)
    assert [receiver for _, receiver in pairs] == receivers
    assert [identity for identity, _ in pairs][:3] == [
        f"{HERE}:handler",
        f"{HERE}:handler#2",
        f"{HERE}:handler#3",
    ]


def test_bound_methods_and_weak_receivers_are_found() -> None:
    signal, sender, handlers = NamedSignal("s"), object(), Handlers()
    signal.connect(handlers.method)
    signal.connect(handler, sender=sender)
    assert [i for i, _ in connected(signal, sender)] == [
        f"{HERE}:Handlers.method",
        f"{HERE}:handler",
    ]
    assert [i for i, _ in connected(signal, object())] == [f"{HERE}:Handlers.method"]


def test_a_name_takes_the_place_of_the_identity(retell: RetellBlueprint) -> None:
    retell.on("call_ended", name="the-handler")(handler)
    assert connected(call_ended, retell) == [("the-handler", handler)]


def test_a_name_holds_while_the_signal_is_muted(retell: RetellBlueprint) -> None:
    retell.on("call_ended", name="n")(handler)
    with call_ended.muted(), pytest.raises(ValueError, match="named 'n' already"):
        retell.on("call_ended", name="n")(another)


def test_a_receiver_keeps_its_first_name(retell: RetellBlueprint) -> None:
    retell.on("call_ended", name="n")(handler)
    with pytest.raises(ValueError, match="has this receiver by another name"):
        retell.on("call_ended", name="m")(handler)


def test_a_name_of_its_own_needs_no_warning(retell: RetellBlueprint) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        retell.on("call_ended", name="first")(functools.partial(handler))
        retell.on("call_ended", name="second")(functools.partial(handler))
    assert [i for i, _ in connected(call_ended, retell)] == [
        "first",
        "second",
    ]


def test_on_takes_names_and_signals(retell: RetellBlueprint) -> None:
    assert retell.on("call_ended", call_started)(handler) is handler
    for signal in (call_ended, call_started):
        assert connected(signal, retell) == [(f"{HERE}:handler", handler)]


def test_on_holds_a_closure_strongly(retell: RetellBlueprint) -> None:
    retell.on("call_ended")(lambda sender, **extra: None)
    assert len(connected(call_ended, retell)) == 1


def test_on_refuses_signals_that_do_not_exist(retell: RetellBlueprint) -> None:
    with pytest.raises(ValueError, match=r"no signal 'call_endet'. Known: .*call_ended"):
        retell.on("call_endet")
    with pytest.raises(ValueError, match="needs a signal"):
        retell.on()
    for wrong in (handler, ["call_ended"], None):
        with pytest.raises(TypeError, match=r'takes signals or their names: @retell.on\("call_e'):
            retell.on(wrong)  # type: ignore[arg-type]


def test_on_refuses_a_name_that_another_receiver_has(retell: RetellBlueprint) -> None:
    retell.on("call_ended", name="n")(handler)
    retell.on("call_ended", name="n")(handler)  # the same one again
    retell.on("call_started", name="n")(another)  # another signal
    with pytest.raises(ValueError, match="call_ended has a receiver named 'n' already"):
        retell.on("call_started", "call_ended", name="n")(another)
    RetellBlueprint("other").on("call_ended", name="n")(another)  # another blueprint


def test_a_refused_name_connects_nothing(retell: RetellBlueprint) -> None:
    retell.on("call_ended", name="n")(handler)
    with pytest.raises(ValueError, match="already"):
        retell.on("call_started", "call_ended", name="n")(another)
    assert connected(call_started, retell) == []


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 201, "a\nb", 5])
def test_a_name_that_no_database_takes_is_refused(name: Any, retell: RetellBlueprint) -> None:
    with pytest.raises(ValueError, match="1 to 200 printable characters"):
        retell.on("call_ended", name=name)(lambda _, **extra: None)
