"""HTTP to Retell's API: connections, retries, and what went wrong as an exception.

The API key is added as a request is sent, and in nothing that could be printed.
"""

from __future__ import annotations

import logging
import re
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol

import msgspec
import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
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
_LONG_WAIT_SECONDS = 300.0
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


class Sender(Protocol):
    """What a client sends with."""

    def send(
        self, method: str, path: str, *, json: Any = None, params: Any = None, repeatable: bool
    ) -> bytes:
        """The body of the answer. Raises ``ApiError``."""


class Transport(ProcessBound):
    """Sends requests under one key. Each process has connections of its own."""

    def __init__(self, api_key: Key, url: str, timeout: float) -> None:
        if not re.fullmatch(rb"[\x21-\x7e]+", api_key):
            raise ConfigurationError(
                "The API key has a character that no HTTP header can carry. Copy it anew from "
                "Retell's dashboard."
            )
        self._authorization = _Authorization(api_key)
        self._url = url.rstrip("/")
        self._timeout = timeout
        self.begin_anew()
        bind_to_process(self)

    def begin_anew(self) -> None:
        """Leave the parent's connections to it, after a fork."""
        self._sessions = {repeatable: _session(repeatable) for repeatable in (False, True)}

    def send(
        self, method: str, path: str, *, json: Any = None, params: Any = None, repeatable: bool
    ) -> bytes:
        """The body of the answer. Raises ``ApiError``.

        What is not ``repeatable`` is sent again only where it certainly never arrived.
        """
        body = None if json is None else msgspec.json.encode(json)
        failure: Exception | None = None
        try:
            response = self._sessions[repeatable].request(
                method,
                self._url + path,
                data=body,
                params=params,
                headers={} if body is None else {"Content-Type": "application/json"},
                auth=self._authorization,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except (requests.RequestException, HTTPError) as error:
            failure = error
        if failure is not None:
            # Outside of the except clause: their errors hold the request, and that the key.
            text = _describe(failure, self._timeout)
            del failure
            raise Unreachable(f"{method} {path}: {text}.")
        if 200 <= response.status_code < 300:
            return response.content
        raise self._error(response, f"{method} {path}")

    def _error(self, response: requests.Response, what: str) -> ApiError:
        status = response.status_code
        message = f"{what}: {status} {self._authorization.remove_from(_message(response))}"
        if status == 429:
            return RateLimited(message, retry_after=_Policy().get_retry_after(response))
        return _ERRORS.get(status, ApiError)(message, status)


class PatientTransport:
    """For those whom nobody waits for: is told to wait by Retell, and does."""

    def __init__(self, transport: Sender) -> None:
        self._transport = transport

    def send(self, method: str, path: str, **content: Any) -> bytes:
        """``Transport.send``; ``RateLimited`` is raised only after some long waits."""
        for _ in range(_LONG_WAITS):
            try:
                return self._transport.send(method, path, **content)
            except RateLimited as error:
                seconds = min(error.retry_after or _LONGEST_WAIT_SECONDS, _LONG_WAIT_SECONDS)
            _logger.warning("Retell's API limits requests: waiting %.0f s", seconds)
            time.sleep(seconds)
        return self._transport.send(method, path, **content)


class _Authorization(AuthBase):
    """Also keeps requests from looking for a password in ``~/.netrc``."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = b"Bearer " + self._key  # type: ignore[assignment]
        return request

    def remove_from(self, text: str) -> str:
        return text.replace(self._key.decode("ascii"), "<key>")


class _Policy(Retry):
    """Waits as long as Retell asks, if that is not too long for whoever waits for us."""

    def get_retry_after(self, response: Any) -> float | None:
        try:
            return super().get_retry_after(response)
        except InvalidHeader:
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
        if response is not None and (self.get_retry_after(response) or 0) > _LONGEST_WAIT_SECONDS:
            raise MaxRetryError(_pool, url or "", ResponseError("asked to wait for too long"))
        return super().increment(method, url, response, error, _pool, _stacktrace)


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


def _session(repeatable: bool) -> requests.Session:
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"Accept": "application/json", "User-Agent": "retell-flask"})
    adapter = HTTPAdapter(
        pool_maxsize=_POOL_SIZE, max_retries=_REPEATABLE if repeatable else _ONCE
    )
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return session


def _message(response: requests.Response) -> str:
    """What Retell says, or the status in words."""
    try:
        text = decode_object(response.content).get("message")
    except FAULTS:
        text = None
    return text[:_LONGEST_MESSAGE] if isinstance(text, str) and text else response.reason or ""


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (NameResolutionError, "its host name was not found"),
    (NewConnectionError, "no connection: it was refused, or there is no way there"),
    (ConnectTimeoutError, "no connection within {timeout:g} s"),
    (ReadTimeoutError, "no answer within {timeout:g} s"),
    (SSLError, "no TLS connection: is the certificate good, and no proxy in between?"),
    (ProxyError, "the proxy makes no connection"),
    (ProtocolError, "the connection broke off"),
)


def _describe(failure: Exception, timeout: float) -> str:
    """In our own words, since those of the libraries quote what was sent."""
    reason = failure.args[0] if failure.args else failure
    reason = getattr(reason, "reason", reason)
    known = (text for kind, text in _REASONS if isinstance(reason, kind))
    return next(known, f"it failed with {type(failure).__name__}").format(timeout=timeout)
