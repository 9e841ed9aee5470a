"""A call centre: what Retell's agents did on the phone, and what follows from it."""

from __future__ import annotations

import secrets
from typing import Any

import click
from flask import Flask
from flask_wtf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from . import access
from .commands import commands, make_tables
from .handlers import retell
from .models import db
from .outbound import outbound
from .pages import pages
from .settings import read_settings

csrf = CSRFProtect()


def create_app(**config: Any) -> Flask:
    """The application; ``config`` goes before the environment."""
    app = Flask(__name__)
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.config.from_mapping(
        SESSION_COOKIE_SAMESITE="Lax",
        SQLALCHEMY_ENGINE_OPTIONS={
            "pool_pre_ping": True,  # the database may be restarted
            "hide_parameters": True,  # its errors are logged, and would quote transcripts
        },
        WTF_CSRF_TIME_LIMIT=None,  # pages stay open for long
    )
    app.config.from_mapping(config)
    read_settings(app)
    if not app.config["SECRET_KEY"]:
        app.config["SECRET_KEY"] = secrets.token_hex()
        is_command = click.get_current_context(silent=True) is not None
        if not (app.debug or app.testing or is_command):
            app.logger.warning(
                "SECRET_KEY is not set: after a restart, or by another process, forms are refused"
            )
    is_public = app.config["CALL_CENTER_PUBLIC_URL"].startswith("https://")
    app.config["SESSION_COOKIE_SECURE"] = is_public
    if proxies := int(app.config["CALL_CENTER_PROXIES"]):
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies)
    app.register_blueprint(retell)
    app.register_blueprint(pages)
    app.register_blueprint(outbound)
    app.cli.add_command(commands)
    access.protect(app)
    db.init_app(app)
    csrf.init_app(app)
    csrf.exempt(retell)  # Retell signs its requests
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            make_tables()  # elsewhere by flask call-center init-db
            db.engine.dispose()  # no connection survives a fork of the server's
    return app
