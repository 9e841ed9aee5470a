"""A host application whose receivers run on Celery, set up as Flask's documentation has it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery, Task
from flask import Flask

from journal import Journal
from retell_flask import Event, RetellBlueprint, Retry, call_ended, event_received

retell = RetellBlueprint()
_journal = Journal(Path(os.environ.get("JOURNAL", os.devnull)))


@event_received.connect_via(retell)
def note(sender: Any, event: Event, **extra: Any) -> None:
    _journal.write("begin", event, "event_received", "note")


@call_ended.connect_via(retell)
def bill(sender: Any, event: Event, **extra: Any) -> None:
    if event.call and event.call.agent_id == "fails_once" and event.attempt == 1:
        raise Retry(after=0.1)
    _journal.write("end", event, "call_ended", "bill")


def celery_init_app(app: Flask) -> Celery:
    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app


def create_app(**config: Any) -> Flask:
    app = Flask("celeryapp")
    app.config.from_mapping(
        CELERY={"broker_url": os.environ.get("BROKER"), "worker_hijack_root_logger": False},
        RETELL_DISPATCH="celery",
    )
    app.config.update(config)
    celery_init_app(app)
    app.register_blueprint(retell)
    return app
