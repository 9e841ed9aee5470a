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
receiver fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..decoding import FAULTS
from .payloads import change, function_request, give_ids, renew, sample

_SUFFIX = ".json"
_INBOUND = ("call_inbound", "chat_inbound")


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
        if self.twins < 1 or self.at < 0:
            raise ValueError("'twins' is at least 1, and 'at' is not below 0")

    @property
    def name(self) -> str:
        """What it is, for a line of a table."""
        return self.send or f"function {self.function}"


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole call: see the module for its form."""

    about: str
    steps: tuple[Step, ...]
    changes: dict[str, Any] = {}
    inbox: dict[str, list[str]] = {}

    def __post_init__(self) -> None:
        times = [step.at for step in self.steps]
        if not times or times != sorted(times):
            raise ValueError("'steps' are in the order of sending, and there is at least one")

    @property
    def seconds(self) -> float:
        """How long it takes at its real pace."""
        return self.steps[-1].at


class Posting(NamedTuple):
    """What is posted to ``path`` below the blueprint's prefix."""

    path: str
    payload: dict[str, Any]


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
    elif isinstance(name, Path) or name.endswith(_SUFFIX):
        data = Path(name).read_bytes()
    else:
        raise ValueError(
            f"There is no scenario {name!r}. Known: {', '.join(scenario_names())}; or the path of "
            f"a {_SUFFIX} file of your own."
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
            rehearsal.posting(step)
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
        self.is_rejected: bool = False

    @property
    def session_id(self) -> str | None:
        """The id of the call or chat, once something was sent of it."""
        return self._changes.get("call_id") or next(iter(self._ids.values()), None)

    def steps(self) -> Iterator[Step]:
        """What is still to be sent: nothing more once the call was rejected."""
        for step in self.scenario.steps:
            if self.is_rejected:
                return
            yield step

    def posting(self, step: Step) -> Posting:
        """What a step sends. Raises ``ValueError``."""
        if step.function is not None:
            payload = function_request(step.function, step.arguments)
            path = f"/functions/{step.function}"
        else:
            payload = sample(step.send or "")
            path = "/inbound" if payload.get("event") in _INBOUND else ""
        if self._started_at is not None:
            payload = renew(payload, started_at=self._started_at)
        give_ids(payload, self._ids)
        changes = self._changes if "call" in payload or "chat" in payload else {}
        return Posting(path, change(payload, {**changes, **step.changes}))

    def heed(self, step: Step, answer: bytes) -> None:
        """Let the answer to an inbound call change what follows, as Retell does."""
        if step.send not in _INBOUND:
            return
        answered = _read_answer(answer, step.send)
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


def _read_answer(answer: bytes, key: str) -> dict[str, Any]:
    try:
        answered = msgspec.json.decode(answer, type=dict[str, dict[str, Any]]).get(key)
    except FAULTS:
        answered = None
    return answered or {}
