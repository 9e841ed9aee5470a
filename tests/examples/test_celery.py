"""The Celery example: its Compose file is one, and its commands run, here without containers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from celery import Celery
from packaging.requirements import Requirement

from brokers import broker, kill_group
from databases import postgresql
from servers import Server, eventually, free_port
from support import KEY, call_payload

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples/celery"
COMPOSE = (EXAMPLE / "compose.yaml").read_text("utf-8")
README = (EXAMPLE / "README.md").read_text("utf-8")
IMAGE = "retell-flask-shop"
# What README.md has changed for each broker, and how a broker tells its version.
CHANGES = {
    "Redis": {},
    "RabbitMQ": {"image: redis:7": "image: rabbitmq:3", "redis://broker": "amqp://broker"},
}
VERSIONS: dict[str, Callable[[Any], str]] = {
    "Redis": lambda connection: connection.default_channel.client.info()["redis_version"],
    "RabbitMQ": lambda connection: connection.connection.server_properties["version"],
}
_PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def run(
    *command: str, cwd: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": _PATH, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def read_services(compose: str, directory: Path, key: str = KEY) -> dict[str, Any]:
    """What Compose makes of a file. Raises ``ValueError`` where it is none."""
    path = directory / "compose.yaml"
    path.write_text(compose, "utf-8")
    config = ["podman-compose", "--dry-run", "-f", str(path), "config"]
    read = run(*config, RETELL_API_KEY=key)
    # Podman's Compose lets any key pass: which there are is in the specification's schema.
    held = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(path))
    if read.returncode or held.returncode:
        raise ValueError(read.stderr + held.stdout)
    services: dict[str, Any] = yaml.safe_load(read.stdout)["services"]
    for name, service in services.items():
        for needed in service.get("depends_on", ()):
            if needed not in services:
                raise ValueError(f"{name} depends on {needed}, which is undefined")
    return services


@pytest.mark.parametrize(
    ("there", "broken", "says"),
    [
        ("depends_on:", "depend_on:", "'depend_on' was unexpected"),
        ("service_healthy", "service_sound", "'service_sound' is not a valid condition"),
        ("- postgres:/var", "- postgresql:/var", r"volume \[postgresql\] not defined"),
        ("    init:\n", "    tables:\n", "depends on tables, which is undefined"),
        ("interval: 2s", "interval: [2s]", "interval"),
    ],
)
def test_a_compose_file_that_is_broken_is_refused(
    there: str, broken: str, says: str, tmp_path: Path
) -> None:
    assert there in COMPOSE
    with pytest.raises(ValueError, match=says):
        read_services(COMPOSE.replace(there, broken), tmp_path)


def test_the_compose_file_wants_a_key(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RETELL_API_KEY is missing a value"):
        read_services(COMPOSE, tmp_path, key="")


def test_the_readme_runs_the_commands_of_the_compose_file(tmp_path: Path) -> None:
    section = README.partition("\n## Without containers\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    services = read_services(COMPOSE, tmp_path)
    ours = {name: each["command"] for name, each in services.items() if each["image"] == IMAGE}
    assert sorted(ours) == ["beat", "init", "web", "worker"]
    assert [name for name, command in ours.items() if command not in lines] == []


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the Dockerfile has the commands run, with nothing but what it copies."""
    root = here = tmp_path_factory.mktemp("image")
    for line in (EXAMPLE / "Dockerfile").read_text("utf-8").splitlines():
        instruction, *arguments = shlex.split(line, comments=True) or [""]
        if instruction == "WORKDIR":
            here = root / arguments[0].lstrip("/")
            here.mkdir(parents=True, exist_ok=True)
        elif instruction == "COPY":
            *sources, target = arguments
            for source in sources:
                copy(ROOT / source, here / target)
    return here


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def test_the_dockerfile_copies_what_is_installed(image: Path, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = run(*build, cwd=image.parent.parent)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("retell_flask-*.whl"))) == 1


def test_what_the_example_requires_is_what_the_tests_run() -> None:
    for line in (EXAMPLE / "requirements.txt").read_text("utf-8").splitlines():
        requirement = Requirement(line)
        assert requirement.specifier.contains(version(requirement.name)), line


class Deployment:
    """Our services in processes of this machine's, each started by its command."""

    def __init__(self, services: dict[str, Any], image: Path, directory: Path) -> None:
        self.services = services
        self.port = free_port()
        self.environ = {"PATH": _PATH, "PYTHONDONTWRITEBYTECODE": "1"}
        self._image = image
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str) -> str:
        done = run(*command, cwd=self._image, **self.environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, name: str) -> Server:
        log = self._directory / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self.services[name]["command"],
                cwd=self._image,
                env={**os.environ, **self.environ},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._processes.append(process)
        return Server(name, self.port, log, process)

    def is_healthy(self) -> bool:
        """Whether the Compose file's own check of the web server says so."""
        _, *check = self.services["web"]["healthcheck"]["test"]
        done = run(*(part.replace(":8000", f":{self.port}") for part in check))
        return done.returncode == 0

    def kill(self) -> None:
        for process in self._processes:
            kill_group(process)


@contextmanager
def deploy(broker_name: str, image: Path, directory: Path) -> Iterator[Deployment]:
    compose = COMPOSE
    for there, change in CHANGES[broker_name].items():
        assert there in compose
        assert change in README
        compose = compose.replace(there, change)
    directory.mkdir()
    made = Deployment(read_services(compose, directory), image, directory)
    with postgresql() as url, broker(broker_name, directory / "broker") as own:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        made.environ |= {
            "RETELL_API_KEY": KEY,
            "RETELL_INBOX_URL": url,
            "RETELL_LEASE": "2s",
            "CELERY_BROKER_URL": own.url,
            "GUNICORN_CMD_ARGS": f"--bind=127.0.0.1:{made.port}",
        }
        try:
            yield made
        finally:
            made.kill()


def test_the_commands_of_the_compose_file_handle_calls(image: Path, tmp_path: Path) -> None:
    files = sorted(image.rglob("*"))
    with ThreadPoolExecutor() as pool:  # together, since beat waits for ten seconds at first
        list(pool.map(lambda name: handle_calls(name, image, tmp_path / name), CHANGES))
    assert sorted(image.rglob("*")) == files  # a container's user may write nothing there


def handle_calls(broker_name: str, image: Path, directory: Path) -> None:
    with (
        deploy(broker_name, image, directory) as shop,
        Celery(broker=shop.environ["CELERY_BROKER_URL"], set_as_current=False) as client,
        client.connection_for_write() as messages,
        psycopg.connect(shop.environ["RETELL_INBOX_URL"], autocommit=True) as database,
    ):
        broker_version = VERSIONS[broker_name](messages).partition(".")[0]
        assert shop.services["broker"]["image"] == f"{broker_name.lower()}:{broker_version}"
        database_version = database.info.server_version // 10_000
        assert shop.services["postgres"]["image"] == f"postgres:{database_version}"

        assert "the tables were made" in shop.run(*shop.services["init"]["command"])
        web = shop.start("web")
        eventually(shop.is_healthy, 60)
        shop.start("beat")
        assert web.post(call_payload("call_ended", call_id="call_lost")).status == 200
        # So that nobody hears of it but by beat's sweep.
        eventually(lambda: client.control.purge(messages))
        worker = shop.start("worker")
        rehearsal = shlex.split("flask --app shop retell rehearse completed --check --pace 0")
        shop.run(*rehearsal, "--url", f"http://127.0.0.1:{web.port}")
        log = worker.wait_for_log("call_lost took", 60)
        assert "took 0:00:26" in log
        assert "left the caller positive" in log
        served = web.log.read_text("utf-8")
        assert "Using worker: gthread" in served
        assert "took" not in served
        worker.process.terminate()
        assert worker.process.wait(30) == 0
        found = database.execute("SELECT status FROM retell_event").fetchall()
        assert found == [("done",)] * 5
