"""The application that writes a journal, on Celery: for gunicorn, the workers and the sweep.

``CELERY_SETTINGS`` is what the host gives its Celery app, as JSON.
"""

from __future__ import annotations

import json
import os

from flask import Flask

import journalapp
from celeryapp import celery_init_app

flask_app = journalapp.create_app()
flask_app.config["CELERY"] = json.loads(os.environ["CELERY_SETTINGS"])
celery_app = celery_init_app(flask_app)


def create_app() -> Flask:
    return flask_app
