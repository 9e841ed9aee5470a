"""A local HTTP server that answers as Retell's REST API does."""

from __future__ import annotations

import operator
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from support import KEY

Call = dict[str, Any]
AgentVersion = dict[str, Any]
Answer = tuple[int, Any]
Predicate = Callable[[Call], bool]
Texts = dict[str, str]
E164 = Annotated[str, Meta(pattern=r"\A\+[1-9][0-9]{1,14}\Z")]
# From the least strict to the strictest, which is the only way that an update may go.
Storage = Literal["everything", "everything_except_pii", "basic_attributes_only"]
LIVE = {"registered", "ongoing"}
KEPT = (
    *("from_number", "to_number", "metadata"),
    *("retell_llm_dynamic_variables", "custom_sip_headers"),
)

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    **{name: getattr(operator, name) for name in ("eq", "ne", "gt", "ge", "lt", "le")},
    "sw": str.startswith,
    "ew": str.endswith,
    "co": operator.contains,
    "in": lambda got, listed: got in listed,
    "bt": lambda got, ends: ends[0] <= got <= ends[1],
    "pr": lambda got, _: got is not None,
    "np": lambda got, _: got is None,
}


class Filter(Struct, kw_only=True, tag_field="type"):
    reads: ClassVar[tuple[type, ...]]
    op: str
    value: Any = None
    key: str = ""

    def holds(self, got: Any) -> bool:
        is_readable = not self.reads or type(got) in self.reads
        return is_readable and OPERATORS[self.op](got, self.value)


def kind(tag: str, operators: str, value: Any, *reads: type) -> Any:
    """A filter's type: its operators, its values, and those of the calls that it can match."""
    fields = [("op", Literal[tuple(operators.split())]), *([("value", value)] if value else [])]
    space = {"reads": reads}
    return msgspec.defstruct(tag, fields, bases=(Filter,), tag=tag, kw_only=True, namespace=space)


def one_of(*values: str) -> Any:
    return kind("enum", "in", set[Literal[values]] if values else set[str], str)


NUMBER = kind("number", "eq ne gt ge lt le", float, int, float)
RANGE = kind("range", "bt", tuple[float, float], int, float)
TEXT = kind("string", "eq ne sw ew co", str, str)
BOOLEAN = kind("boolean", "eq", bool, bool)
PRESENT = kind("present", "pr np", None)
KEYED = list[NUMBER | RANGE | TEXT | BOOLEAN | PRESENT | one_of()]


class Agent(Struct):
    agent_id: str
    version: set[float] = set()

    def holds(self, call: Call) -> bool:
        is_version = not self.version or call["agent_version"] in self.version
        return is_version and call["agent_id"] == self.agent_id


FILTERS: dict[str, Any] = {
    "agent": list[Agent],
    "tool_calls": list[Any],
    "call_id": TEXT | one_of(),
    "call_status": one_of("not_connected", "ongoing", "ended", "error"),
    "call_type": one_of("web_call", "phone_call"),
    "data_storage_setting": one_of(*get_args(Storage)),
    "direction": one_of("inbound", "outbound"),
    "user_sentiment": one_of("Negative", "Positive", "Neutral", "Unknown"),
    # Any text is a reason: Retell adds some every month.
    **dict.fromkeys(("agent_tag", "disconnection_reason"), one_of()),
    **dict.fromkeys(("batch_call_id", "from_number", "to_number"), TEXT),
    **dict.fromkeys(("call_successful", "in_voicemail"), BOOLEAN),
    **dict.fromkeys(("combined_cost", "duration_ms", "e2e_latency_p50"), NUMBER | RANGE),
    **dict.fromkeys(("start_timestamp", "end_timestamp"), NUMBER | RANGE),
    **dict.fromkeys(("metadata", "dynamic_variables"), KEYED),
    **dict.fromkeys(("custom_analysis_data", "custom_attributes"), KEYED),
}
# Where a filter looks, unless it is in the field of its own name.
PATHS: dict[str, list[tuple[str, ...]]] = {
    "call_successful": [("call_analysis", "call_successful")],
    "combined_cost": [("call_cost", "combined_cost")],
    "custom_analysis_data": [("call_analysis", "custom_analysis_data")],
    "dynamic_variables": [("retell_llm_dynamic_variables",), ("collected_dynamic_variables",)],
    "e2e_latency_p50": [("latency", "e2e", "p50")],
    "in_voicemail": [("call_analysis", "in_voicemail")],
    "user_sentiment": [("call_analysis", "user_sentiment")],
}
# Nothing fits it; but only between two kinds does msgspec insist on a filter's type.
OTHER = kind("other", "other", Annotated[str, Meta(min_length=1, max_length=0)])
Criteria = msgspec.defstruct(
    "Criteria",
    [(name, each | OTHER | UnsetType, UNSET) for name, each in FILTERS.items()],
    forbid_unknown_fields=True,
    frozen=True,
)


class Page(Struct, forbid_unknown_fields=True):
    filter_criteria: Criteria = Criteria()
    include_total: bool = False
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    # In JSON, bytes are base64: opaque enough.
    pagination_key: bytes = b""
    skip: Annotated[int, Meta(ge=0)] = 0
    sort_order: Literal["ascending", "descending"] = "descending"


class NewCall(Struct, kw_only=True):
    metadata: dict[str, Any] | UnsetType = UNSET
    retell_llm_dynamic_variables: Texts | UnsetType = UNSET


class PhoneCall(NewCall, kw_only=True):
    from_number: str
    to_number: E164
    override_agent_id: str = "agent_1"
    override_agent_version: int | str = 0
    custom_sip_headers: Texts | UnsetType = UNSET
    honor_internal_dnc: bool = False
    idempotency_key: str = ""
    ignore_e164_validation: bool = False


class WebCall(NewCall, kw_only=True):
    agent_id: str
    agent_version: int | str = 0


class Update(Struct):
    metadata: dict[str, Any] | UnsetType = UNSET
    custom_attributes: dict[str, str | int | float | bool] | UnsetType = UNSET
    data_storage_setting: Storage | UnsetType = UNSET


class Query(Struct, forbid_unknown_fields=True):
    """What is read from a URL's query, and not from a body."""


class OfVersion(Query):
    version: int | None = None


class AgentPage(Query):
    limit: Annotated[int, Meta(ge=1)] = 50
    pagination_key: str = ""
    sort_order: Literal["ascending", "descending"] = "descending"


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Recorded(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def predicates(criteria: Any) -> Iterator[Predicate]:
    """One for each filter; a call is listed when all of them hold."""
    filters = msgspec.structs.asdict(criteria)
    if filters.pop("tool_calls") is not UNSET:
        raise Refused(501, "The stand-in cannot filter by tool_calls")
    if (agents := filters.pop("agent")) is not UNSET:
        yield lambda call: any(agent.holds(call) for agent in agents)
    for name, given in filters.items():
        if isinstance(given, list):
            yield from (predicate(name, each, (each.key,)) for each in given)
        elif given is not UNSET:
            yield predicate(name, given)


def predicate(name: str, given: Filter, end: tuple[str, ...] = ()) -> Predicate:
    if "" in end:
        raise Refused(400, f"filter_criteria.{name} needs a key")
    paths = [(*path, *end) for path in PATHS.get(name, [(name,)])]

    def holds(call: Call) -> bool:
        found = (value for path in paths if (value := read(call, path)) is not None)
        return given.holds(next(found, None))

    return holds


def read(call: Call, path: tuple[str, ...]) -> Any:
    value: Any = call
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def position(call: Call) -> tuple[int, str]:
    """Where a call stands in the list; one that has not started yet is the oldest."""
    return call.get("start_timestamp") or 0, call["call_id"]


@dataclass
class RetellApi:
    """What the stand-in holds, what it was asked, and what goes wrong next."""

    url: str = ""
    key: str = KEY
    calls: dict[str, Call] = field(default_factory=dict)
    # Of each agent the versions, the oldest first.
    agents: dict[str, list[AgentVersion]] = field(default_factory=dict)
    requests: list[Recorded] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    clock: Callable[[], float] = time.time
    _created: int = 0
    _repeatable: dict[str, tuple[float, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def create_phone_call(self, body: PhoneCall, _: str) -> Answer:
        if not body.ignore_e164_validation:
            msgspec.convert(body.from_number, E164)
        made, call_id = self._repeatable.get(body.idempotency_key, (0.0, ""))
        if self.clock() - made < 3600 and call_id in self.calls:
            return 201, self.calls[call_id]
        agent = body.override_agent_id, body.override_agent_version
        call = self._add(body, *agent, call_type="phone_call", direction="outbound")
        if body.idempotency_key:
            self._repeatable[body.idempotency_key] = self.clock(), call["call_id"]
        return 201, call

    def create_web_call(self, body: WebCall, _: str) -> Answer:
        token = f"token_{self._created + 1:06}"
        agent = body.agent_id, body.agent_version
        call = self._add(body, *agent, call_type="web_call", access_token=token)
        return 201, {
            "access_token": token,
            "call_id": call["call_id"],
            "expires_at": int(self.clock() * 1000) + 30_000,
            "ice_servers": [{"urls": "stun:127.0.0.1:3478"}],
            "transport": "gateway",
        }

    def get_call(self, _: Any, call_id: str) -> Answer:
        return 200, self._find(call_id)

    def list_calls(self, body: Page, _: str) -> Answer:
        wanted = list(predicates(body.filter_criteria))
        descending = body.sort_order == "descending"
        # A test may add calls while this runs: a copy does not mind.
        calls = self.calls.copy().values()
        found = [call for call in calls if all(holds(call) for holds in wanted)]
        found.sort(key=position, reverse=descending)
        total = {"total": len(found)} if body.include_total else {}
        if body.pagination_key:
            last = msgspec.json.decode(body.pagination_key, type=tuple[int, str])
            is_after = operator.lt if descending else operator.gt
            found = [call for call in found if is_after(position(call), last)]
        end = body.skip + body.limit
        page, has_more = found[body.skip : end], len(found) > end
        items = [{name: call[name] for name in call if "transcript" not in name} for call in page]
        more = {"pagination_key": msgspec.json.encode(position(page[-1]))} if has_more else {}
        return 200, {"items": items, "has_more": has_more, **more, **total}

    def update_call(self, body: Update, call_id: str) -> Answer:
        call, changes = self._find(call_id), msgspec.to_builtins(body)
        if call["call_status"] in LIVE:
            raise Refused(400, "The call has not ended")
        if len(msgspec.json.encode(changes.get("metadata"))) > 50_000:
            raise Refused(400, "metadata is larger than 50 kB")
        settings = [each.get("data_storage_setting") for each in (changes, call)]
        if all(settings) and operator.lt(*map(get_args(Storage).index, settings)):
            raise Refused(400, "data_storage_setting can only become stricter")
        call.update(changes)
        return 200, call

    def stop_call(self, _: Any, call_id: str) -> Answer:
        call = self._find(call_id)
        if call["call_status"] in LIVE:
            call.update(call_status="ended", disconnection_reason="manual_stopped")
        return 204, None

    def delete_call(self, _: Any, call_id: str) -> Answer:
        del self.calls[self._find(call_id)["call_id"]]
        return 204, None

    def get_concurrency(self, _: Any, __: str) -> Answer:
        ongoing = sum(call["call_status"] == "ongoing" for call in self.calls.copy().values())
        return 200, {"current_concurrency": ongoing, "concurrency_limit": 20}

    def rerun_call_analysis(self, _: Any, call_id: str) -> Answer:
        return 201, self._find(call_id)

    def get_agent(self, query: OfVersion, agent_id: str) -> Answer:
        return 200, self._find_version(agent_id, query, is_chat=False)

    def get_chat_agent(self, query: OfVersion, agent_id: str) -> Answer:
        return 200, self._find_version(agent_id, query, is_chat=True)

    def list_agents(self, query: AgentPage, _: str) -> Answer:
        newest = [versions[-1] for versions in self.agents.values()]
        return 200, to_page(newest, query, key="agent_id", to_item=to_listed_agent)

    def list_agent_versions(self, query: AgentPage, agent_id: str) -> Answer:
        versions = self._find_versions(agent_id)
        return 200, to_page(versions, query, key="version", to_item=to_listed_version)

    def answer(self, request: Request) -> Response:
        """What Retell answers when nothing goes wrong."""
        try:
            with self._lock:
                return to_response(*self._dispatch(request))
        except Refused as error:
            return to_response(error.status, to_error(str(error)))
        except msgspec.MsgspecError as error:
            return to_response(400, to_error(str(error)))

    def _dispatch(self, request: Request) -> Answer:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            raise Refused(401, "The API key is not valid")
        path = request.environ["RAW_URI"].partition("?")[0]
        parent, _, last = path.rpartition("/")
        for route, call_id in ((path, ""), (f"{parent}/{{call_id}}", unquote(last))):
            if found := ROUTES.get(f"{request.method} {route}"):
                handle, kind_of_body = found
                return handle(self, to_body(request, kind_of_body), call_id)
        raise Refused(404, f"Cannot {request.method} {path}")

    def _find(self, call_id: str) -> Call:
        if call_id not in self.calls:
            raise Refused(422, f"Call {call_id} is not found")
        return self.calls[call_id]

    def _find_versions(self, agent_id: str) -> list[AgentVersion]:
        if agent_id not in self.agents:
            raise Refused(422, f"Agent {agent_id} is not found")
        return self.agents[agent_id]

    def _find_version(self, agent_id: str, query: OfVersion, *, is_chat: bool) -> AgentVersion:
        for agent in reversed(self._find_versions(agent_id)):
            is_wanted = query.version in (None, agent["version"])
            if is_wanted and ("voice_id" not in agent) == is_chat:
                return agent
        raise Refused(422, f"Agent {agent_id} is not found in this version, or of another kind")

    def _add(self, body: NewCall, agent_id: str, version: int | str, **more: str) -> Call:
        self._created += 1
        call_id, given = f"call_created_{self._created:06}", msgspec.to_builtins(body)
        self.calls[call_id] = {
            "call_id": call_id,
            "call_status": "registered",
            "agent_id": agent_id,
            "agent_version": version if isinstance(version, int) else 0,
            **{name: given[name] for name in KEPT if name in given},
            **more,
        }
        return self.calls[call_id]


ROUTES: dict[str, tuple[Callable[[RetellApi, Any, str], Answer], type[Any]]] = {
    "POST /v2/create-phone-call": (RetellApi.create_phone_call, PhoneCall),
    "POST /v3/create-web-call": (RetellApi.create_web_call, WebCall),
    "GET /v2/get-call/{call_id}": (RetellApi.get_call, dict),
    "POST /v3/list-calls": (RetellApi.list_calls, Page),
    "PATCH /v2/update-call/{call_id}": (RetellApi.update_call, Update),
    "POST /v2/stop-call/{call_id}": (RetellApi.stop_call, dict),
    "DELETE /v2/delete-call/{call_id}": (RetellApi.delete_call, dict),
    "GET /get-concurrency": (RetellApi.get_concurrency, dict),
    "PUT /rerun-call-analysis/{call_id}": (RetellApi.rerun_call_analysis, dict),
    "GET /get-agent/{call_id}": (RetellApi.get_agent, OfVersion),
    "GET /get-chat-agent/{call_id}": (RetellApi.get_chat_agent, OfVersion),
    "POST /v2/list-agents": (RetellApi.list_agents, AgentPage),
    "GET /list-agent-versions/{call_id}": (RetellApi.list_agent_versions, AgentPage),
}


def to_body(request: Request, kind_of_body: type[Any]) -> Any:
    data = request.get_data()
    if data and not request.is_json:
        raise Refused(400, "The body's Content-Type is not application/json")
    if issubclass(kind_of_body, Query):
        if data not in (b"", b"{}"):
            raise Refused(501, "The stand-in reads no body here")
        return msgspec.convert(request.args.to_dict(), kind_of_body, strict=False)
    return msgspec.json.decode(data or b"{}", type=kind_of_body)


def to_page(
    found: list[Any], query: AgentPage, *, key: str, to_item: Callable[[Any], Any]
) -> dict[str, Any]:
    found = sorted(found, key=operator.itemgetter(key), reverse=query.sort_order == "descending")
    start = next((n for n, each in enumerate(found) if str(each[key]) == query.pagination_key), -1)
    page, rest = (found[start + 1 :][: query.limit], found[start + 1 :][query.limit :])
    more = {"pagination_key": str(page[-1][key])} if rest else {}
    return {"items": [*map(to_item, page)], "has_more": bool(rest), **more}


def to_listed_agent(agent: AgentVersion) -> dict[str, Any]:
    return {
        "agent_id": agent["agent_id"],
        "agent_name": agent["agent_name"],
        "channel": "voice" if "voice_id" in agent else "chat",
        "is_suspended": False,
        "tags": {},
        "user_modified_timestamp": agent["last_modification_timestamp"],
    }


def to_listed_version(agent: AgentVersion) -> dict[str, Any]:
    names = ("version", "is_published", "last_modification_timestamp")
    return {name: agent[name] for name in names}


def to_error(message: str) -> dict[str, str]:
    return {"status": "error", "message": message}


def to_response(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    text = body if isinstance(body, str) else msgspec.json.encode(body)
    headers = {"Content-Type": "application/json", **(headers or {})}
    return Response(text if status != 204 else b"", status, headers)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What becomes of one answer; ``processed`` says whether the request has its effect."""

    processed: bool = False

    def spoil(self, answer: Response, connection: socket.socket) -> Response:
        raise NotImplementedError


@dataclass(frozen=True)
class Reply(Fault):
    """This answer: a text as it is, anything else as JSON."""

    status: int
    body: Any = field(default_factory=lambda: to_error("Something went wrong"))
    headers: Mapping[str, str] = field(default_factory=dict)

    def spoil(self, answer: Response, connection: socket.socket) -> Response:
        return to_response(self.status, self.body, self.headers)


@dataclass(frozen=True)
class Silence(Fault):
    """No answer; the connection closes after so long, or once the client gives up."""

    seconds: float

    def spoil(self, answer: Response, connection: socket.socket) -> Response:
        connection.settimeout(self.seconds)
        with suppress(OSError):
            connection.recv(1)
        raise ConnectionAbortedError


@dataclass(frozen=True)
class Reset(Fault):
    """No answer; the connection is reset."""

    def spoil(self, answer: Response, connection: socket.socket) -> Response:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The server's files on the socket would keep it open after its own close().
        socket.close(connection.detach())
        raise ConnectionAbortedError


@dataclass(frozen=True)
class HalfAnswer(Fault):
    """The first half of the right answer, under the length of the whole."""

    processed: bool = True

    def spoil(self, answer: Response, connection: socket.socket) -> Response:
        data = answer.get_data()
        half = Response(data[: len(data) // 2], answer.status, mimetype=answer.mimetype)
        half.content_length = len(data)
        return half


HTML_PAGE = Reply(200, "<!doctype html><title>Sign in</title>", {"Content-Type": "text/html"})
WRONG_SHAPE = Reply(200, [])


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def connection_dropped(self, *_: Any) -> None:
        self.close_connection = True

    def log(self, *_: Any) -> None:
        pass


@contextmanager
def retell_api() -> Iterator[RetellApi]:
    api = RetellApi()

    @Request.application
    def application(request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        path, body = request.environ["RAW_URI"], request.get_data()
        api.requests.append(Recorded(request.method, path, headers, body))
        try:
            fault = api.faults.popleft()
        except IndexError:
            return api.answer(request)
        answer = api.answer(request) if fault.processed else to_response(200, {})
        return fault.spoil(answer, request.environ["werkzeug.socket"])

    class Dated(Handler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(api.clock() if timestamp is None else timestamp)

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Dated)
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()


def make_call(number: int, **changes: Any) -> Call:
    """An ended phone call, begun a minute after the one before; None removes a field."""
    start = 1_767_225_600_000 + number * 60_000
    word = {"word": "Hello", "start": 0.5, "end": 1.0}
    utterance = {"role": "agent", "content": "Hello", "words": [word]}
    call = {
        "call_id": f"call_{number:06}",
        "call_type": "phone_call",
        "call_status": "ended",
        "agent_id": "agent_1",
        "agent_version": 1,
        "direction": "outbound",
        "from_number": "+14155550100",
        "to_number": f"+141555501{number % 100:02}",
        "start_timestamp": start,
        "end_timestamp": start + 30_000,
        "duration_ms": 30_000,
        "disconnection_reason": "user_hangup",
        "transcript": "Agent: Hello\n",
        "transcript_object": [utterance],
        "transcript_with_tool_calls": [utterance],
        "call_analysis": {
            "call_summary": "The agent said hello.",
            "user_sentiment": "Neutral",
            "call_successful": True,
            "in_voicemail": False,
            "custom_analysis_data": {},
        },
        "call_cost": {
            "product_costs": [{"product": "elevenlabs_tts", "cost": 7.5}],
            "total_duration_seconds": 30,
            "total_duration_unit_price": 0.25,
            "combined_cost": 7.5,
        },
    }
    return {name: value for name, value in (call | changes).items() if value is not None}


def make_agent(number: int = 1, **changes: Any) -> AgentVersion:
    """A published version of a voice agent; without ``voice_id`` it is a chat agent's."""
    agent = {
        "agent_id": f"agent_{number}",
        "agent_name": f"Front Desk {number}",
        "voice_id": "11labs-Adrian",
        "response_engine": {"type": "retell-llm", "llm_id": "llm_1", "version": 0},
        "version": 0,
        "is_published": True,
        "last_modification_timestamp": 1_767_225_600_000,
    }
    return {name: value for name, value in (agent | changes).items() if value is not None}
