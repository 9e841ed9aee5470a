"""Where an inbox is, in words, and without a password."""

from __future__ import annotations

from sqlalchemy.engine import URL

from ..errors import InboxError
from ..inbox.sqlite import FileDatabase, MemoryDatabase
from ..state import State
from ..values import Place
from .text import plain


def describe_place(state: State) -> str:
    """The file or database that a blueprint's events are kept in. Connects to nothing."""
    if state.inbox is None:
        return "no inbox"
    database, url = state.inbox.database, state.settings.inbox_url
    if isinstance(database, MemoryDatabase):
        return "the memory of each process"
    if isinstance(database, FileDatabase):
        return f"the SQLite file {plain(str(database.path), 1000)}"
    if isinstance(url, URL):
        return show_url(url)
    try:
        return f"the application's own engine, {show_url(database.engine.url)}"
    except InboxError as error:
        return f"the application's own engine, which is not to be had: {plain(str(error))}"


def show_url(url: URL | Place) -> str:
    """A URL without its passwords, also where they are in its query."""
    if isinstance(url, Place):
        return url.value
    passwords = [name for name in url.query if "pass" in name.lower()]
    shown = url.difference_update_query(passwords)
    return plain(shown.render_as_string(hide_password=True), 1000)
