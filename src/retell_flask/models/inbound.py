"""An inbound call or message before it is taken, and the answer that Retell uses.

Fields as in Retell's documentation of the inbound webhook and the types of ``retell-sdk``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import msgspec
from msgspec.structs import force_setattr

from .base import Model, moment
from .variables import dynamic_variables, is_text

_LONGEST_METADATA = 50_000
_OVERRIDES = frozenset({"agent", "retell_llm", "conversation_flow"})


class Inbound(Model, frozen=True, kw_only=True):
    """What inbound calls and messages have in common.

    ``agent_id`` and ``agent_version`` are there if the number has an agent.
    """

    event_type: ClassVar[str]

    from_number: str | None = None
    to_number: str | None = None
    agent_id: str | None = None
    agent_version: int | None = None
    event_timestamp: int | None = None

    @property
    def sent_at(self) -> datetime | None:
        """``event_timestamp`` (ms) as an aware UTC datetime."""
        return moment(self.event_timestamp)


class InboundCall(Inbound, frozen=True, kw_only=True):
    """A call that rings. ``call_id`` is newer, and not always there.

    ``custom_sip_headers`` have lower-case names: ``x-…``, ``diversion`` and others.
    """

    event_type: ClassVar[str] = "call_inbound"

    call_id: str | None = None
    custom_sip_headers: dict[str, str] | None = None


class InboundMessage(Inbound, frozen=True, kw_only=True):
    """A text message that begins a chat. ``chat_id`` is newer, and not always there."""

    event_type: ClassVar[str] = "chat_inbound"

    chat_id: str | None = None


class InboundAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What becomes of an inbound call or message; what is left out stays as it is at Retell.

    ``reject`` ends it, without any event. ``override_agent_id`` and
    ``override_agent_version`` (a number, or a tag such as ``"latest_published"``) choose who
    takes it, ``dynamic_variables`` fill the prompt (numbers and booleans become text),
    ``metadata`` stays with the call, and ``agent_override`` has settings for this call alone
    below ``agent``, ``retell_llm`` and ``conversation_flow``.

    Raises ``TypeError`` or ``ValueError`` for what would make Retell discard the whole answer.
    """

    reject: bool = False
    override_agent_id: str | None = None
    override_agent_version: int | str | None = None
    dynamic_variables: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    agent_override: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.reject, bool):
            raise TypeError("reject must be True or False: Retell takes nothing else for True.")
        if self.override_agent_id is not None and not _is_text(self.override_agent_id):
            raise TypeError("override_agent_id must be the id of an agent.")
        version = self.override_agent_version
        is_number = isinstance(version, int) and not isinstance(version, bool)
        if version is not None and not is_number and not _is_text(version):
            raise TypeError("override_agent_version must be a whole number, or a tag as text.")
        if self.dynamic_variables is not None:
            texts = dynamic_variables(self.dynamic_variables)
            force_setattr(self, "dynamic_variables", texts)
        _check_object("metadata", self.metadata)
        _check_object("agent_override", self.agent_override)
        if (
            self.metadata is not None
            and len(msgspec.json.encode(self.metadata)) > _LONGEST_METADATA
        ):
            raise ValueError("metadata is longer than 50 kB, which Retell does not take.")
        self._check_override()

    def _check_override(self) -> None:
        for name, settings in (self.agent_override or {}).items():
            if name not in _OVERRIDES:
                raise TypeError(
                    "agent_override has 'agent', 'retell_llm' and 'conversation_flow', and "
                    f"{name!r} is none of them."
                )
            _check_object(f"agent_override[{name!r}]", settings, or_none=False)

    def __repr__(self) -> str:
        return f"<InboundAnswer {', '.join(self._set()) or 'without an override'}>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("set", ", ".join(self._set()))]

    def _set(self) -> list[str]:
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return [name for name, value in values.items() if value is not None and value is not False]


def _is_text(value: Any) -> bool:
    return is_text(value) and bool(value.strip())


def _check_object(name: str, value: Any, *, or_none: bool = True) -> None:
    """Raise ``TypeError`` for what has no form in JSON, before it is too late for an answer."""
    if value is None and or_none:
        return
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict, and is of type {type(value).__name__}.")
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise TypeError(f"{name} holds a value that has no form in JSON.") from None
