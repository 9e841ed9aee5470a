"""What the checks look at: one blueprint on its app, its inbox, and Retell's API."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import requests

from ...client import RetellClient
from ...errors import ApiError, InboxError, Unreachable
from ...inbox.sqlite import FileDatabase, MemoryDatabase
from ...inbox.store import Inbox, utc_now
from ...settings import DEFAULT_API_URL
from ...state import State
from ..common import is_made

S = TypeVar("S")
T = TypeVar("T")

_PATIENCE_SECONDS = 5.0
NO_TABLES = "It has no tables yet."  # a SQLite file in which the next event makes them
_VARIABLE = re.compile(r"<[^>]+>")
_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")


class Contact(NamedTuple):
    """An answer of Retell's API, or why there is none.

    ``ahead`` is how far this host's clock is before Retell's; None where the answer has no date.
    """

    fault: str = ""
    ahead: timedelta | None = None


@dataclass(frozen=True)
class SetUp:
    """One blueprint, and how much of its surroundings is looked at.

    ``public_url`` is where Retell reaches the application, without the blueprint's prefix.
    """

    state: State
    offline: bool = False
    public_url: str | None = None
    _found: dict[str, Any] = field(default_factory=dict, init=False)

    @property
    def prefix(self) -> str:
        """Of the names of the options."""
        return self.state.blueprint.config_prefix

    @property
    def webhook_path(self) -> str:
        return self.state.url_prefix.rstrip("/") or "/"

    @property
    def webhook_url(self) -> str:
        """The address for Retell, as far as it is known."""
        return f"{self.public_url or 'https://…'}{self.webhook_path}"

    @property
    def api_url(self) -> str:
        return self.state.settings.api_url or DEFAULT_API_URL

    @property
    def is_api_left_out(self) -> bool:
        """Whether somebody wants that Retell's API is not called."""
        is_refused = self.state.app.testing and self.state.settings.api_url is None
        return self.offline or is_refused

    @property
    def inbox_fault(self) -> str:
        """Why the inbox does not answer; empty where it does, or there is none yet."""
        return self._find_once(self._check_inbox, meanwhile="It does not answer in time.")

    @property
    def inbox(self) -> Inbox | None:
        """The inbox, where there is one that answers, and not of this process alone."""
        inbox = self.state.inbox
        if inbox is None or isinstance(inbox.database, MemoryDatabase) or not is_made(inbox):
            return None
        return None if self.inbox_fault else inbox

    @property
    def contact(self) -> Contact | None:
        """None where the API is left out."""
        if self.is_api_left_out:
            return None
        return self._find_once(self._get_in_contact, meanwhile=Contact("no answer in time"))

    @property
    def key_fault(self) -> ApiError | None:
        """What Retell's API has against the key, or against answering at all."""
        return self._find_once(self._try_key, meanwhile=Unreachable("There is no answer in time."))

    @property
    def client(self) -> RetellClient | None:
        """Where Retell's API answers and takes the key."""
        contact = self.contact
        can_ask = contact is not None and not contact.fault and self.state.settings.api_key
        return self.state.client if can_ask and self.key_fault is None else None

    def _find_once(self, find: Callable[[], S], *, meanwhile: T) -> S | T:
        """``meanwhile`` is for checks that come while an earlier one still waits for it."""
        name = find.__name__
        if name not in self._found:
            self._found[name] = meanwhile
            self._found[name] = find()
        found: S | T = self._found[name]
        return found

    def _check_inbox(self) -> str:
        inbox = self.state.inbox
        try:
            if inbox is None or not is_made(inbox):
                return ""
            if isinstance(inbox.database, FileDatabase) and not inbox.database.has_tables():
                return NO_TABLES
            inbox.check()
        except InboxError as error:
            return str(error)
        return ""

    def _get_in_contact(self) -> Contact:
        """Without the key: any answer will do."""
        began = utc_now()
        try:
            with requests.get(
                self.api_url,
                headers={"User-Agent": "retell-flask"},
                auth=lambda request: request,  # or it would look for a password in ~/.netrc
                timeout=_PATIENCE_SECONDS,
                allow_redirects=False,
                stream=True,
            ) as response:
                date = response.headers.get("Date", "")
        except (requests.RequestException, OSError, ValueError) as error:
            return Contact(fault=type(error).__name__)
        return Contact(ahead=_ahead(began, utc_now(), date))

    def _try_key(self) -> ApiError | None:
        try:
            self.state.client.request("GET", "/get-concurrency", repeatable=False)
        except ApiError as error:
            return error
        return None

    def is_webhook(self, url: str | None) -> bool:
        """Whether a URL at Retell is this blueprint's webhook, as far as its host is known."""
        if not url:
            return False
        try:
            found = urlsplit(_PLACEHOLDER.sub("x", url))
            has_named_host = not _PLACEHOLDER.search(urlsplit(url).netloc)
        except ValueError:
            return False
        wanted = urlsplit(self.webhook_url)
        if self.public_url is not None and has_named_host and found[:2] != wanted[:2]:
            return False
        pattern = _VARIABLE.sub("[^/]+", re.escape(wanted.path.rstrip("/")))
        return re.fullmatch(pattern, found.path.rstrip("/")) is not None


def _ahead(began: datetime, ended: datetime, date: str) -> timedelta | None:
    try:
        told = parsedate_to_datetime(date)
        return began + (ended - began) / 2 - told - timedelta(seconds=0.5)  # the seconds are cut
    except (TypeError, ValueError):  # none, or one without a time zone
        return None
