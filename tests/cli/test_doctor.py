"""``doctor``: each fault of a set-up is found, and said what to do about."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from flask import Flask, redirect
from flask_wtf import CSRFProtect
from sqlalchemy import create_engine, event

from cli.shop import Shop
from databases import empty
from retell_flask import GiveUp, RetellBlueprint, Retry, call_ended
from retell_flask.cli.doctor import command, storage
from retell_flask.cli.doctor.set_up import SetUp
from retell_flask.inbox import schema, sqlite
from retell_flask.inbox.filelock import FileLock
from retellapi import Reply, Reset, RetellApi, Silence, make_agent
from servers import free_port
from support import KEY, PATH, SECRET

URL = f"https://shop.example{PATH}"


@dataclass
class Case:
    """A sound set-up, for a test to break."""

    shop: Shop
    api: RetellApi
    fail: Callable[..., None]
    patch: pytest.MonkeyPatch

    def agent(self, *versions: dict[str, Any]) -> None:
        self.api.agents["agent_1"] = [make_agent(**{"webhook_url": URL} | v) for v in versions]

    def set_clock(self, seconds: float) -> None:
        """How far Retell's is before ours."""
        self.api.clock = lambda: time.time() + seconds


def findings(shop: Shop, *arguments: str) -> list[tuple[str, str, str]]:
    """Level, subject and advice of what is not as it should be; the exit code fits them."""
    runner = shop.app.test_cli_runner()
    result = runner.invoke(args=["retell", "doctor", "--json", *arguments])
    assert result.exit_code in (0, 1), result.output
    report = json.loads(result.stdout)
    assert result.exit_code == (1 if report["counts"]["problem"] else 0)
    assert all(each["text"] for each in report["findings"])
    return [
        (each["level"], each["subject"], each["advice"])
        for each in report["findings"]
        if each["level"] != "ok"
    ]


@pytest.fixture
def make_case(
    make_shop: Callable[..., Shop],
    api: RetellApi,
    fail: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Case]:
    # Whatever SQLite is here: on a newer one there is nothing to find.
    for module in (sqlite, storage):
        monkeypatch.setattr(module, "is_safe_in_wal", lambda version: True)

    def make(**options: Any) -> Case:
        fail("call_ended", None)
        sound = {"RETELL_API_URL": api.url, "RETELL_DISPATCH": "threads"}
        make_shop(**sound).deliver("call_ended", "call_0", agent_id="agent_1")
        case = Case(make_shop(**{**sound, **options}), api, fail, monkeypatch)
        case.agent({})
        return case

    return make


def forget_the_receiver(case: Case) -> None:
    call_ended.receivers.clear()


def rename_a_receiver(case: Case) -> None:
    case.fail("call_ended", Retry(), "shop:old")
    case.shop.deliver("call_ended", "call_1")
    *_, key = call_ended.receivers
    call_ended.disconnect(call_ended.receivers[key])


def protect_from_forgery(case: Case) -> None:
    case.shop.app.secret_key = "s"
    CSRFProtect(case.shop.app)


def ask_for_a_log_in(case: Case) -> None:
    case.shop.app.before_request(lambda: redirect("/login"))


def break_a_before_request(case: Case) -> None:
    case.shop.app.before_request(lambda: 1 / 0)


def come_from_the_future(case: Case) -> None:
    newer = schema.schema_version.update().values(version=99)
    case.shop.inbox.database.write(lambda c: c.execute(newer))
    case.shop.inbox.database.dispose()


def hold_the_lock_file(case: Case) -> None:
    case.shop.inbox.check()
    case.patch.setattr(sqlite, "PATIENCE_SECONDS", 0.1)
    lock = FileLock(Path(f"{case.shop.inbox.database.path}.lock"))
    lock.take(0)
    case.patch.setattr(case, "lock", lock, raising=False)


def meet_an_old_sqlite(case: Case) -> None:
    for module in (sqlite, storage):
        case.patch.setattr(module, "is_safe_in_wal", lambda version: False)


def give_up(case: Case) -> None:
    case.fail("call_ended", GiveUp("no"))
    case.shop.deliver("call_ended", "call_1")


def wait(minutes: float) -> Callable[[Case], None]:
    def do(case: Case) -> None:
        case.shop.add("call_ended", "call_1")
        case.shop.later(minutes=minutes)

    return do


def die_while_it_runs(case: Case) -> None:
    case.shop.add("call_ended", "call_1")
    assert case.shop.state.deliverer is not None
    assert case.shop.inbox.claim_due(case.shop.state.deliverer.targets)
    case.shop.later(minutes=8)


def fail_for_long(case: Case) -> None:
    case.fail("call_ended", Retry(after=7200))
    case.shop.deliver("call_ended", "call_1")
    case.shop.later(minutes=30)


def hear_of_eleven_agents(case: Case) -> None:
    for number in range(1, 12):
        agent = make_agent(number, webhook_url=URL, voice_id=None if number > 5 else "v")
        case.api.agents[agent["agent_id"]] = [agent]
        case.shop.add("call_ended", f"call_{number}", agent_id=agent["agent_id"])


def do_nothing(case: Case) -> None:
    pass


NOWHERE = f"sqlite:///{__file__}/inbox.sqlite3"
LATE = {"RETELL_LEASE": "5m"}
OLD = {"version": 1, "webhook_url": "https://shop.example/old?token=secret"}
DRAFT = {"version": 2, "is_published": False}
FAULTS: list[tuple[dict[str, Any], Callable[[Case], Any], str, str]] = [
    ({"RETELL_API_KEY": [KEY, "key_old"]}, do_nothing, "note keys", "webhook badge"),
    (
        {"RETELL_API_KEY": None, "RETELL_WEBHOOK_SECRET": KEY},
        do_nothing,
        "note keys",
        "set RETELL_API_KEY",
    ),
    ({}, lambda c: c.shop.app.config.update(LATE), "problem options", "register_blueprint"),
    ({"RETELL_API_URL": None}, do_nothing, "note api", "RETELL_API_URL"),
    ({}, lambda c: c.api.faults.append(Reset()), "note api", "--offline"),
    ({}, lambda c: setattr(c.api, "key", "another"), "problem api", "API Keys"),
    ({}, lambda c: c.api.faults.extend([Reply(401), Reply(429)]), "note api", "again later"),
    ({}, lambda c: c.set_clock(360), "problem clock", "NTP"),
    ({}, lambda c: c.set_clock(-30), "note clock", "NTP"),
    ({"RETELL_INBOX_URL": "none", "RETELL_DISPATCH": None}, do_nothing, "note inbox", "SQLite"),
    (
        {"RETELL_INBOX_URL": "sqlite://", "TESTING": False},
        do_nothing,
        "problem inbox",
        "RETELL_INBOX_URL",
    ),
    ({"RETELL_INBOX_URL": NOWHERE}, do_nothing, "problem inbox", "write there"),
    ({}, hold_the_lock_file, "problem inbox", "503"),
    ({}, come_from_the_future, "problem inbox", "503"),
    ({"RETELL_SQLITE_SYNCHRONOUS": "NORMAL"}, do_nothing, "note durability", "FULL"),
    ({}, meet_an_old_sqlite, "problem durability", "SQLite 3.51.3 or later in all processes"),
    ({"RETELL_DISPATCH": "inline"}, do_nothing, "note dispatch", "worker --once"),
    ({}, forget_the_receiver, "problem receivers", "connect_via"),
    ({}, lambda c: c.patch.setattr(call_ended, "is_muted", True), "note receivers", "mutes"),
    ({}, rename_a_receiver, "problem receivers", "--receiver shop:old --as NEW"),
    ({}, protect_from_forgery, "problem routes", "csrf.exempt(retell)"),
    ({}, ask_for_a_log_in, "problem routes", "before_request"),
    ({}, break_a_before_request, "problem routes", "before_request"),
    ({"TRUSTED_HOSTS": ["shop.example"]}, do_nothing, "note routes", "--public-url"),
    ({}, lambda c: c.agent(OLD), "problem agents", f"webhook URL to https://…{PATH}"),
    ({}, lambda c: c.agent({"webhook_events": ["call_started"]}), "problem agents", "publish"),
    ({}, lambda c: c.agent({"version": 1}, DRAFT), "note agents", "once it is published"),
    ({}, lambda c: c.agent(DRAFT), "note agents", "Publish it"),
    ({}, lambda c: c.api.agents.clear(), "note agents", "another workspace"),
    ({}, hear_of_eleven_agents, "note agents", "dashboard"),
    ({}, give_up, "problem deliveries", "events --status dead"),
    ({}, lambda c: c.shop.inbox.keep_invalid(b"{"), "note deliveries", "events --status invalid"),
    ({}, wait(minutes=5.3), "note deliveries", "worker --once"),
    ({"RETELL_WORKERS": 0}, wait(minutes=20), "problem deliveries", "flask retell worker takes"),
    ({}, die_while_it_runs, "problem deliveries", "worker --once"),
    ({}, fail_for_long, "note deliveries", "events --status pending"),
]


@pytest.mark.parametrize(("options", "fault", "expected", "advice"), FAULTS)
def test_a_fault_is_found_alone_with_what_to_do(
    make_case: Callable[..., Case],
    options: dict[str, Any],
    fault: Callable[[Case], Any],
    expected: str,
    advice: str,
) -> None:
    case = make_case(**options)
    fault(case)
    ((level, subject, said),) = findings(case.shop)
    assert f"{level} {subject}" == expected
    assert advice in said


@pytest.mark.parametrize(
    ("broker", "expected", "advice"),
    [
        (None, "problem", "events are kept"),
        ("nosuch://", "problem", "events are kept"),
        ("redis://127.0.0.1:{port}/0", "problem", "once it is back"),
        ("memory://", "note", "celery -A … worker -Q calls"),
    ],
)
def test_what_celery_lacks_is_found(
    make_case: Callable[..., Case], broker: str | None, expected: str, advice: str
) -> None:
    shop = make_case(RETELL_DISPATCH="celery", RETELL_CELERY_QUEUE="calls").shop
    if broker:
        broker = broker.format(port=free_port())
        shop.app.extensions["celery"] = Celery("shop", broker=broker, set_as_current=False)
    ((*file, several_hosts), (*found, said)) = findings(shop)
    assert (file, found) == (["note", "dispatch"], [expected, "dispatch"])
    assert "RETELL_INBOX_URL" in several_hosts
    assert advice in said


def test_a_sound_set_up_has_no_findings_and_nothing_begins(make_case: Callable[..., Case]) -> None:
    case = make_case(RETELL_WEBHOOK_SECRET=SECRET)
    csrf = CSRFProtect(case.shop.app)
    csrf.exempt(case.shop.blueprint)
    before = {*threading.enumerate()}
    case.shop.add("call_ended", "call_1")
    assert findings(case.shop, "--public-url", URL) == []
    assert not any("worker" in each.name for each in {*threading.enumerate()} - before)
    assert case.shop.statuses() == ["done", "pending"]
    output = case.shop.run("doctor")
    assert " ".join(output.split()).startswith(
        "ok keys 1 key in RETELL_API_KEY, 1 key in RETELL_WEBHOOK_SECRET. Retell's "
        "API is called with the API key."
    )
    assert output.splitlines()[-1] == "11 ok, 0 notes, 0 problems"


def test_findings_are_printed_with_their_advice_and_counted(
    make_case: Callable[..., Case],
) -> None:
    case = make_case(RETELL_DISPATCH="inline")
    give_up(case)
    lines = case.shop.run("doctor", "--offline", code=1).splitlines()
    place = lines.index(
        "problem  deliveries  1 delivery is dead: a receiver failed for the last time."
    )
    assert lines[place + 1].startswith(" " * 21 + "See which: flask retell events --status dead")
    assert lines[-1] == "6 ok, 1 note, 1 problem"
    assert case.api.requests == []


def test_before_its_first_event_it_says_where_to_look(
    make_case: Callable[..., Case], api: RetellApi, tmp_path: Path
) -> None:
    shop = make_case(RETELL_INBOX_URL=f"sqlite:///{tmp_path}/new.sqlite3").shop
    other = make_agent(2, webhook_url="https://other.example/hook")
    api.agents.update(agent_2=[other], agent_3=[make_agent(3)])
    assert [each[:2] for each in findings(shop)] == [("note", "agents")] * 2
    assert not (tmp_path / "new.sqlite3").exists()
    shop.run("init-db")
    api.agents = {"agent_2": [other]}
    ((level, _, _), (_, subject, advice)) = findings(shop)
    assert (level, subject) == ("problem", "deliveries")
    assert "another key signs" in advice


def test_a_key_that_no_request_can_carry_is_found(make_case: Callable[..., Case]) -> None:
    shop = make_case(RETELL_API_KEY=[KEY, "key_…"]).shop
    assert ("problem", "keys", "Copy it anew from Retell's dashboard.") in findings(shop)


def test_a_plain_signature_without_an_inbox_can_be_replayed(
    make_shop: Callable[..., Shop],
) -> None:
    shop = make_shop(RETELL_WEBHOOK_SECRET=SECRET, RETELL_INBOX_URL="none")
    found = findings(shop, "--offline")
    assert ("problem", "keys") in [each[:2] for each in found]
    assert 'RETELL_SIGNATURE_SCHEMES = "timestamped"' in found[0][2]


def test_a_route_of_the_hosts_takes_what_is_posted(retell: RetellBlueprint) -> None:
    app = Flask("host")
    app.config.update(RETELL_API_KEY=KEY, RETELL_INBOX_URL="none")
    app.post(PATH, endpoint="older")(lambda: "")
    app.register_blueprint(retell)
    found = findings(Shop(app), "--offline")
    assert [advice for _, subject, advice in found if subject == "routes"] == [
        "Give one of them another address: RetellBlueprint(url_prefix=…)"
    ]


def test_what_hangs_or_exits_is_left_alone(make_case: Callable[..., Case]) -> None:
    def leave(set_up: SetUp) -> None:
        raise SystemExit

    case, released = make_case(), threading.Event()
    named = {check.__name__: check for _, check in command.CHECKS}
    checks = [("api", named["check_api"]), ("clock", named["check_clock"])]
    checks += [("routes", named["check_routes"]), ("keys", leave)]
    case.patch.setattr(command, "CHECKS", checks)
    case.patch.setattr(command, "_PATIENCE_SECONDS", 0.2)
    case.api.faults.extend([Silence(1), Silence(1)])
    case.shop.app.before_request(lambda: released.wait(20) and None)
    try:
        found = [each[:2] for each in findings(case.shop)]
    finally:
        released.set()
    assert found == [("note", "api"), ("note", "routes"), ("note", "keys")]


def test_an_engine_of_the_hosts_is_looked_at(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/host.sqlite3")
    event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA synchronous=OFF") and None)
    found = findings(Shop(app_with(engine)), "--offline")
    engine.dispose()
    assert ("note", "durability") in [each[:2] for each in found]
    assert "PRAGMA synchronous=FULL" in str(found)


def app_with(engine: Any) -> Flask:
    app = Flask("host")
    app.config.update(RETELL_API_KEY=KEY, TESTING=True)
    app.register_blueprint(RetellBlueprint(engine=engine))
    return app


def test_postgresql_is_looked_at(
    make_case: Callable[..., Case], postgresql_url: Callable[[], str]
) -> None:
    url = postgresql_url()
    empty(url)
    case = make_case(RETELL_INBOX_URL=f"{url}?options=-c%20synchronous_commit%3Doff")
    case.shop.deliver("call_ended", agent_id="agent_1")
    ((*found, advice),) = findings(case.shop)
    assert found == ["note", "durability"]
    assert "Set synchronous_commit = on" in advice
    case.shop.later(seconds=30)
    assert [each[:2] for each in findings(case.shop)][1:] == [("problem", "clock")]
    case.shop.inbox.database.dispose()


def test_an_old_sqlite_does_without_wal(
    make_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sqlite, storage):
        monkeypatch.setattr(module, "is_safe_in_wal", lambda version: False)
    shop = make_shop()
    shop.run("init-db")
    (found,) = [each for each in findings(shop, "--offline") if each[1] == "durability"]
    assert found[::2] == (
        "note",
        "A newer SQLite makes it faster: pip install 'retell-flask[sqlite]'",
    )


def test_no_secret_is_printed(make_case: Callable[..., Case]) -> None:
    case = make_case(
        RETELL_API_KEY=[KEY, "key_old"],
        RETELL_WEBHOOK_SECRET=SECRET,
        RETELL_INBOX_URL="postgresql://user:db_password@127.0.0.1:1/calls",
    )
    case.agent(OLD, {**DRAFT, "webhook_url": "https://user:hook_password@shop.example/"})
    output = case.shop.run("doctor", code=1) + case.shop.run("doctor", "--json", code=1)
    assert "user:***@127.0.0.1:1/calls" in output
    assert "https://shop.example/old," in output
    for secret in (KEY, "key_old", SECRET, "db_password", "hook_password", "token=secret"):
        assert secret not in output


def test_a_webhook_url_is_compared_with_an_address_or_by_its_path(shop: Shop) -> None:
    set_up = SetUp(shop.state, public_url="https://shop.example")
    for url in (f"{URL}/?tenant={{{{tenant}}}}", f"https://{{{{host}}}}{PATH}"):
        assert set_up.is_webhook(url)
    for url in (f"http://shop.example{PATH}", f"https://other.example{PATH}", "https://[", None):
        assert not set_up.is_webhook(url)
    assert SetUp(shop.state).is_webhook(f"https://other.example{PATH}")
    assert not SetUp(shop.state).is_webhook(f"https://other.example/{{{{tenant}}}}{PATH}")
    assert "such as https://shop.example" in shop.run("doctor", "--public-url", "shop", code=2)


def test_a_file_without_tables_is_told_and_left_alone(
    make_shop: Callable[..., Shop], tmp_path: Path
) -> None:
    path = tmp_path / "empty.sqlite3"
    shop = make_shop(RETELL_INBOX_URL=f"sqlite:///{path}")
    for content, level in ((b"", "note"), (b"no database at all" * 100, "problem")):
        path.write_bytes(content)
        found = findings(shop, "--offline")
        assert [each[:2] for each in found if each[1] == "inbox"] == [(level, "inbox")]
        assert path.read_bytes() == content


def test_nothing_that_an_agent_is_called_shows_a_key_or_moves_a_terminal(
    make_case: Callable[..., Case],
) -> None:
    case = make_case()
    case.agent({"agent_name": f"\x1b]0;x\x07{KEY}", "webhook_url": f"https://x.example/{KEY}"})
    output = case.shop.run("doctor", code=1)
    assert KEY not in output
    assert "\x1b" not in output
    assert "<key>" in output
