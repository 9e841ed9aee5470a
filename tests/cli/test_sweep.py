"""``sweep``; what it does with a broker is in ``dispatch/test_celery.py``."""

from __future__ import annotations

import time
from collections.abc import Callable

from celery import Celery

from cli.shop import Shop
from servers import free_port


def test_who_has_no_celery_needs_no_sweep(make_shop: Callable[..., Shop]) -> None:
    output = make_shop(RETELL_DISPATCH="threads").run("sweep", code=2)
    assert "RETELL_DISPATCH is not 'celery'" in output


def test_a_broker_that_is_down_is_told(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(RETELL_DISPATCH="celery")
    shop.app.extensions["celery"] = Celery("shop", broker=f"redis://127.0.0.1:{free_port()}/0")
    shop.add("call_ended")
    began = time.monotonic()
    assert "No message was sent" in shop.run("sweep", "--once", code=1)
    assert time.monotonic() - began < 20


def test_what_is_due_and_has_no_message_is_sent(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(RETELL_DISPATCH="celery", RETELL_LEASE="1s")
    shop.app.extensions["celery"] = Celery("shop", broker="memory://")
    shop.add("call_ended")
    shop.later(seconds=2)
    assert shop.run("sweep", "--once") == "1 message sent.\n"
    assert shop.run("sweep", "--once") == "0 messages sent.\n"
