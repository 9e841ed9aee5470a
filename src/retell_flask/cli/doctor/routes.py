"""Whether requests reach the blueprint, past all that the application has in front of it."""

from __future__ import annotations

from typing import Any

from flask import Flask, request_started
from werkzeug.exceptions import HTTPException

from .finding import Findings, note, ok, problem
from .set_up import SetUp

# Ours: Flask's own would allow OPTIONS as well. The body may be the host's, by an after_request.
_ANSWER = (405, "POST")
_HOW_TO_EXEMPT = {
    400: "Flask-WTF's CSRF protection answers so: csrf.exempt(retell), of the blueprint. "
    "TRUSTED_HOSTS does, too.",
    404: "Is the blueprint registered for another host or subdomain? --public-url says which.",
    429: "Flask-Limiter answers so: limiter.exempt(retell), of the blueprint.",
}
_OTHERWISE = (
    "Have your before_request functions, login checks and middleware let the blueprint's "
    "endpoints pass ({endpoint} and its neighbours): Retell signs its requests, and cannot log in."
)


def check_routes(set_up: SetUp) -> Findings:
    """Where a request to the webhook's URL ends.

    It is a PUT, which Flask and its extensions treat as they do a POST, and which we refuse
    without a signal or a line in the log.
    """
    app, path = set_up.state.app, set_up.webhook_path
    if "<" in path:
        yield note(
            "routes",
            f"The prefix {path} has variables, so no request to it was tried.",
            "Try one yourself: curl -X PUT, to which 405 is the right answer.",
        )
        return
    if set_up.public_url is None and _depends_on_host(app):
        yield note(
            "routes",
            "The application tells hosts apart, so no request was tried.",
            "Say under which address Retell reaches it: --public-url https://…",
        )
        return
    found = [*_find_other_routes(set_up), *_try_request(set_up)]
    yield from found[:1] or [ok("routes", f"A request to {path} reaches the blueprint.")]


def _depends_on_host(app: Flask) -> bool:
    by_host = app.url_map.host_matching or app.subdomain_matching
    return bool(app.config.get("TRUSTED_HOSTS") or by_host)


def _address(set_up: SetUp) -> dict[str, Any]:
    if set_up.public_url is None:
        return {"path": set_up.webhook_path, "url_scheme": "https"}
    return {"path": set_up.webhook_path, "base_url": set_up.public_url}


def _endpoint(set_up: SetUp) -> str:
    """Of the webhook; a blueprint may be registered within others, and by another name."""
    blueprints = set_up.state.app.blueprints.items()
    name = next(name for name, each in blueprints if each is set_up.state.blueprint)
    return f"{name}.webhook"


def _find_other_routes(set_up: SetUp) -> Findings:
    """A route of the host's that takes our POSTs, and leaves us the PUTs."""
    context = set_up.state.app.test_request_context(method="POST", **_address(set_up))
    try:
        adapter = set_up.state.app.create_url_adapter(context.request)
        endpoint = adapter.match()[0] if adapter is not None else ""
    except HTTPException:
        return  # as the request will show
    if endpoint != _endpoint(set_up):
        yield problem(
            "routes",
            f"POST {set_up.webhook_path} goes to {endpoint}, another route of the application.",
            "Give one of them another address: RetellBlueprint(url_prefix=…)",
        )


def _try_request(set_up: SetUp) -> Findings:
    state = set_up.state
    client = state.app.test_client(use_cookies=False)
    try:
        with request_started.muted():  # which would begin to deliver in this process
            answer = client.put(**_address(set_up))
            found: Any = answer.status_code, answer.headers.get("Allow")
    except Exception as error:  # with TESTING or debug they pass
        found = f"by raising {type(error).__name__}", None
    if found != _ANSWER:
        yield problem(
            "routes",
            f"A request to {set_up.webhook_path} does not reach the blueprint: something before "
            f"it answers {found[0]}.",
            _HOW_TO_EXEMPT.get(found[0], _OTHERWISE.format(endpoint=_endpoint(set_up))),
        )
