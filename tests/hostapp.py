"""The host application that the real servers run."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask

from retell_flask import Event, RetellBlueprint, event_received

retell = RetellBlueprint()


@event_received.connect_via(retell)
def read_everything(sender: Any, event: Event, **extra: Any) -> None:
    print("received", event.type[:20].encode("ascii", "replace"), len(event.payload))


def create_app() -> Flask:
    logging.basicConfig(level=logging.INFO)
    app = Flask("hostapp")
    app.register_blueprint(retell)
    return app
