"""The application whose backlog is drained: two receivers that only count.

Options come from the environment, and Celery's broker as ``BROKER``. For ``flask --app
counting``; started by itself it is ``celery worker``, with its options.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Any

from celery import Celery, Task
from flask import Flask

from calls import LIFECYCLE, SNAPSHOT
from retell_flask import Event, RetellBlueprint

retell = RetellBlueprint()
counted: Counter[str] = Counter()
RECEIVERS = 2


@retell.on("event_received", name="all")
def count(sender: object, event: Event, **extra: object) -> None:
    counted["all"] += 1


@retell.on(*LIFECYCLE, SNAPSHOT, name="of-type")
def count_type(sender: object, event: Event, **extra: object) -> None:
    counted[event.type] += 1


def create_app(**config: Any) -> Flask:
    app = Flask("counting")
    app.config.from_mapping(config)
    app.extensions["celery"] = make_celery(app)
    app.register_blueprint(retell)
    return app


def make_celery(app: Flask) -> Celery:
    """As Flask's documentation has it."""

    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    made = Celery(app.name, task_cls=FlaskTask, broker=os.environ.get("BROKER"))
    made.set_default()
    return made


if __name__ == "__main__":
    create_app().extensions["celery"].worker_main(["worker", *sys.argv[1:]])
