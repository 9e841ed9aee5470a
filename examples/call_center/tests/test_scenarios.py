"""Whole calls leave the same rows, in whatever order and however often their events come."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import pytest
from flask import Flask
from sqlalchemy import select

from call_center import create_app
from call_center.models import ActionItem, Activity, Call, Extraction, Sending, db
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
MOST_ORDERS = 24


@pytest.fixture
def database_url(either_database: str) -> str:
    return either_database


def test_every_scenario_is_in_the_table() -> None:
    assert {name for name in EXPECTED if isinstance(name, str)} == {*scenario_names()}


@pytest.fixture
def make_bodies(tmp_path: Path) -> Callable[[str | Path], Callable[[], list[bytes]]]:
    """The events of a call, as another application got them; each time of another call."""

    def make(name: str | Path) -> Callable[[], list[bytes]]:
        another = create_app(
            TESTING=True, CALL_CENTER_DATABASE_URL=f"sqlite:///{tmp_path}/another"
        )
        with RetellTestClient(another) as client:
            sent = client.send_call(name, check=False)  # there is no function here
        with another.app_context():
            db.engine.dispose()
        bodies = [each.event.raw for each in sent if each.event]
        (call_id,) = {call_id_of(body) for body in bodies}
        return lambda: [
            body.replace(call_id.encode(), new_id.encode())
            for new_id in [f"call_{uuid.uuid4().hex}"]
            for body in bodies
        ]

    return make


def call_id_of(body: bytes) -> str:
    payload = json.loads(body)
    return str((payload.get("call") or payload["call_inbound"])["call_id"])


def in_order(bodies: list[bytes]) -> list[bytes]:
    return bodies


def all_twice(bodies: list[bytes]) -> list[bytes]:
    return [body for body in bodies for _ in range(2)]


def backwards_and_twice(bodies: list[bytes]) -> list[bytes]:
    return all_twice(bodies[::-1])


@pytest.mark.parametrize("play", [in_order, all_twice, backwards_and_twice])
@pytest.mark.parametrize("name", EXPECTED, ids=lambda name: Path(name).stem)
def test_a_call_leaves_its_rows(
    app: Flask,
    retell_client: RetellTestClient,
    make_bodies: Callable[[str | Path], Callable[[], list[bytes]]],
    name: str | Path,
    play: Callable[[list[bytes]], list[bytes]],
) -> None:
    check(app, retell_client, play(make_bodies(name)()), EXPECTED[name])


@pytest.mark.parametrize("name", EXPECTED, ids=lambda name: Path(name).stem)
@pytest.mark.parametrize("either_database", ["sqlite"], indirect=True)
def test_in_any_order_a_call_leaves_the_same_rows(
    app: Flask,
    retell_client: RetellTestClient,
    make_bodies: Callable[[str | Path], Callable[[], list[bytes]]],
    name: str | Path,
) -> None:
    make, rows = make_bodies(name), []
    orders = [*permutations(range(len(make())))]
    for order in random.Random(0).sample(orders, min(len(orders), MOST_ORDERS)):
        bodies = make()
        check(app, retell_client, [bodies[place] for place in order], EXPECTED[name])
        rows.append(row_of(app, call_id_of(bodies[0])))
    assert rows == rows[:1] * len(rows)


def row_of(app: Flask, call_id: str) -> dict[str, str]:
    """All of a call's row but what is different for each call, and how far an attempt at a
    transfer had come when the call ended."""
    with app.app_context():
        call = db.get_or_404(Call, call_id)
        values = {column.name: str(getattr(call, column.name)) for column in Call.__table__.c}
        values["transfer"] = str(call.transfer == "done")
    own = {"call_id", "noted_at", "ranks"}
    return {n: v.replace(call_id, "ID") for n, v in values.items() if n not in own}


def check(app: Flask, client: RetellTestClient, bodies: list[bytes], expected: Row) -> None:
    for body in bodies:
        assert client.post(body).status_code == 200
    with app.app_context():
        call = db.get_or_404(Call, call_id_of(bodies[0]))
        tables = {
            table: list(db.session.scalars(select(table).filter_by(call_id=call.call_id)))
            for table in (ActionItem, Activity, Extraction, Sending)
        }
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
            len(tables[ActionItem]),
            len(tables[Activity]),
            len(tables[Sending]),
        )
        assert found == expected
        assert all(item.task.source == f"Call: {call.call_id}" for item in tables[ActionItem])
        was_searched = call.turn_count > 0 and call.outcome != "voicemail"
        assert len(tables[Extraction]) == was_searched
