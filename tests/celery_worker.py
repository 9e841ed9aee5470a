"""What ``celery -A celery_worker worker`` loads."""

from __future__ import annotations

from celeryapp import create_app

flask_app = create_app()
celery_app = flask_app.extensions["celery"]
