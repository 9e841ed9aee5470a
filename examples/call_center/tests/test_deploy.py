"""deploy/: its Compose file is one, and what it starts runs, here without containers."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import yaml

from call_center import create_app
from call_center.settings import OPTIONS

EXAMPLE = Path(__file__).parent.parent
REPOSITORY = EXAMPLE.parent.parent
DEPLOY = EXAMPLE / "deploy"
COMPOSE = (DEPLOY / "compose.yaml").read_text("utf-8")
README = (EXAMPLE / "README.md").read_text("utf-8")
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
HOST = "call-center.example"
REQUIRED = {"RETELL_API_KEY": "key_of_a_test", "CALL_CENTER_PASSWORD": "pw", "SECRET_KEY": "sk"}
LOCAL = {"CALL_CENTER_PUBLIC_URL": f"https://{HOST}"}
FOR_TESTS = {"SLACK_URL", "HUBSPOT_URL"}
SIGNED_IN = {"Authorization": f"Basic {b64encode(b'agent:pw').decode()}"}
# What a proxy adds that stands in front, and the second address by the client itself.
PROXIED = {"X-Forwarded-For": "203.0.113.66, 203.0.113.7", "X-Forwarded-Proto": "https"}


def run(
    *command: str, cwd: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": PATH, **environ}
    return subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=60
    )


def read_services(compose: str, directory: Path, **environ: str) -> dict[str, Any]:
    """What Compose makes of a file. Raises ``ValueError`` where it is none."""
    path = directory / "compose.yaml"
    path.write_text(compose, "utf-8")
    config = ["podman-compose", "--dry-run", "-f", str(path), "--profile", "tls", "config"]
    read = run(*config, **environ)
    # Podman's Compose lets any key pass: which there are is in the specification's schema.
    held = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(path))
    if read.returncode or held.returncode:
        raise ValueError(read.stderr + held.stdout)
    services: dict[str, Any] = yaml.safe_load(read.stdout)["services"]
    return services


@pytest.mark.parametrize("name", REQUIRED)
def test_the_compose_file_wants_what_has_no_default(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} is missing a value"):
        read_services(COMPOSE, tmp_path, **REQUIRED | {name: ""})


@pytest.mark.parametrize(
    ("there", "broken", "says"),
    [
        ("depends_on:", "depend_on:", "'depend_on' was unexpected"),
        ("- caddy:/data", "- certificates:/data", r"volume \[certificates\] not defined"),
        ("stop_grace_period: 60s", "stop_grace_period: [60s]", "stop_grace_period"),
    ],
)
def test_a_compose_file_that_is_broken_is_refused(
    there: str, broken: str, says: str, tmp_path: Path
) -> None:
    assert there in COMPOSE
    with pytest.raises(ValueError, match=says):
        read_services(COMPOSE.replace(there, broken), tmp_path, **REQUIRED)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return read_services(COMPOSE, tmp_path_factory.mktemp("compose"), **REQUIRED, **LOCAL)


def test_every_option_is_passed_on(services: dict[str, Any]) -> None:
    assert set(OPTIONS) - set(services["web"]["environment"]) == FOR_TESTS


def test_a_service_that_is_not_set_up_is_not_there(services: dict[str, Any]) -> None:
    # The containers have no variable then. An empty one would not do for each SDK.
    not_set = {name for name, value in services["web"]["environment"].items() if value is None}
    assert not_set == {name for name in OPTIONS if name.startswith(("OPENAI", "TODOIST"))} | {
        *("CALL_CENTER_USER", "SLACK_BOT_TOKEN", "SLACK_CHANNEL", "HUBSPOT_ACCESS_TOKEN"),
        *("RETELL_API_TIMEOUT", "RETELL_DISPATCH", "RETELL_LEASE", "RETELL_MAX_ATTEMPTS"),
        *("RETELL_MAX_BODY", "RETELL_ORDER_WAIT", "RETELL_RETENTION", "RETELL_TRANSCRIPTS"),
        *("RETELL_WEBHOOK_SECRET", "RETELL_WORKERS"),
    }


def test_compose_waits_until_gunicorn_gives_up(services: dict[str, Any]) -> None:
    settings = runpy.run_path(str(DEPLOY / "gunicorn.conf.py"))
    assert settings["graceful_timeout"] < int(services["web"]["stop_grace_period"].rstrip("s"))


def test_the_readme_has_every_option_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", README, re.MULTILINE))
    shown = {name: f"`{default}`" if default else "none" for name, default in OPTIONS.items()}
    assert {name: rows.get(name) for name in shown} == shown


def test_the_readme_has_every_module() -> None:
    modules = {path.name for path in (EXAMPLE / "call_center").glob("*.py")}
    assert [name for name in sorted(modules) if f"| `{name}`" not in README] == []


def test_the_readme_runs_the_commands_of_the_compose_file(services: dict[str, Any]) -> None:
    section = README.partition("\n### Without containers\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    commands = services["init"]["command"][-1].split(" && ")
    assert [each for each in commands if shlex.split(each) not in lines] == []
    assert [*ast.literal_eval(instruction("CMD")), "-c", "deploy/gunicorn.conf.py"] in lines


def test_the_readmes_image_of_a_copy_has_what_ours_has() -> None:
    (shown,) = re.findall(r"```dockerfile\n(.*?)```", README, re.DOTALL)
    of_a_copy = re.findall(r"^ *COPY (\S+) ", shown, re.MULTILINE)
    assert "retell_flask-*.whl ./" in shown  # until it is on the package index
    prefix = "examples/call_center/"
    of_ours = {each.split()[0] for each in instructions("COPY")}
    assert {prefix + each for each in of_a_copy} == {
        each for each in of_ours if each.startswith(prefix)
    }


def instructions(name: str) -> list[str]:
    """What follows each such instruction of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", "")
    return re.findall(rf"^(?:{name}) +(.*)$", text, re.MULTILINE)


def instruction(name: str) -> str:
    (found,) = instructions(name)
    return found


# What follows runs what the image has, in a directory that has nothing else.


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Dockerfile has the commands run, with what it copies."""
    root = here = tmp_path_factory.mktemp("image")
    for line in instructions("WORKDIR|COPY"):
        *sources, target = line.split()
        if not sources:
            here = root / target.lstrip("/")
            here.mkdir(parents=True, exist_ok=True)
        for source in sources:
            copy(REPOSITORY / source, here / target)
    return here


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_the_image_has_what_is_installed_in_it_and_does_not_run_as_root(image: Path) -> None:
    # pip builds the wheel of these, and the README is in it.
    for name in ("pyproject.toml", "README.md", "LICENSE", "src/retell_flask/__init__.py"):
        assert (image.parent.parent / name).is_file()
    assert (image / "requirements.txt").is_file()
    user = instruction("USER")
    assert user in instruction("RUN useradd").split()


class Answer(NamedTuple):
    status: int
    cookie: str
    text: str


class Deployment:
    """``web`` in a process of this machine's, with the environment that Compose gives it."""

    def __init__(self, services: dict[str, Any], image: Path, database: str, log: Path) -> None:
        given = services["web"]["environment"]
        self.environ = {name: value for name, value in given.items() if value is not None}
        assert self.environ["RETELL_INBOX_URL"] == self.environ["CALL_CENTER_DATABASE_URL"]
        self.environ |= {"RETELL_INBOX_URL": database, "CALL_CENTER_DATABASE_URL": database}
        self.environ |= dict(each.split("=") for each in shlex.split(instruction("ENV")))
        self.port = free_port()
        self.environ |= {"PORT": str(self.port), "PYTHONDONTWRITEBYTECODE": "1", "PATH": PATH}
        self.image = image
        self.log = log

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return run(*command, cwd=self.image, **self.environ)

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ast.literal_eval(instruction("CMD")),
                cwd=self.image,
                env=self.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_healthy(self) -> bool:
        """Whether the image's own check says so."""
        check = instruction("HEALTHCHECK").partition(" CMD ")[2]
        return self.run(*json.loads(check)).returncode == 0

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> Answer:
        """On a new connection each, so that any of the workers may answer."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=15)) as connection:
            connection.request(method, path, body, {"Host": HOST, **PROXIED, **headers})
            response = connection.getresponse()
            cookie = response.headers.get("Set-Cookie", "")
            return Answer(response.status, cookie, response.read().decode())

    def send(self, count: int, rate: int) -> subprocess.Popen[str]:
        command = f"flask --app call_center retell send call_ended --count {count} --rate {rate}"
        return subprocess.Popen(
            [*command.split(), "--url", f"http://127.0.0.1:{self.port}"],
            cwd=self.image,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def deployment(
    services: dict[str, Any],
    image: Path,
    database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    with psycopg.connect(database) as server:
        version = server.info.server_version // 10_000
    assert services["postgres"]["image"] == f"postgres:{version}"
    log = tmp_path_factory.mktemp("log") / "web.log"
    made = Deployment(services, image, database, log)
    files = sorted(image.rglob("*"))
    prepared = made.run(*services["init"]["command"])
    assert "the tables were made" in prepared.stdout, prepared.stderr
    made.start()
    try:
        eventually(made.is_healthy)
        yield made
        made.process.terminate()
        assert made.process.wait(20) == 0
    finally:
        if made.process.poll() is None:
            os.killpg(made.process.pid, signal.SIGKILL)
            made.process.wait()
    assert sorted(image.rglob("*")) == files  # a container's user may write nothing there


def workers_of(deployment: Deployment) -> set[str]:
    return set(re.findall(r"Booting worker with pid: (\d+)", deployment.log.read_text()))


def ended_workers_of(deployment: Deployment) -> set[str]:
    return set(re.findall(r"Worker exiting \(pid: (\d+)\)", deployment.log.read_text()))


def test_the_pages_are_behind_the_password(deployment: Deployment) -> None:
    assert deployment.ask("GET", "/").status == 401
    assert deployment.ask("GET", "/", **SIGNED_IN).status == 200
    assert deployment.ask("GET", "/health").status == 200
    assert deployment.ask("GET", "/webhooks/retellai/health").status == 200


def test_forms_are_taken_by_whichever_worker(deployment: Deployment) -> None:
    page = deployment.ask("GET", "/outbound", **SIGNED_IN)
    assert "Secure" in page.cookie
    token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', page.text)[1]
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": page.cookie.partition(";")[0],
        "Referer": f"https://{HOST}/outbound",
        **SIGNED_IN,
    }

    def send(**more: str) -> int:
        form = f"csrf_token={token}"
        return deployment.ask("POST", "/outbound", form, **headers | more).status

    assert [send() for _ in range(8)] == [422] * 8  # there is no number in it
    assert send(Host="127.0.0.1:8000") == 400  # by a proxy that does not pass the host on


def test_the_log_has_the_address_that_the_proxy_saw(deployment: Deployment) -> None:
    assert deployment.ask("POST", "/webhooks/retellai", "{}").status == 401
    eventually(lambda: "Webhook from 203.0.113.7 refused" in deployment.log.read_text())
    assert re.search(r"^203\.0\.113\.7 - .*POST", deployment.log.read_text(), re.MULTILINE)


def test_a_call_is_rehearsed(deployment: Deployment) -> None:
    command = "flask --app call_center retell rehearse rehearsals/unhappy.json --check --pace 0"
    url = f"http://127.0.0.1:{deployment.port}"
    played = deployment.run(*command.split(), "--url", url)
    assert played.returncode == 0, played.stdout + played.stderr
    log = deployment.log.read_text()
    assert "WARNING call_center.alarm: Unhappy caller" in log
    assert f"https://{HOST}/calls/" in log
    assert "INFO retell_flask.invocation: make_tasks handled call_ended" in log


def test_a_restart_loses_nothing(deployment: Deployment, database: str) -> None:
    log, before = deployment.log.read_text(), workers_of(deployment)
    sending = deployment.send(count=300, rate=30)
    eventually(lambda: deployment.log.read_text().count("POST") > log.count("POST"))
    deployment.process.send_signal(signal.SIGHUP)
    eventually(lambda: ended_workers_of(deployment) == before)
    assert sending.poll() is None  # so it was under load
    printed, _ = sending.communicate(timeout=30)
    assert sending.returncode == 0, printed
    assert re.search(r"^ *300 +200$", printed, re.MULTILINE)
    assert len(workers_of(deployment) - before) == 2
    with psycopg.connect(database, autocommit=True) as connection:

        def count(query: str) -> int:
            return connection.execute(query.encode()).fetchone()[0]

        # What a rehearsal before left is done by then, too.
        left = "SELECT count(*) FROM retell_event WHERE status NOT IN ('done', 'superseded')"
        eventually(lambda: not count(left))
        assert count("SELECT count(*) FROM retell_delivery WHERE attempts <> 1") == 0
        ended = "SELECT count(*) FROM retell_event WHERE type = 'call_ended'"
        assert count(ended) >= 300
        assert count("SELECT count(*) FROM call") == count(ended)


@pytest.mark.parametrize(
    ("url", "is_secure"), [("https://call-center.example", True), ("http://127.0.0.1:5000", False)]
)
def test_the_cookie_is_for_https_alone_where_there_is_https(
    url: str, is_secure: bool, tmp_path: Path
) -> None:
    app = create_app(
        TESTING=True,
        DEBUG=True,
        CALL_CENTER_PUBLIC_URL=url,
        CALL_CENTER_DATABASE_URL=f"sqlite:///{tmp_path}/call_center.sqlite3",
    )
    cookie = app.test_client().get("/outbound").headers["Set-Cookie"]
    assert ("Secure" in cookie) is is_secure
    assert "SameSite=Lax" in cookie


@pytest.mark.parametrize(("proxies", "address"), [("0", "127.0.0.1"), ("2", "203.0.113.66")])
def test_addresses_are_believed_of_so_many_proxies(
    proxies: str, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(
        TESTING=True,
        CALL_CENTER_PROXIES=proxies,
        CALL_CENTER_DATABASE_URL=f"sqlite:///{tmp_path}/call_center.sqlite3",
    )
    app.test_client().post("/webhooks/retellai", data=b"{}", headers=PROXIED)
    assert f"Webhook from {address} refused" in caplog.text
