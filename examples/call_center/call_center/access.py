"""Who may see the pages: whoever has the password, or sits at the machine that debugs them."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, render_template, request
from flask.typing import ResponseReturnValue
from flask_httpauth import HTTPBasicAuth

# Retell signs its requests, a load balancer has no password, and a style sheet is no secret.
OPEN_BLUEPRINTS = {"retell"}
OPEN_ENDPOINTS = {"pages.health", "static"}

# Whoever is behind one of these is somewhere else, whatever address a tunnel connects from.
FORWARDING_HEADERS = ("forwarded", "via", "x-forwarded-", "x-real-ip", "cf-")  # how they begin

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",  # no copies of what was said, on a disk or in a proxy
}

auth = HTTPBasicAuth()


def protect(app: Flask) -> None:
    """Guard every page of ``app``, also those that are added to it."""
    app.before_request(_guard)
    app.after_request(_add_headers)


def _guard() -> ResponseReturnValue | None:
    if request.blueprint in OPEN_BLUEPRINTS or request.endpoint in OPEN_ENDPOINTS:
        return None
    if current_app.debug and _is_from_this_machine():
        return None
    if not current_app.config["CALL_CENTER_PASSWORD"]:
        return render_template("no_password.html"), 403
    return _ask_for_password()


@auth.login_required
def _ask_for_password() -> None:
    """Let the request through, or have Flask-HTTPAuth answer it."""


@auth.verify_password
def _is_right(user: str, password: str) -> bool:
    is_user = _are_equal(user, current_app.config["CALL_CENTER_USER"])
    return _are_equal(password, current_app.config["CALL_CENTER_PASSWORD"]) and is_user


def _are_equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


@auth.error_handler
def _refuse(status: int) -> ResponseReturnValue:
    text = "Reload the page to give user name and password again."
    page = render_template("error.html", title="Please sign in", text=text)
    return page, status, {"WWW-Authenticate": 'Basic realm="Call centre", charset="UTF-8"'}


def _is_from_this_machine() -> bool:
    """Whether this is a browser here, which also calls this machine by one of its own names.

    A tunnel connects from here, too, and a foreign page's host name can be made to lead here.
    """
    host = urlsplit(f"//{request.host}").hostname
    return (
        (host == "localhost" or _is_loopback(host))
        and _is_loopback(request.remote_addr)
        and not any(name.lower().startswith(FORWARDING_HEADERS) for name, _ in request.headers)
    )


def _is_loopback(address: str | None) -> bool:
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return False
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def _add_headers(response: Response) -> Response:
    if request.blueprint not in OPEN_BLUEPRINTS:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
    return response
