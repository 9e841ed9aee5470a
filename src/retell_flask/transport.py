"""HTTP to Retell's API: connections, retries, and what went wrong as an exception.

The API key is added as a request is sent, and in nothing that could be printed.
"""

from __future__ import annotations

import logging
import re
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple, Protocol

import msgspec
import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    InvalidHeader,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    ResponseError,
    SSLError,
)
from urllib3.util import Retry

from .decoding import FAULTS, decode_object
from .errors import (
    ApiError,
    BadRequest,
    ConfigurationError,
    KeyRefused,
    NotFound,
    PaymentRequired,
    RateLimited,
    Unreachable,
)
from .forks import ProcessBound, bind_to_process
from .values import Key

_logger = logging.getLogger(__name__)

_RETRIES = 3
_WORTH_ANOTHER_TRY = frozenset({429, 500, 502, 503, 504})
_LONGEST_WAIT_SECONDS = 30.0
_LONG_WAIT_SECONDS = 600.0
_LONG_WAITS = 10
_LONGEST_MESSAGE = 500
_POOL_SIZE = 20

_ERRORS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: KeyRefused,
    402: PaymentRequired,
    403: KeyRefused,
    404: NotFound,
    422: NotFound,
}


# OverflowError is http.client's for lengths beyond reason.
_FAULTS = (requests.RequestException, HTTPError, OSError, ValueError, OverflowError)


class Sender(Protocol):
    """What a client sends with."""

    def send(
        self, method: str, path: str, *, json: Any = None, params: Any = None, repeatable: bool
    ) -> bytes:
        """The body of the answer. Raises ``ApiError``."""


def fits_a_header(api_key: Key) -> bool:
    """Whether a request can be sent under this key."""
    return re.fullmatch(rb"[\x21-\x7e]+", api_key) is not None


class Transport(ProcessBound):
    """Sends requests under one key. Each process has connections of its own."""

    def __init__(self, api_key: Key, url: str, timeout: float) -> None:
        if not fits_a_header(api_key):
            raise ConfigurationError(
                "The API key has a character that no HTTP header can carry. Copy it anew from "
                "Retell's dashboard."
            )
        self._authorization = _Authorization(api_key)
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._of_the_parent: list[Any] = []
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """Leave the parent's connections to it, after a fork."""
        # What nobody frees takes no lock that a thread of the parent's may have held.
        self._of_the_parent.append(vars(self).get("_sessions"))
        self._sessions = {repeatable: _session(repeatable) for repeatable in (False, True)}

    def send(
        self, method: str, path: str, *, json: Any = None, params: Any = None, repeatable: bool
    ) -> bytes:
        """The body of the answer. Raises ``ApiError``.

        What is not ``repeatable`` is sent again only where it certainly never arrived.
        """
        body = None if json is None else msgspec.json.encode(json)
        outcome = self._try(method, path, body, params, repeatable)
        if isinstance(outcome, _Failure):
            what = f"{method} {self._url}{path}: {outcome.text}"
            raise Unreachable(what, may_have_arrived=outcome.may_have_arrived)
        if 200 <= outcome.status_code < 300:
            return _body(outcome)
        raise self._error(outcome, f"{method} {path}")

    def _try(
        self, method: str, path: str, body: bytes | None, params: Any, repeatable: bool
    ) -> requests.Response | _Failure:
        """Errors of the libraries hold the request, and that the key: none leaves this."""
        try:
            return self._sessions[repeatable].request(
                method,
                self._url + path,
                data=body,
                params=params,
                headers={} if body is None else {"Content-Type": "application/json"},
                auth=self._authorization,
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,  # it is read already, see _ReadsAll
            )
        except _FAULTS as error:
            return _failure(error, self._timeout)

    def _error(self, response: requests.Response, what: str) -> ApiError:
        status = response.status_code
        said = self._authorization.remove_from(_message(response))[:_LONGEST_MESSAGE]
        message = f"{what}: {status} {said}".rstrip()
        if status == 429:
            pause = _Policy().get_retry_after(response)
            asked = "" if pause is None else f" (it asks for a pause of {pause:g} s)"
            return RateLimited(message + asked, retry_after=pause)
        return _ERRORS.get(status, ApiError)(message, status)


class PatientTransport:
    """For those whom nobody waits for: waits as long as Retell asks, up to ten minutes."""

    def __init__(self, transport: Sender) -> None:
        self._transport = transport

    def send(self, method: str, path: str, **content: Any) -> bytes:
        """``Transport.send``; ``RateLimited`` for a longer pause, or after many of them."""
        for _ in range(_LONG_WAITS):
            try:
                return self._transport.send(method, path, **content)
            except RateLimited as error:
                asked = error.retry_after
                seconds = _LONGEST_WAIT_SECONDS if asked is None else asked
                if seconds > _LONG_WAIT_SECONDS:
                    raise
            _logger.warning("Retell's API limits requests: waiting %.0f s", seconds)
            time.sleep(seconds)
        return self._transport.send(method, path, **content)


class _Authorization(AuthBase):
    """Also keeps requests from looking for a password in ``~/.netrc``."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # A Key, since the frames of those who send it hold the headers.
        header: Any = Key(b"Bearer " + self._key)
        request.headers["Authorization"] = header
        return request

    def remove_from(self, text: str) -> str:
        return text.replace(self._key.decode("ascii"), "<key>")


class _Policy(Retry):
    """Waits as long as Retell asks, if that is not too long for whoever waits for us."""

    def get_retry_after(self, response: Any) -> float | None:
        try:
            return super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):
            return None

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> Any:
        if isinstance(error, ProxyError) and not _never_arrived(error):
            # urllib3 says so of whatever goes wrong behind a proxy, answers included.
            error = ProtocolError("The connection broke off", error.original_error)
        if response is not None and (self.get_retry_after(response) or 0) > _LONGEST_WAIT_SECONDS:
            raise MaxRetryError(_pool, url or "", ResponseError("asked to wait for too long"))
        try:
            return super().increment(method, url, response, error, _pool, _stacktrace)
        except MaxRetryError as failure:
            earlier = (past.error for past in self.history)
            vars(failure)["arrived_before"] = not all(map(_never_arrived, earlier))
            raise


_REPEATABLE = _Policy(
    total=_RETRIES,
    other=0,
    allowed_methods=None,
    status_forcelist=_WORTH_ANOTHER_TRY,
    backoff_factor=0.5,
    backoff_jitter=0.5,
    raise_on_status=False,
)
_ONCE = _Policy(
    total=_RETRIES,
    read=False,
    status=0,
    other=0,
    respect_retry_after_header=False,
    backoff_factor=0.5,
    backoff_jitter=0.5,
    raise_on_status=False,
)


class _ReadsAll:
    """A connection pool that reads an answer where an error of it is tried again."""

    def urlopen(self, *values: Any, **options: Any) -> Any:
        options.update(preload_content=True, decode_content=True)
        return super().urlopen(*values, **options)  # type: ignore[misc]


class _HttpPool(_ReadsAll, HTTPConnectionPool):
    pass


class _HttpsPool(_ReadsAll, HTTPSConnectionPool):
    pass


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *values: Any, **options: Any) -> None:
        super().init_poolmanager(*values, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *values: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*values, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager


def _body(response: requests.Response) -> bytes:
    body: bytes = response.raw.data
    return body


def _session(repeatable: bool) -> requests.Session:
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"Accept": "application/json", "User-Agent": "retell-flask"})
    adapter = _Adapter(pool_maxsize=_POOL_SIZE, max_retries=_REPEATABLE if repeatable else _ONCE)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return session


def _message(response: requests.Response) -> str:
    """What Retell says, or the status in words."""
    try:
        text = decode_object(_body(response)).get("message")
    except FAULTS:
        text = None
    return text if isinstance(text, str) and text else response.reason or ""


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (NameResolutionError, "its host name was not found"),
    (NewConnectionError, "no connection: it was refused, or there is no way there"),
    (ConnectTimeoutError, "no connection within {timeout:g} s"),
    (ReadTimeoutError, "no answer within {timeout:g} s"),
    (SSLError, "no TLS connection: is its certificate good, and does it speak TLS at all?"),
    (ProxyError, "the proxy makes no connection"),
    (ProtocolError, "the connection broke off"),
)


class _Failure(NamedTuple):
    """Why there is no answer."""

    text: str
    may_have_arrived: bool


def _failure(error: Exception, timeout: float) -> _Failure:
    """In our own words, since those of the libraries quote what was sent."""
    cause = error.args[0] if error.args else error
    reason = getattr(cause, "reason", cause)
    known = (text for kind, text in _REASONS if isinstance(reason, kind))
    text = next(known, f"it failed with {type(error).__name__}").format(timeout=timeout)
    arrived = getattr(cause, "arrived_before", False) or not _never_arrived(reason)
    return _Failure(text, arrived)


def _never_arrived(error: object) -> bool:
    """Whether no connection came about."""
    if isinstance(error, ProxyError):
        original = error.original_error
        return _never_arrived(original) or "Tunnel connection failed" in str(original)
    return isinstance(error, (ConnectTimeoutError, NewConnectionError))
