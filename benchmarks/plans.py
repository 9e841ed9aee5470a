"""The plans of the statements that were executed, as the database itself tells them."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine, event

from retell_flask.inbox.store import Inbox

Statement = tuple[str, Any]


@contextlib.contextmanager
def listening() -> Iterator[list[Statement]]:
    """What all engines execute meanwhile, each statement once."""
    heard: dict[str, Any] = {}

    def listen(connection: Any, cursor: Any, statement: str, values: Any, *_: object) -> None:
        if "retell_" in statement:
            heard.setdefault(statement, values)

    event.listen(Engine, "before_cursor_execute", listen)
    found: list[Statement] = []
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
        found.extend(heard.items())


def show(inbox: Inbox, title: str, action: Callable[[], object]) -> None:
    """Do something, and print what it executed and the plan of each."""
    with listening() as statements:
        action()
    print(f"\n-- {title}")
    for statement, values in statements:
        print(textwrap.fill(" ".join(statement.split()), 110, subsequent_indent="    "))
        for line in _plan(inbox, statement, values):
            print(f"        | {line}")


def _plan(inbox: Inbox, statement: str, values: Any) -> Iterator[str]:
    is_sqlite = inbox.database.dialect == "sqlite"
    explain = "EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN "
    with inbox.database.engine.connect() as connection:
        rows = connection.exec_driver_sql(explain + statement, values).all()
        connection.rollback()
    depths: dict[int, int] = {0: 0}
    for row in rows:
        if not is_sqlite:
            yield row[0]
            continue
        depths[row[0]] = depths.get(row[1], 0) + 1
        yield "  " * (depths[row[0]] - 1) + row[3]
