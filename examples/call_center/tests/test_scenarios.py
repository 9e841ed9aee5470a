"""Whole calls leave the same rows, in whatever order and however often their events come."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from call_center import create_app
from call_center.models import ActionItem, Activity, Call, Extraction, Sending, Task, db
from retell_flask.testing import RetellTestClient, scenario_names

UNHAPPY = Path(__file__).parent.parent / "rehearsals" / "unhappy.json"


class Row(NamedTuple):
    """What the call's row says, and how many rows there are of other tables."""

    outcome: str
    reason: str
    sentiment: str | None
    caller: str
    duration_ms: int
    turns: int
    cost_cents: float
    transferred_to: str | None = None
    error_code: str | None = None
    items: int = 0
    activities: int = 1
    alarms: int = 0


AGREED = Row("completed", "agent_hangup", "positive", "+14155550142", 26480, 6, 5.0775)
BROKEN = "error_llm_websocket_lost_connection"
EXPECTED = {
    "completed": AGREED,
    "function": AGREED,
    "inbound": AGREED,
    "out_of_order": AGREED,
    "twins": AGREED,
    "error": Row(
        *("failed", BROKEN, None, "+14155550125", 19870, 4, 2.334, None, BROKEN), activities=0
    ),
    "no_answer": Row(
        *("failed", "dial_no_answer", "unknown", "+14155550177", 0, 0, 0.0, None, "dial_no_answer")
    ),
    "transfer_bridged": Row(
        *("transferred", "call_transfer", "neutral", "+14155550142", 40500, 5, 13.2597),
        "+14155550163",
    ),
    "transfer_failed": Row(
        *("completed", "user_hangup", "neutral", "+14155550142", 61240, 7, 13.4354),
        "+14155550163",
    ),
    "voicemail": Row("voicemail", "voicemail_reached", "unknown", "+14155550177", 14200, 2, 1.75),
    UNHAPPY: Row(
        *("completed", "user_hangup", "negative", "+14155550158", 41060, 7, 8.0514),
        items=1,
        alarms=1,
    ),
}
Rows = Callable[[type[Any]], list[Any]]


def test_every_scenario_is_in_the_table() -> None:
    assert {name for name in EXPECTED if isinstance(name, str)} == {*scenario_names()}


def in_order(bodies: list[bytes]) -> list[bytes]:
    return bodies


def all_twice(bodies: list[bytes]) -> list[bytes]:
    return [body for body in bodies for _ in range(2)]


def backwards_and_twice(bodies: list[bytes]) -> list[bytes]:
    return all_twice(bodies[::-1])


@pytest.fixture
def make_bodies(tmp_path: Path) -> Callable[[str | Path], list[bytes]]:
    """What the events of a call are, as another application got them."""

    def make(name: str | Path) -> list[bytes]:
        database = f"sqlite:///{tmp_path}/another.sqlite3"
        another = create_app(TESTING=True, CALL_CENTER_DATABASE_URL=database)
        with RetellTestClient(another) as client:
            sent = client.send_call(name, check=False)  # there is no function here
        with another.app_context():
            db.engine.dispose()
        return [each.event.raw for each in sent if each.event]

    return make


@pytest.mark.parametrize("play", [in_order, all_twice, backwards_and_twice])
@pytest.mark.parametrize("name", EXPECTED, ids=lambda name: Path(name).stem)
def test_a_call_leaves_its_rows(
    retell_client: RetellTestClient,
    rows: Rows,
    make_bodies: Callable[[str | Path], list[bytes]],
    name: str | Path,
    play: Callable[[list[bytes]], list[bytes]],
) -> None:
    for body in play(make_bodies(name)):
        assert retell_client.post(body).status_code == 200
    (call,) = rows(Call)
    tables = {table: len(rows(table)) for table in (ActionItem, Task, Activity, Sending)}
    found = Row(
        call.outcome,
        call.reason,
        call.sentiment,
        call.caller,
        call.duration_ms,
        len(call.turns),
        call.cost_cents,
        call.transferred_to,
        call.error_code,
        tables[ActionItem],
        tables[Activity],
        tables[Sending],
    )
    assert found == EXPECTED[name]
    assert tables[Task] == tables[ActionItem]
    assert len(rows(Extraction)) == (call.turn_count > 0 and call.outcome != "voicemail")
