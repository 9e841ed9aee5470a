from __future__ import annotations

from base64 import b64encode

import pytest

from call_center import create_app
from call_center.models import db

HERE = {"REMOTE_ADDR": "127.0.0.1"}


@pytest.fixture
def client(app):
    app.config.update(CALL_CENTER_USER="ağent", CALL_CENTER_PASSWORD="pass:wörd ✓")
    return app.test_client()


def header(user, password, encoding="utf-8"):
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode(encoding)).decode()}"}


@pytest.mark.parametrize("path", ["/", "/calls/1", "/tasks", "/outbound", "/no/such/page"])
def test_every_page_asks_for_the_password(client, path):
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Call centre", charset="UTF-8"'
    assert "Please sign in" in answer.text


def test_the_password_may_be_any_text(client):
    assert client.get("/", headers=header("ağent", "pass:wörd ✓")).status_code == 200


def test_older_browsers_send_latin_1(app, client):
    app.config.update(CALL_CENTER_USER="agent", CALL_CENTER_PASSWORD="wörd")
    assert client.get("/", headers=header("agent", "wörd", "latin-1")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        header("ağent", "pass"),
        header("agent", "pass:wörd ✓"),
        header("", ""),
        header("ağent", "pass:wörd ✓\0"),
        header("ağent", "pass:wörd ✓", "utf-16"),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic YWdlbnQ="},
        {"Authorization": "Bearer ✓".encode().decode("latin-1")},
    ],
)
def test_whatever_else_is_sent_is_refused(client, headers):
    assert client.get("/", headers=headers).status_code == 401


def test_an_empty_password_is_none(app, client):
    app.config["CALL_CENTER_PASSWORD"] = ""
    answer = client.get("/", headers=header("ağent", ""))
    assert answer.status_code == 403


def test_without_a_password_the_page_says_what_to_set(app, client):
    app.config["CALL_CENTER_PASSWORD"] = None
    answer = client.get("/", headers=header("ağent", "None"))
    assert answer.status_code == 403
    assert "CALL_CENTER_PASSWORD=" in answer.text


@pytest.mark.parametrize("host", ["localhost:5000", "127.0.0.1", "[::1]:5000", "127.1.2.3"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_who_debugs_here_needs_no_password(app, client, host, address):
    app.debug, app.config["CALL_CENTER_PASSWORD"] = True, None
    answer = client.get("/", headers={"Host": host}, environ_overrides={"REMOTE_ADDR": address})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "address", ["10.0.0.7", "::ffff:10.0.0.7", "fe80::1%eth0", "2001:db8::1", "here.example", ""]
)
def test_others_need_it_also_in_debug(app, client, address):
    app.debug = True
    assert client.get("/", environ_overrides={"REMOTE_ADDR": address}).status_code == 401


def test_without_debug_it_is_needed_here_too(client):
    assert client.get("/", environ_overrides=HERE).status_code == 401


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Real-IP", "::1"),
        ("Forwarded", "for=127.0.0.1"),
        ("X-Forwarded-Host", "localhost"),
        ("Via", "1.1 tunnel"),
        ("CF-Connecting-IP", "127.0.0.1"),
    ],
)
def test_forwarding_headers_open_nothing(app, client, name, value):
    app.debug = True
    far = {"REMOTE_ADDR": "203.0.113.9"}
    assert client.get("/", headers={name: value}, environ_overrides=far).status_code == 401
    # A tunnel on this machine connects from here, for somebody who is not.
    assert client.get("/", headers={name: value}, environ_overrides=HERE).status_code == 401


@pytest.mark.parametrize("host", ["abc.trycloudflare.com", "rebound.example", "localhost.example"])
def test_a_foreign_name_of_this_machine_opens_nothing(app, client, host):
    app.debug = True
    assert client.get("/", headers={"Host": host}, environ_overrides=HERE).status_code == 401


def test_webhooks_health_and_style_sheet_are_open(app, client):
    app.config["CALL_CENTER_PASSWORD"] = None
    assert client.get("/health").json == {"status": "ok"}
    assert client.get("/webhooks/retellai/health").status_code == 200
    assert client.post("/webhooks/retellai", data=b"{}").json == {"error": "Invalid signature"}
    with client.get("/static/style.css") as answer:
        assert answer.status_code == 200


def test_health_says_that_the_database_is_gone():
    app = create_app(TESTING=True, CALL_CENTER_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    answer = app.test_client().get("/health")
    assert (answer.status_code, answer.json) == (503, {"status": "no database"})


def test_health_says_that_the_tables_are_missing():
    app = create_app(TESTING=True, CALL_CENTER_DATABASE_URL="sqlite://")
    with app.app_context():
        db.drop_all()
    assert app.test_client().get("/health").status_code == 503
    app.debug = True
    page = app.test_client().get("/")
    assert (page.status_code, "Try again in a minute" in page.text) == (503, True)


@pytest.mark.parametrize("path", ["/", "/no/such/page", "/outbound"])
def test_pages_run_no_foreign_code_and_leave_no_copies(client, path):
    headers = client.get(path, headers=header("ağent", "pass:wörd ✓")).headers
    policy = headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'self'"
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
