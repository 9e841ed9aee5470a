"""``send --count --rate`` against gunicorn: what it reports is what the server's log says.

A line of the log has the time that the application took, when it was over and, in its
signature, when it was sent. From sending to being over is what a client should see, but for
waking up to read the answer, which no log of a server has. On an idle machine of two cores the
reported percentiles were within 0.5 ms of that. With four processes beside that wanted all of
the machine they were up to half as much again (25.7 ms and 17 ms), where the application itself
took 5.7 ms: the rest was waiting for a processor, which the client may do as long as the server.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from databases import rows
from killing import open_inbox
from servers import HERE, eventually, running
from support import KEY

COUNT, RATE = 5000, 200
RANKS = (50, 90, 95, 99)


class Logged(NamedTuple):
    """Times of one request, in seconds."""

    began: float
    took: float
    since_it_was_signed: float


def read_log(path: Path) -> list[Logged]:
    logged = []
    for line in path.read_text().splitlines():
        ended, method, status, microseconds, signature = line.split()
        if method == "POST":
            assert status == "200"
            took = int(microseconds) / 1e6
            signed = int(re.fullmatch(r"v=(\d+),d=\w+", signature)[1]) / 1e3  # type: ignore[index]
            logged.append(Logged(float(ended) - took, took, float(ended) - signed))
    return logged


def percentiles(seconds: list[float]) -> list[float]:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return [cuts[rank - 1] * 1000 for rank in RANKS]


def test_rate_and_percentiles_agree_with_the_log_of_the_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/inbox.sqlite3"
    log = tmp_path / "access.log"
    options = ["--workers", "2", "--config", "gunicorn_timed.py", "--access-logfile", str(log)]
    with running("gunicorn-gthread", *options, RETELL_API_KEY=KEY, RETELL_INBOX_URL=url) as server:
        command = ["send", "call_ended", "--count", str(COUNT), "--rate", str(RATE)]
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "hostapp:create_app", "retell", *command]
            + ["--url", f"http://127.0.0.1:{server.port}"],
            cwd=HERE,
            env={**os.environ, "RETELL_API_KEY": KEY, "RETELL_INBOX_URL": "none"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        print(done.stdout)
        assert (done.returncode, done.stderr) == (0, "")
        # A line is written when its answer is on its way already.
        eventually(lambda: log.read_text().count(" POST ") >= COUNT)
    logged = read_log(log)
    taken, seen = (percentiles(list(times)) for times in list(zip(*logged, strict=True))[1:])
    print("the application took", taken, "since it was signed", seen)

    inbox = open_inbox(url)
    assert len(logged) == COUNT == len(rows(inbox.database))
    inbox.database.dispose()
    assert f"{COUNT:,}     200\n" in done.stdout
    began = sorted(each.began for each in logged)
    # A machine that is too busy sends late, which the command says, and answers late.
    rate, late, longest = (
        float(re.search(what, done.stdout)[1].replace(",", ""))  # type: ignore[index]
        for what in (r"([\d.]+) a second", r"ran late by ([\d.,]+) ms", r"max ([\d.,]+)")
    )
    assert COUNT / rate == pytest.approx(COUNT / RATE, abs=late / 1000 + 0.5)
    assert began[-1] - began[0] == pytest.approx(COUNT / rate, abs=longest / 1000 + 0.5)
    reported = [
        float(found.replace(",", "")) for found in re.findall(r"p\d\d ([\d.,]+),", done.stdout)
    ]
    for figure, at_least, there in zip(reported, taken, seen, strict=True):
        assert figure >= at_least - 0.1
        assert there * 0.75 - 1 <= figure <= there * 2 + 2
