from __future__ import annotations

import functools
import gc
import gzip
import io
import json
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, current_app, has_request_context, request
from flask_limiter import Limiter
from flask_wtf import CSRFProtect
from werkzeug.test import EnvironBuilder

from databases import rows
from retell_flask import (
    ConfigurationError,
    Event,
    GiveUp,
    RetellBlueprint,
    Retry,
    call_ended,
    webhook_rejected,
)
from retell_flask.inbox.store import Inbox
from retell_flask.signals import SIGNALS
from retell_flask.testing import HEADER, Capture, RetellTestClient, capture, encode, sample, sign
from support import KEY, PATH, SECRET, UNSIGNED, Post, call_payload, make_app, make_post

ENDED = call_payload("call_ended")
RECEIVED = {"received": True}
INVALID = {"error": "Invalid signature"}


@pytest.mark.parametrize("path", ["", "/"])
def test_an_event_is_received_with_and_without_the_slash(path: str, post: Post) -> None:
    response = post(ENDED, path)
    assert response.request.path == PATH + path
    assert (response.status_code, response.json) == (200, RECEIVED)
    assert response.content_type == "application/json"


def test_the_signature_covers_the_exact_bytes(post: Post, captured: Capture) -> None:
    body = b'{ "event":"call_ended", "call":{"call_id":"c", "x":1e-7, "y":"a\\/b"}}\n'
    assert post(body).json == RECEIVED
    assert [event.raw for event in captured.events] == [body]


@pytest.mark.parametrize("header", UNSIGNED.values(), ids=UNSIGNED)
def test_an_unsigned_event_is_refused(
    header: Callable[[], str], post: Post, captured: Capture
) -> None:
    response = post(ENDED, header=header())
    assert (response.status_code, response.json) == (401, INVALID)
    assert captured.signals == ["webhook_rejected"]


@pytest.mark.parametrize(
    "payload",
    [
        {"event": "agent_transfer", "call": {"call_id": "c"}, "transfer_number": "+14155550163"},
        {"event": "voicemail_detected", "call": {"call_id": "c"}},
        {"event": "call_error", "call": {"call_id": "c"}, "error": {"code": "e", "message": "m"}},
        {"event": "call_ended", "call": {"call_id": "c"}, "end_reason": "user_hangup"},
        {
            "event": "call_analyzed",
            "call": {"call_id": "c", "call_analysis": {"sentiment": "Negative", "summary": "s"}},
        },
    ],
    ids=lambda payload: payload["event"],
)
def test_older_lifecycle_names_work_with_the_plain_scheme(
    payload: dict[str, Any], retell: RetellBlueprint, captured: Capture
) -> None:
    app = make_app(retell, RETELL_WEBHOOK_SECRET=SECRET, RETELL_API_KEY=None)
    client = RetellTestClient(app)
    response = client.post(payload, scheme="plain")
    assert (response.status_code, response.json) == (200, RECEIVED)
    assert captured.signals == ["event_received", payload["event"]]
    refused = client.post(payload, scheme="plain", key="other")
    assert (refused.status_code, refused.json) == (401, INVALID)


def test_plain_can_be_turned_off(retell: RetellBlueprint) -> None:
    options = {"RETELL_WEBHOOK_SECRET": SECRET, "RETELL_SIGNATURE_SCHEMES": "timestamped"}
    client = RetellTestClient(make_app(retell, **options))
    assert client.post(ENDED, scheme="plain").status_code == 401
    assert client.post(ENDED, key=SECRET).status_code == 200


def test_every_key_of_a_rotation_is_good(retell: RetellBlueprint) -> None:
    post = RetellTestClient(make_app(retell, RETELL_API_KEY="old, new")).post
    assert post(ENDED, key="old").status_code == post(ENDED, key="new").status_code == 200
    assert post(ENDED, key="old, new").status_code == 401


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"no json", b'{"event":"call_ended"}'])
def test_signed_nonsense_is_400_with_a_reason(body: bytes, post: Post) -> None:
    response = post(body)
    assert response.status_code == 400
    assert set(response.json or {}) == {"error"}


def test_an_unknown_event_is_received(post: Post, captured: Capture) -> None:
    assert post({"event": "hologram_projected"}).json == RECEIVED
    assert captured.signals == ["event_received", "unknown_event"]


@pytest.mark.parametrize("error", [ValueError, Retry, SystemExit])
def test_a_failing_receiver_is_500_and_the_others_have_run(
    error: type[BaseException], retell: RetellBlueprint, post: Post
) -> None:
    ran = []

    @retell.on("call_ended")
    def failing(sender: Any, **extra: Any) -> None:
        raise error

    retell.on("call_ended")(lambda _, **extra: ran.append(1))
    response = post(ENDED)
    assert (response.status_code, response.json) == (500, {"error": "Receiver failed"})
    assert ran == [1]


def test_a_receiver_that_gives_up_is_200(retell: RetellBlueprint, post: Post) -> None:
    @retell.on("call_ended")
    def quitter(sender: Any, **extra: Any) -> None:
        raise GiveUp("whatever")

    assert post(ENDED).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", [PATH, PATH + "/inbound"])
def test_another_method_is_405(method: str, path: str, app: Flask) -> None:
    response = app.test_client().open(path, method=method)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["", "/inbound"])
@pytest.mark.parametrize("type_", ["call_inbound", "chat_inbound"])
def test_inbound_webhooks_get_an_empty_answer_and_fire_nothing(
    type_: str, path: str, post: Post, captured: Capture
) -> None:
    response = post(sample(type_), path)
    assert (response.status_code, response.json) == (200, {type_: {}})
    assert captured == []


def test_inbound_takes_no_other_event_and_no_plain_signature(retell: RetellBlueprint) -> None:
    client = RetellTestClient(make_app(retell, RETELL_WEBHOOK_SECRET=SECRET))
    assert client.post(ENDED, "/inbound").status_code == 400
    for path in ("", "/inbound"):
        assert client.post(sample("call_inbound"), path, scheme="plain").status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "GET", "DELETE"])
def test_a_function_is_404_after_verification(method: str, retell: RetellBlueprint) -> None:
    client = RetellTestClient(make_app(retell, RETELL_WEBHOOK_SECRET=KEY))
    body = b"" if method in ("GET", "DELETE") else encode(sample("custom_function"))
    ask = functools.partial(client.post, body, "/functions/book_table", method=method)
    assert ask().status_code == 404
    assert ask(header="").status_code == ask(scheme="plain").status_code == 401
    assert ask(header="", method="HEAD").status_code == 405


def test_health_needs_no_signature(app: Flask) -> None:
    response = app.test_client().get(PATH + "/health")
    assert (response.status_code, response.json) == (200, {"status": "ok"})
    assert app.test_client().post(PATH + "/health").status_code == 405


def test_endpoints_have_names(app: Flask) -> None:
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert endpoints >= {"retell.webhook", "retell.inbound", "retell.function", "retell.health"}


@pytest.mark.parametrize(("length", "status"), [(100, 200), (101, 413), (200, 413)])
def test_the_limit_decides_whatever_max_content_length_says(
    length: int, status: int, retell: RetellBlueprint
) -> None:
    post = RetellTestClient(make_app(retell, RETELL_MAX_BODY=100, MAX_CONTENT_LENGTH=10)).post
    body = encode(ENDED).ljust(length)
    assert len(body) == length
    assert post(body).status_code == status


class Stream(io.BytesIO):
    """A server's input that gives a few bytes at a time, and may break off."""

    def __init__(self, body: bytes, error: Exception | None = None) -> None:
        super().__init__(body)
        self.error = error

    def read(self, size: int | None = -1) -> bytes:
        part = super().read(7)
        if not part and self.error:
            raise self.error
        return part

    def readinto(self, buffer: Any) -> int:
        part = self.read()
        buffer[: len(part)] = part
        return len(part)


def send(app: Flask, body: Any, **environ: Any) -> tuple[str, bytes]:
    whole = encode(ENDED)
    builder = EnvironBuilder(PATH, method="POST", headers={HEADER: sign(whole, KEY)})
    builder.input_stream = body
    answer: list[str] = []
    environ = {**builder.get_environ(), "CONTENT_LENGTH": str(len(whole)), **environ}
    chunks = app(
        {k: v for k, v in environ.items() if v is not None}, lambda s, *_: answer.append(s)
    )
    return answer[0][:3], b"".join(chunks)


def test_a_body_may_come_in_pieces(app: Flask) -> None:
    assert send(app, Stream(encode(ENDED)))[0] == "200"


@pytest.mark.parametrize("error", [OSError("reset"), RuntimeError("a server's own")])
@pytest.mark.parametrize("chunked", [{}, {"CONTENT_LENGTH": None, "wsgi.input_terminated": True}])
def test_a_connection_that_breaks_off_is_400(app: Flask, error: Exception, chunked: Any) -> None:
    status, answer = send(app, Stream(encode(ENDED)[:20], error), **chunked)
    assert (status, json.loads(answer)) == ("400", {"error": "Body could not be read"})


def test_the_limit_decides_for_chunked_bodies_too(retell: RetellBlueprint) -> None:
    app = make_app(retell, MAX_CONTENT_LENGTH=10)
    chunked = {"CONTENT_LENGTH": None, "wsgi.input_terminated": True}
    assert send(app, Stream(encode(ENDED)), **chunked)[0] == "200"


def test_a_host_that_read_up_to_a_limit_of_its_own_gets_413(retell: RetellBlueprint) -> None:
    app = make_app(retell, MAX_CONTENT_LENGTH=10)
    app.before_request(lambda: (request.stream.read(), None)[1])
    chunked = {"CONTENT_LENGTH": None, "wsgi.input_terminated": True}
    assert send(app, io.BytesIO(encode(ENDED)), **chunked)[0] == "413"


def test_row_10_any_content_type_is_left_alone(post: Post) -> None:
    parts = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 100_000
    for kind in ("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", ""):
        assert post(parts, content_type=kind).status_code == 400
        assert post(ENDED, content_type=kind).status_code == 200


def test_row_11_a_compressed_body_is_verified_as_it_is_and_never_inflated(post: Post) -> None:
    body, encoding = gzip.compress(encode(ENDED)), {"HTTP_CONTENT_ENCODING": "gzip"}
    inflated = sign(encode(ENDED), KEY)
    assert post(body, environ_overrides=encoding).status_code == 400
    assert post(body, environ_overrides=encoding, header=inflated).status_code == 401


@pytest.mark.parametrize(
    "read", [lambda: request.get_data(), lambda: request.get_json(), lambda: request.form]
)
def test_row_17_a_before_request_may_have_read_the_body(
    read: Any, app: Flask, post: Post, captured: Capture
) -> None:
    app.before_request(lambda: (read(), None)[1])
    assert post(ENDED).status_code == 200
    assert captured.events


@pytest.mark.parametrize(
    "read", [lambda: request.stream.read(), lambda: request.get_data(cache=False)]
)
def test_row_17_the_log_says_who_may_have_consumed_the_body(
    read: Any, app: Flask, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    app.before_request(lambda: (read(), None)[1])
    assert post(ENDED).status_code == 401
    assert "before_request or middleware read it first" in caplog.text


def test_row_17_the_log_says_who_may_have_consumed_a_form(
    app: Flask, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    app.before_request(lambda: (request.form, None)[1])
    response = post(ENDED, content_type="application/x-www-form-urlencoded")
    assert response.status_code == 401
    assert "request.form of a form" in caplog.text


def test_an_after_request_can_still_read_the_body(app: Flask, post: Post) -> None:
    seen: list[bytes] = []

    @app.after_request
    def look(response: Response) -> Response:
        seen.append(request.get_data())
        return response

    post(ENDED)
    assert seen == [encode(ENDED)]


def test_an_after_request_may_read_more_than_the_hosts_limit(retell: RetellBlueprint) -> None:
    app = make_app(retell, MAX_CONTENT_LENGTH=10)
    app.after_request(lambda response: (request.get_data(), response)[1])
    assert RetellTestClient(app).post(ENDED).status_code == 200


def test_a_failing_receiver_keeps_no_body_alive(retell: RetellBlueprint, post: Post) -> None:
    class Broken(Exception):
        """Its traceback holds the event, and with it the body."""

    raised: list[weakref.ref[Broken]] = []

    @retell.on("call_ended")
    def failing(sender: Any, event: Event, **extra: Any) -> None:
        error = Broken()
        raised.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.disable()
    try:
        logging.disable()  # what captures log records keeps their tracebacks
        assert post(ENDED).status_code == 500
        assert raised[0]() is None
    finally:
        logging.disable(logging.NOTSET)
        gc.enable()


def test_row_17_flask_wtf_exempts_the_blueprint(retell: RetellBlueprint) -> None:
    app = make_app(SECRET_KEY="s")
    csrf = CSRFProtect(app)
    app.register_blueprint(retell)
    post = RetellTestClient(app).post
    assert post(ENDED).status_code == 400  # a page of Flask-WTF's: not exempt yet
    csrf.exempt(retell)
    assert post(ENDED).json == RECEIVED


def test_flask_limiter_exempts_the_blueprint(retell: RetellBlueprint) -> None:
    app = make_app()
    limiter = Limiter(lambda: "all", app=app, default_limits=["1/hour"], storage_uri="memory://")
    app.register_blueprint(retell)
    limiter.exempt(retell)
    post = RetellTestClient(app).post
    assert [post(ENDED).status_code for _ in range(3)] == [200] * 3


def test_answers_are_not_rewritten_by_the_hosts_error_handlers(
    app: Flask, retell: RetellBlueprint, post: Post
) -> None:
    app.register_error_handler(Exception, lambda error: ("a page", 200))
    for status in (400, 401, 404, 405, 413, 500):
        app.register_error_handler(status, lambda error: ("a page", 200))
    retell.on("call_ended")(lambda _, **extra: abort(400))
    assert post(ENDED).json == {"error": "Receiver failed"}
    assert post(ENDED, header="").json == INVALID
    assert post(b"[]").status_code == 400
    assert post(b"", method="GET").status_code == 405
    assert post(b"", "/functions/f", method="GET").status_code == 404


def test_a_rejection_is_signalled_and_logged_without_what_was_sent(
    post: Post, captured: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    stale = sign(encode(ENDED), KEY, timestamp_ms=1_000_000_000_000)
    post(ENDED, header="")
    post(ENDED, header=stale)
    post(b"[]")
    assert captured.signals == ["webhook_rejected"] * 3
    about = [rejected.keywords for rejected in captured]
    assert [(a["status"], a["reason"], a["remote_addr"]) for a in about] == [
        (401, "missing", "127.0.0.1"),
        (401, "stale", "127.0.0.1"),
        (400, "invalid", "127.0.0.1"),
    ]
    assert [a["skew_ms"] is None for a in about] == [True, False, True]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert stale.split("d=")[1] not in caplog.text


def test_a_body_that_is_too_long_is_signalled_too(
    retell: RetellBlueprint, captured: Capture
) -> None:
    RetellTestClient(make_app(retell, RETELL_MAX_BODY=10)).post(ENDED)
    ((_, _, _, about),) = captured.of(webhook_rejected)
    assert (about["status"], about["reason"]) == (413, "too_large")


def test_receivers_of_rejections_have_an_app_context_and_no_request(
    retell: RetellBlueprint, post: Post
) -> None:
    seen: list[Any] = []
    retell.on(webhook_rejected)(
        lambda _, **about: seen.append((current_app.name, has_request_context()))
    )
    post(ENDED, header="")
    assert seen == [("host", False)]


def test_a_broken_receiver_of_rejections_changes_no_answer(
    retell: RetellBlueprint, post: Post
) -> None:
    @retell.on("webhook_rejected")
    def broken(sender: Any, **about: Any) -> None:
        raise SystemExit

    assert post(ENDED, header="").status_code == 401


def test_row_16_forged_forwarding_headers_let_nobody_in(post: Post) -> None:
    forged = {"X-Forwarded-For": "100.20.5.228", "Forwarded": "for=100.20.5.228"}
    assert post(b"{}", header="", headers=forged).status_code == 401


def test_one_blueprint_on_two_apps(retell: RetellBlueprint) -> None:
    apps = [make_app(retell, RETELL_API_KEY=key) for key in ("one", "two")]
    one, two = (RetellTestClient(app).post for app in apps)
    assert (one(ENDED, key="one").status_code, one(ENDED, key="two").status_code) == (200, 401)
    assert (two(ENDED, key="one").status_code, two(ENDED, key="two").status_code) == (401, 200)


def test_two_blueprints_on_one_app_have_keys_paths_and_receivers_of_their_own() -> None:
    sales = RetellBlueprint("sales", url_prefix="/sales", config_prefix="SALES")
    support = RetellBlueprint("support", url_prefix="/support", config_prefix="SUPPORT")
    app = make_app(sales, support, SALES_API_KEY="a", SUPPORT_API_KEY="b")
    to_sales, to_support = (RetellTestClient(app, blueprint) for blueprint in (sales, support))
    with capture() as captured:
        accepted = [to_sales.post(ENDED, key="a"), to_support.post(ENDED, key="b")]
        refused = [to_sales.post(ENDED, key="b"), to_support.post(ENDED, key="a")]
    assert [(answer.request.path, answer.status_code) for answer in accepted] == [
        *(("/sales", 200), ("/support", 200)),
    ]
    assert [answer.status_code for answer in refused] == [401, 401]
    assert [each.sender for each in captured] == [sales, sales, support, support, sales, support]


def test_state_is_kept_per_app(app: Flask, retell: RetellBlueprint) -> None:
    state = app.extensions["retell"]["retell"]
    assert state.blueprint is retell
    assert state.settings.api_key == (KEY.encode(),)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (None, "registered on this app already"),
        (RetellBlueprint(url_prefix="/other"), "registered on this app already"),
        (RetellBlueprint("other"), "answer below '/webhooks/retellai'"),
        (RetellBlueprint("other", url_prefix=PATH + "/"), "answer below"),
    ],
)
def test_what_cannot_stand_side_by_side_is_refused(
    second: RetellBlueprint | None, message: str, app: Flask, retell: RetellBlueprint
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        app.register_blueprint(second or retell)


def test_another_url_prefix_at_registration_counts(app: Flask) -> None:
    app.register_blueprint(RetellBlueprint("other"), url_prefix="/other")
    response = RetellTestClient(app, "other").post(ENDED)
    assert (response.request.path, response.status_code) == ("/other", 200)


def test_no_url_prefix_at_registration_means_the_blueprints_own(app: Flask) -> None:
    app.register_blueprint(RetellBlueprint("other", url_prefix="/other"), url_prefix=None)
    response = RetellTestClient(app, "other").post(ENDED)
    assert (response.request.path, response.status_code) == ("/other", 200)


def test_the_prefix_may_have_variables_of_the_hosts() -> None:
    retell = RetellBlueprint(url_prefix="/<tenant>/retell")
    client, path, body = make_app(retell).test_client(), "/bayview/retell", encode(ENDED)
    assert client.post(path, data=body, headers={HEADER: sign(body, KEY)}).status_code == 200
    assert client.get(f"{path}/health").status_code == 200
    signed = {HEADER: sign(b"", KEY)}
    assert client.get(f"{path}/functions/f", headers=signed).status_code == 404


def test_below_another_blueprint(retell: RetellBlueprint) -> None:
    parent = Blueprint("api", __name__, url_prefix="/api")
    parent.register_blueprint(retell)
    app = make_app()
    app.register_blueprint(parent)
    response = RetellTestClient(app).post(ENDED)
    assert (response.request.path, response.status_code) == ("/api" + PATH, 200)


def test_a_bad_option_fails_at_registration_and_leaves_nothing_behind(
    retell: RetellBlueprint,
) -> None:
    app = make_app(RETELL_API_KEY=None)
    with pytest.raises(ConfigurationError, match="RETELL_API_KEY is not set"):
        app.register_blueprint(retell)
    assert "retell.webhook" not in app.view_functions
    app.config["RETELL_API_KEY"] = KEY
    app.register_blueprint(retell)
    assert RetellTestClient(app).post(ENDED).status_code == 200


def test_a_name_that_is_taken_leaves_no_state_behind(retell: RetellBlueprint) -> None:
    app = make_app()
    app.register_blueprint(Blueprint("retell", __name__))
    with pytest.raises(ValueError, match="retell"):
        app.register_blueprint(retell)
    assert app.extensions["retell"] == {}


def test_options_are_read_at_registration_alone(app: Flask, post: Post) -> None:
    app.config["RETELL_API_KEY"] = "another"
    assert post(ENDED).status_code == 200


module_blueprint = RetellBlueprint("module")


@call_ended.connect_via(module_blueprint)
def module_handler(sender: Any, event: Event, **extra: Any) -> None: ...


def test_an_app_factory_leaves_nothing_behind() -> None:
    def receivers() -> int:
        return sum(len(signal.receivers) for signal in SIGNALS.values())

    before = receivers()
    apps = []
    for _ in range(20):
        app = make_app(module_blueprint)
        assert RetellTestClient(app).post(ENDED).status_code == 200
        apps.append(weakref.ref(app))
    del app
    gc.collect()
    assert [reference() for reference in apps] == [None] * 20
    assert receivers() == before


# The inbox behind it


def inbox_of(app: Flask) -> Inbox:
    inbox: Inbox = app.extensions["retell"]["retell"].inbox
    return inbox


def stored(app: Flask) -> list[tuple[str, bytes]]:
    return [(row["status"], row["body"]) for row in rows(inbox_of(app).database)]


@pytest.mark.parametrize("body", [b"[]", b"\xff\x00", b"", b'{"event":"call_ended"}'])
def test_a_signed_body_that_is_no_event_is_kept(body: bytes, app: Flask, post: Post) -> None:
    assert [post(body).status_code for _ in range(2)] == [400, 400]
    assert stored(app) == [("invalid", body)]


def test_a_signed_body_that_is_cut_short_is_kept(app: Flask) -> None:
    whole = encode(ENDED)
    status, _ = send(app, io.BytesIO(whole), CONTENT_LENGTH=str(len(whole) + 1))
    assert status == "400"
    assert stored(app) == [("invalid", whole)]


@pytest.mark.parametrize("header", UNSIGNED.values(), ids=UNSIGNED)
def test_nothing_unsigned_is_kept(header: Callable[[], str], app: Flask, post: Post) -> None:
    post(b"[]", header=header())
    post(ENDED, header=header())
    assert stored(app) == []


def test_inbound_webhooks_are_not_stored(app: Flask, post: Post) -> None:
    post(sample("call_inbound"))
    post(sample("chat_inbound"), "/inbound")
    assert stored(app) == []


def test_row_6_a_repeat_is_a_duplicate_also_after_a_restart(
    retell: RetellBlueprint, tmp_path: Path, captured: Capture
) -> None:
    url = f"sqlite:///{tmp_path}/inbox.sqlite3"
    app = make_app(retell, RETELL_INBOX_URL=url)
    assert RetellTestClient(app).post(ENDED).json == RECEIVED
    inbox_of(app).database.dispose()
    restarted = make_app(retell, RETELL_INBOX_URL=url)
    assert RetellTestClient(restarted).post(ENDED).json == {**RECEIVED, "duplicate": True}
    assert captured.signals == ["event_received", "call_ended"]
    inbox_of(restarted).database.dispose()


class TestAnInboxThatCannotBeWritten:
    @pytest.fixture
    def app(self, retell: RetellBlueprint, tmp_path: Path) -> Flask:
        (tmp_path / "file").write_text("no directory")
        return make_app(retell, RETELL_INBOX_URL=f"sqlite:///{tmp_path}/file/inbox.sqlite3")

    @pytest.fixture
    def post(self, app: Flask) -> Post:
        return make_post(app)

    @pytest.mark.parametrize("body", [encode(ENDED), b"[]"])
    def test_an_event_is_503_and_comes_again(self, body: bytes, post: Post) -> None:
        response = post(body)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "10")
        assert response.json == {"error": "Inbox unavailable"}

    def test_an_unsigned_one_is_401_as_ever(self, app: Flask) -> None:
        assert app.test_client().post(PATH, data=encode(ENDED)).status_code == 401

    def test_health_is_503_without_detail(self, app: Flask) -> None:
        response = app.test_client().get(PATH + "/health")
        assert (response.status_code, response.json) == (503, {"status": "unavailable"})

    def test_inbound_webhooks_are_answered(self, post: Post) -> None:
        assert post(sample("call_inbound")).status_code == 200

    def test_the_log_says_why_and_is_not_flooded(
        self, post: Post, caplog: pytest.LogCaptureFixture
    ) -> None:
        for _ in range(30):
            post(ENDED)
        lines = [line for line in caplog.messages if "Answered 503" in line]
        assert len(lines) == 10
        assert "The inbox does not answer" in lines[0]

    def test_it_recovers_by_itself(self, app: Flask, post: Post, tmp_path: Path) -> None:
        assert post(ENDED).status_code == 503
        (tmp_path / "file").unlink()
        assert post(ENDED).json == RECEIVED
        assert app.test_client().get(PATH + "/health").status_code == 200
        inbox_of(app).database.dispose()


def test_row_9_a_flood_of_bad_signatures_is_ten_lines(
    post: Post, caplog: pytest.LogCaptureFixture, captured: Capture
) -> None:
    bad = sign(b"other", KEY)
    for number in range(200):
        assert post(ENDED, header=bad).status_code == 401
        if not number % 50:
            assert post(call_payload("call_ended", call_id=f"c{number}")).json == RECEIVED
    assert len(captured.of(webhook_rejected)) == 200
    assert len([line for line in caplog.messages if "refused with 401" in line]) == 10
