"""Statements that PostgreSQL could plan badly."""

from __future__ import annotations

from sqlalchemy import create_engine, text

from databases import postgresql
from retell_flask.inbox import statements
from retell_flask.values import inbox_url

WITH_ALL_DONE = """
    INSERT INTO retell_event (id, event_id, blueprint, type, stage, revision, synthetic,
        received_at, status, next_attempt_at, compressed)
    SELECT i, i, 'retell', 'call_ended', 2, 0, false, 1, 'done', 1, false
    FROM generate_series(1, 20000) i
"""
A_DELIVERY_EACH = """
    INSERT INTO retell_delivery (id, entry_id, position, signal, receiver, status, attempts,
        next_attempt_at)
    SELECT i, i, 0, 'call_ended', 'store', '{status}', 1, 1 FROM generate_series({ids}) i
"""


def test_settling_an_entry_reads_no_others_while_many_retries_wait() -> None:
    with postgresql() as url:
        engine = create_engine(inbox_url(url))
        with engine.connect() as connection:
            connection.execute(text(WITH_ALL_DONE))
            connection.execute(text(A_DELIVERY_EACH.format(status="done", ids="1, 10000")))
            connection.commit()
            connection.execute(text("ANALYZE"))
            # An outage since then: the statistics say that nothing is ever pending.
            connection.execute(text(A_DELIVERY_EACH.format(status="pending", ids="10001, 20000")))
            settle = statements.SETTLE_LEASE.compile()
            names = {**settle.params, "entry_id": 1, "token": "t"}
            plan = "\n".join(connection.execute(text(f"EXPLAIN {settle}"), names).scalars())
        engine.dispose()
    assert "Index Scan using retell_delivery_receiver" in plan
    assert "retell_delivery_unfinished" not in plan
