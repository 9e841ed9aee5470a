"""A shop whose handlers run on Celery's workers: the factory of its application."""

from __future__ import annotations

import os

from celery import Celery, Task
from flask import Flask

from .calls import retell


def create_app() -> Flask:
    """The same for gunicorn, for Celery's worker and beat, and for ``flask retell …``."""
    app = Flask(__name__)
    app.config.from_mapping(
        CELERY={
            "broker_url": os.environ.get("CELERY_BROKER_URL", "redis://localhost"),
            "broker_connection_retry_on_startup": True,
            "task_ignore_result": True,
            "worker_prefetch_multiplier": 1,  # a handler may take long: another worker is free
            # With RETELL_CELERY_QUEUE, "options" has to name that "queue" as well.
            "beat_schedule": {
                "retell": {
                    "task": "retell_flask.sweep",
                    "schedule": 10,
                    "options": {"expires": 30},
                },
            },
            "beat_scheduler": "celery.beat:Scheduler",  # an interval needs no file to last
        },
        RETELL_DISPATCH="celery",
    )
    celery_init_app(app)
    app.register_blueprint(retell)
    return app


def celery_init_app(app: Flask) -> Celery:
    """As in Flask's documentation, Background Tasks with Celery."""

    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app
