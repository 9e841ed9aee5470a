"""The inbox: there, writable, of the right version, and fit to outlast a power cut."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection, func, select

from ...errors import InboxError
from ...inbox.sqlite import FileDatabase, MemoryDatabase, is_safe_in_wal
from ...inbox.statements import PROBE
from ...inbox.store import Inbox
from ..common import is_made
from ..place import describe_place
from ..text import age
from .api import SET_CLOCKS
from .finding import Findings, note, ok, problem
from .set_up import NO_TABLES, SetUp

_NEWER_SQLITE = "pip install 'retell-flask[sqlite]'"
_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


def check_inbox(set_up: SetUp) -> Findings:
    """Whether events are kept, and can be."""
    inbox = set_up.state.inbox
    if inbox is None:
        yield note(
            "inbox",
            f"There is none ({set_up.prefix}_INBOX_URL): what receivers fail on is left to "
            "Retell's few attempts, repeats are not found, and nothing is kept.",
            f"Leave {set_up.prefix}_INBOX_URL out for a SQLite file.",
        )
    elif isinstance(inbox.database, MemoryDatabase):
        yield from _check_memory(set_up)
    elif not is_made(inbox) and isinstance(inbox.database, FileDatabase):
        yield from _check_directory(set_up, inbox.database.path)
    else:
        yield from _check_writing(set_up, inbox)


def _check_memory(set_up: SetUp) -> Findings:
    if set_up.state.app.testing:
        yield ok("inbox", "In the memory of this process, since TESTING is on.")
    else:
        yield problem(
            "inbox",
            "In the memory of each process: what was acknowledged is lost when it ends.",
            f"Leave {set_up.prefix}_INBOX_URL out for a SQLite file, or name a database.",
        )


def _check_directory(set_up: SetUp, path: Path) -> Findings:
    nearest = next(directory for directory in path.parents if directory.exists())
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        yield problem(
            "inbox",
            f"{describe_place(set_up.state)} cannot be made: {nearest} cannot be written "
            f"({error.strerror}).",
            f"Let the application's user write there, or set {set_up.prefix}_INBOX_URL.",
        )
    else:
        yield ok("inbox", f"Not made yet; the first event makes {describe_place(set_up.state)}.")


def _check_writing(set_up: SetUp, inbox: Inbox) -> Findings:
    place, fault = describe_place(set_up.state), set_up.inbox_fault
    if fault == NO_TABLES:
        yield note(
            "inbox",
            f"In {place}, which has no tables: the next event makes them.",
            "If events came already, they were in another file, or this one was emptied.",
        )
        return
    fault = fault or _try_writing(inbox)
    if not fault:
        yield ok("inbox", f"In {place}, which can be written.")
        return
    yield problem(
        "inbox",
        f"In {place}, which cannot be used: {fault}",
        "Until it is, webhooks are answered 503, and Retell gives them up after a few attempts. "
        f"Where nothing to run is named: is {set_up.prefix}_INBOX_URL right, is the server up, "
        "the disk full, the file writable?",
    )


def _try_writing(inbox: Inbox) -> str:
    try:
        inbox.database.write(lambda connection: connection.execute(PROBE) and None)
    except InboxError as error:
        return str(error)
    return ""


def check_durability(set_up: SetUp) -> Findings:
    """Whether what was acknowledged outlasts a power cut."""
    inbox = set_up.inbox
    if inbox is None:
        return
    is_sqlite = inbox.database.dialect == "sqlite"
    found = list(_check_sqlite(set_up, inbox) if is_sqlite else _check_postgresql(inbox))
    yield from found or [ok("durability", "What is acknowledged outlasts a power cut.")]


def _check_sqlite(set_up: SetUp, inbox: Inbox) -> Findings:
    def look(connection: Connection) -> tuple[str, int, str]:
        return (
            connection.exec_driver_sql("PRAGMA journal_mode").scalar_one(),
            connection.exec_driver_sql("PRAGMA synchronous").scalar_one(),
            connection.exec_driver_sql("SELECT sqlite_version()").scalar_one(),
        )

    journal_mode, synchronous, version = inbox.database.read(look)
    is_ours = isinstance(inbox.database, FileDatabase)
    if not is_safe_in_wal(tuple(map(int, version.split(".")))):
        if journal_mode == "wal":
            yield problem(
                "durability",
                f"SQLite {version} can lose commits in WAL mode, in which the file is.",
                f"Take SQLite 3.51.3 or later in all processes: {_NEWER_SQLITE}"
                if is_ours
                else "Take SQLite 3.51.3 or later, or another journal mode.",
            )
        elif is_ours:
            yield note(
                "durability",
                f"SQLite {version} can lose commits in WAL mode, so the inbox does without it.",
                f"A newer SQLite makes it faster: {_NEWER_SQLITE}",
            )
    if synchronous < _SYNCHRONOUS.index("FULL"):
        yield note(
            "durability",
            f"SQLite's synchronous is {_SYNCHRONOUS[synchronous]}: a power cut loses the last "
            "events that were acknowledged.",
            f'Set {set_up.prefix}_SQLITE_SYNCHRONOUS = "FULL".'
            if is_ours
            else "Have your engine's connections begin with PRAGMA synchronous=FULL.",
        )


def _check_postgresql(inbox: Inbox) -> Findings:
    asked = select(*map(func.current_setting, _OFF))
    settings = inbox.database.read(lambda connection: connection.execute(asked).one())
    for (name, (level, then)), setting in zip(_OFF.items(), settings, strict=True):
        if setting == "off":
            yield level(
                "durability",
                f"PostgreSQL's {name} is off: {then}.",
                f"Set {name} = on, in postgresql.conf or for the inbox's role.",
            )


_OFF = {
    "synchronous_commit": (note, "a crash of the server loses the last events"),
    "fsync": (problem, "a power cut can ruin the whole database"),
}


def check_database_clock(set_up: SetUp) -> Findings:
    """The clock of this host against that of the database's."""
    inbox = set_up.inbox
    if inbox is None or inbox.database.dialect == "sqlite":
        return
    began = inbox.clock()
    told = inbox.database.read(lambda c: c.execute(select(func.clock_timestamp())).scalar_one())
    skew = abs(began + (inbox.clock() - began) / 2 - told)
    limit = inbox.settings.lease / 3
    if skew > limit:
        yield problem(
            "clock",
            f"This host's clock and the database's are {age(skew)} apart, more than a third of "
            f"{set_up.prefix}_LEASE, so events may be run by two at once.",
            SET_CLOCKS,
        )
    else:
        bound = timedelta(seconds=max(1, int(limit.total_seconds())))
        yield ok("clock", f"This host's clock agrees with the database's to within {age(bound)}.")
