"""Whole calls, as files: what comes when, and how the inbox stands at the end.

A scenario is a JSON object::

    {"about": "One sentence.",
     "changes": {"agent_name": "Front Desk"},
     "steps": [{"at": 0, "send": "call_started"},
               {"at": 9.5, "function": "check_availability", "arguments": {"day": "monday"}},
               {"at": 26.5, "send": "call_ended", "changes": {"duration_ms": 26500}, "twins": 2}],
     "inbox": {"call_started": ["done"], "call_ended": ["done"]}}

``at`` is in seconds since the call began, in the order of sending. ``send`` names a sample,
``changes`` are as ``sample`` takes them: those of the scenario hold for each step about the
call itself. ``twins`` come at the same moment. ``inbox`` has, for each type of event, the
statuses of its entries in the order of arrival (``"done|superseded"``: either), where no
receiver fails; without it they are to be done, all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from ..decoding import FAULTS
from ..events import INBOUND_TYPES
from ..inbox.entry import EntryStatus
from .payloads import (
    change,
    function_request,
    give_ids,
    has_field,
    renew,
    sample,
    session_id_of,
)

_SUFFIX = ".json"
_MOST_TWINS = 64
_LONGEST_SECONDS = 86_400
_DONE = "done|superseded"
_STATUSES = frozenset(status.value for status in EntryStatus)


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that Retell sends: the sample ``send``, or a call of ``function``."""

    at: float = 0
    send: str | None = None
    function: str | None = None
    arguments: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    twins: int = 1

    def __post_init__(self) -> None:
        if (self.send is None) == (self.function is None):
            raise ValueError("a step has either 'send' or 'function'")
        if not 1 <= self.twins <= _MOST_TWINS:
            raise ValueError(f"'twins' is from 1 to {_MOST_TWINS}")
        if not 0 <= self.at <= _LONGEST_SECONDS:
            raise ValueError("'at' is in seconds, from 0 to those of a day")

    @property
    def is_inbound(self) -> bool:
        """Whether its answer changes the rest of the call."""
        return self.send in INBOUND_TYPES

    @property
    def is_event(self) -> bool:
        """Whether its answer says no more than that it was received."""
        return self.send is not None and not self.is_inbound and self.send != "custom_function"

    @property
    def name(self) -> str:
        """What it is, for a line of a table."""
        return self.send or f"function {self.function}"


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole call: see the module for its form."""

    about: str = ""
    steps: tuple[Step, ...]
    changes: dict[str, Any] = {}
    inbox: dict[str, list[str]] | None = None

    def __post_init__(self) -> None:
        times = [step.at for step in self.steps]
        if not times or times != sorted(times):
            raise ValueError("'steps' are in the order of sending, and there is at least one")
        named = {one for each in (self.inbox or {}).values() for one in "|".join(each).split("|")}
        if unknown := sorted(named - _STATUSES - {""}):
            raise ValueError(f"'inbox' names {unknown[0]!r}, which is no status of an event")

    def differs(self, found: Mapping[str, list[str]]) -> dict[str, tuple[str, str]]:
        """By type of event, how the inbox stands and how it should, where that differs."""
        if self.inbox is None:
            expected = {type_: [_DONE] * len(each) for type_, each in found.items()}
        else:
            expected = self.inbox
        return {
            type_: (", ".join(got) or "none", ", ".join(wanted) or "none")
            for type_ in dict.fromkeys((*expected, *found))
            for got, wanted in [(found.get(type_, []), expected.get(type_, []))]
            if not _fit(got, wanted)
        }

    @property
    def seconds(self) -> float:
        """How long it takes at its real pace."""
        return self.steps[-1].at


def _fit(got: list[str], wanted: list[str]) -> bool:
    return len(got) == len(wanted) and all(
        one in several.split("|") for one, several in zip(got, wanted, strict=True)
    )


def scenario_names() -> list[str]:
    """The names of the scenarios that come with the package, sorted."""
    return sorted(
        file.name.removesuffix(_SUFFIX)
        for file in (files(__package__) / "scenarios").iterdir()
        if file.name.endswith(_SUFFIX)
    )


def read_scenario(name: str | Path) -> Scenario:
    """A scenario by its name, or by the path of a file. Raises ``ValueError`` and ``OSError``."""
    if str(name) in scenario_names():
        data = (files(__package__) / "scenarios" / f"{name}{_SUFFIX}").read_bytes()
    elif isinstance(name, Path) or name.endswith(_SUFFIX) or Path(name).is_file():
        data = Path(name).read_bytes()
    else:
        raise ValueError(
            f"There is no scenario {str(name)!r}. Known: {', '.join(scenario_names())}; or the "
            "path of a file of your own."
        )
    try:
        scenario = msgspec.json.decode(data, type=Scenario)
    except FAULTS as error:
        raise ValueError(f"{name} is no scenario: {error}") from None
    _check(scenario, name)
    return scenario


def _check(scenario: Scenario, name: str | Path) -> None:
    rehearsal = Rehearsal(scenario)
    for number, step in enumerate(scenario.steps, 1):
        try:
            rehearsal.payload(step)
        except ValueError as error:
            raise ValueError(f"{name}, step {number}: {error}") from None


class Rehearsal:
    """One run of a scenario: the payloads of one call, one after the other.

    ``changes`` are those of the call in each step about it. Raises ``ValueError``.
    """

    def __init__(
        self,
        scenario: Scenario,
        changes: Mapping[str, Any] | None = None,
        *,
        started_at: datetime | None = None,
    ) -> None:
        self.scenario: Scenario = scenario
        self._changes = {**scenario.changes, **(changes or {})}
        self._started_at = started_at
        self._ids: dict[str, str] = {}
        self.session_id: str | None = None
        """The id of the call or chat, once there is something to send of it."""
        self.is_rejected: bool = False

    def steps(self) -> Iterator[Step]:
        """What is still to be sent: nothing more once the call was rejected."""
        for step in self.scenario.steps:
            if self.is_rejected:
                return
            yield step

    def payload(self, step: Step) -> dict[str, Any]:
        """What a step sends. Raises ``ValueError``."""
        if step.function is not None:
            payload = function_request(step.function, step.arguments)
        else:
            payload = sample(step.send or "")
        if self._started_at is not None:
            payload = renew(payload, started_at=self._started_at)
        give_ids(payload, self._ids)
        changes = _of_inbound(payload, self._changes) if step.is_inbound else self._changes
        payload = change(payload, {**changes, **step.changes})
        self.session_id = session_id_of(payload) or self.session_id
        return payload

    def heed(self, step: Step, answer: bytes) -> None:
        """Let the answer to an inbound call change what follows, as Retell does."""
        if not step.is_inbound:
            return
        answered = _read_answer(answer, step.send or "")
        self.is_rejected = answered.get("reject") is True
        for name, (field, kind) in _TAKEN_OVER.items():
            if isinstance(answered.get(name), kind):
                self._changes[field] = answered[name]


# A version can also be a tag, and then the call has the number that it stands for.
_TAKEN_OVER = {
    "override_agent_id": ("agent_id", str),
    "override_agent_version": ("agent_version", int),
    "dynamic_variables": ("retell_llm_dynamic_variables", dict),
    "metadata": ("metadata", dict),
}


def _of_inbound(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Those changes of a call that are known before there is one."""
    short = {path.removeprefix("call.").removeprefix("chat."): path for path in changes}
    return {name: changes[path] for name, path in short.items() if has_field(payload, name)}


def _read_answer(answer: bytes, key: str) -> dict[str, Any]:
    try:
        answered = msgspec.json.decode(answer, type=dict[str, dict[str, Any]]).get(key)
    except FAULTS:
        answered = None
    return answered or {}
