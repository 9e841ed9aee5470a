"""The agents at Retell: where they send, and what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from ...client import RetellClient, call_path
from ...errors import ApiError, NotFound
from ...signals import OUTCOMES
from ..advice import connected_receivers
from ..text import plain
from .finding import Finding, Findings, note, ok, problem
from .set_up import SetUp

T = TypeVar("T")

_MOST_AGENTS = 10


class _Kind(NamedTuple):
    """Voice or chat: where its agents are, what they send unasked, and what besides."""

    path: str
    sent: frozenset[str]
    opt_in: frozenset[str]


_TRANSFERS = {"transfer_started", "transfer_bridged", "transfer_cancelled", "transfer_ended"}
_KINDS = (
    _Kind(
        "/get-agent",
        frozenset({"call_started", "call_ended", "call_analyzed"}),
        frozenset({"transcript_updated", *_TRANSFERS}),
    ),
    _Kind(
        "/get-chat-agent",
        frozenset({"chat_started", "chat_ended", "chat_analyzed"}),
        frozenset({"transcript_updated"}),
    ),
)
# It tells each outcome, whatever tells it earlier.
_OUTCOME_CARRIER = "call_ended"


class _Version(msgspec.Struct):
    version: int
    is_published: bool


class _Versions(msgspec.Struct):
    items: list[_Version]


class _Listed(msgspec.Struct):
    agent_id: str


class _Page(msgspec.Struct):
    items: list[_Listed]
    has_more: bool = False


class _Agent(msgspec.Struct):
    """One version of an agent."""

    agent_id: str
    agent_name: str | None = None
    version: int | None = None
    is_published: bool | None = None
    webhook_url: str | None = None
    webhook_events: list[str] | None = None


class _Seen(NamedTuple):
    """An agent at Retell: its newest version, and the one that serves, if any."""

    kind: _Kind
    newest: _Agent
    serving: _Agent | None

    @property
    def name(self) -> str:
        return plain(self.newest.agent_name or self.newest.agent_id, 60)

    @property
    def url(self) -> str | None:
        return self.serving.webhook_url if self.serving else None


def check_agents(set_up: SetUp) -> Findings:
    """Whether the versions that serve send here what the receivers wait for."""
    client = set_up.client
    if client is None:
        return
    known = set_up.inbox.agents() if set_up.inbox is not None else []
    agent_ids, has_more = (known, False) if known else _list(client)
    seen: list[_Seen] = []
    for agent_id in agent_ids[:_MOST_AGENTS]:
        try:
            seen.append(_see(client, agent_id))
        except (ApiError, msgspec.ValidationError, ValueError) as error:
            yield _unseen(agent_id, error)
    # Of agents that nothing was heard of, some may be there for another application.
    some_here = any(set_up.is_webhook(each.url) for each in seen)
    elsewhere = note if some_here and not known else problem
    for each in seen:
        found = [*_check_serving(set_up, each, elsewhere, bool(known)), *_find_draft(each)]
        yield from found or [ok("agents", f"{each.name} sends here what receivers wait for.")]
    if has_more or len(agent_ids) > _MOST_AGENTS:
        yield note(
            "agents",
            f"There are more agents than the {_MOST_AGENTS} that were looked at.",
            "Look at the others in Retell's dashboard.",
        )


def _list(client: RetellClient) -> tuple[list[str], bool]:
    """The workspace's first agents, and whether there are more."""
    page = _ask(client, _Page, "POST", "/v2/list-agents", limit=_MOST_AGENTS)
    return [each.agent_id for each in page.items], page.has_more


def _see(client: RetellClient, agent_id: str, kinds: tuple[_Kind, ...] = _KINDS) -> _Seen:
    """Raises ``ApiError``."""
    kind, *others = kinds
    path = call_path(kind.path, agent_id)
    try:
        newest = _ask(client, _Agent, "GET", path)
    except NotFound:
        if not others:
            raise
        return _see(client, agent_id, tuple(others))
    if newest.is_published is not False:
        return _Seen(kind, newest, newest)
    versions = call_path("/list-agent-versions", agent_id)
    found = _ask(client, _Versions, "GET", versions, sort_order="descending").items
    published = [each.version for each in found if each.is_published]
    serving = _ask(client, _Agent, "GET", path, version=max(published)) if published else None
    return _Seen(kind, newest, serving)


def _ask(client: RetellClient, kind: type[T], method: str, path: str, **params: Any) -> T:
    """Raises ``ApiError``, and ``msgspec.ValidationError`` for what is no such thing."""
    body: Any = {} if method == "POST" else None
    answer = client.request(method, path, json=body, params=params, repeatable=False)
    return msgspec.convert(answer, kind)


def _unseen(agent_id: str, error: Exception) -> Finding:
    name = plain(agent_id, 60)
    if isinstance(error, NotFound):
        return note(
            "agents",
            f"Retell has no agent {name} any more, or not under this API key.",
            "If it is another workspace's: that has keys, and needs a blueprint, of its own.",
        )
    why = str(error) if isinstance(error, ApiError) else "the answer is not to be understood."
    return note("agents", f"{name} could not be looked at: {why}", "Run it again later.")


def _check_serving(
    set_up: SetUp, seen: _Seen, elsewhere: Callable[..., Finding], is_known: bool
) -> Findings:
    """``elsewhere`` says how bad it is that an agent does not send here."""
    serving, here = seen.serving, set_up.webhook_url
    if serving is None:
        yield note(
            "agents",
            f"{seen.name} has no published version, so none that serves calls.",
            "Publish it once its webhook URL is right.",
        )
    elif serving.webhook_url and not set_up.is_webhook(serving.webhook_url):
        yield elsewhere(
            "agents",
            f"{seen.name} sends to {_shown(serving.webhook_url)}, which is not this blueprint.",
            f"If its events belong here, set its webhook URL to {here} and publish it: it counts "
            "instead of the account's. If a proxy maps the path, say how: --public-url",
        )
    elif missing := _find_missing(set_up, seen.kind, serving):
        yield problem(
            "agents",
            f"{seen.name} does not send {', '.join(missing)}, which receivers here wait for.",
            "Add what is missing to its webhook events, and publish it.",
        )
    elif not serving.webhook_url and not is_known:
        yield note(
            "agents",
            f"{seen.name} has no webhook URL of its own, so the account's counts, which the API "
            "does not tell.",
            f"Is that {here}? Look in Retell's dashboard (Webhooks).",
        )


def _find_draft(seen: _Seen) -> Findings:
    newest, serving = seen.newest, seen.serving
    if serving is not None and serving is not newest:
        yield note(
            "agents",
            f"{seen.name} serves with version {serving.version}, and version {newest.version} is "
            "a draft.",
            "What was changed in it, its webhook URL included, holds once it is published.",
        )


def _find_missing(set_up: SetUp, kind: _Kind, agent: _Agent) -> list[str]:
    """What this kind of agent could send, receivers wait for, and it does not send."""
    heard = {name for name, found in connected_receivers(set_up.state).items() if found}
    wanted = {_OUTCOME_CARRIER if name in OUTCOMES else name for name in heard}
    sent = kind.sent if agent.webhook_events is None else agent.webhook_events
    return sorted((wanted & (kind.sent | kind.opt_in)).difference(sent))


def _shown(url: str) -> str:
    """Without what may be a password or a token."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    host = parts.netloc.rpartition("@")[2]
    return plain(parts._replace(netloc=host, query="", fragment="").geturl())
