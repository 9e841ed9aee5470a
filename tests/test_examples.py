from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"
DEMO = [sys.executable, str(EXAMPLES / "demo.py")]


def test_the_demo_plays_a_call_and_every_handler_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--once"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "│ Agent: Hi, thanks for calling Bayview Dental" in done.stdout
    assert "│ The caller was positive" in done.stdout
    assert done.stdout.count('200 {"received": true}') == 4
    assert "Every handler ran" in done.stdout
    assert done.stderr == ""


def test_the_demo_minds_neither_proxies_nor_options_of_yours(tmp_path: Path) -> None:
    (tmp_path / "demo.py").write_text((EXAMPLES / "demo.py").read_text("utf-8"), "utf-8")
    source = (EXAMPLES / "quickstart.py").read_text("utf-8")
    named = source.replace("@call_ended.connect_via(retell)", '@retell.on("call_ended", name="n")')
    (tmp_path / "quickstart.py").write_text(named, "utf-8")
    yours = {"http_proxy": "http://127.0.0.1:9", "RETELL_SIGNATURE_SCHEMES": "plain"}
    done = subprocess.run(
        [sys.executable, "demo.py", "--once"],
        cwd=tmp_path,
        env={**os.environ, **yours},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_the_demo_fails_if_a_handler_does(tmp_path: Path) -> None:
    for name in ("demo.py", "quickstart.py"):
        source = (EXAMPLES / name).read_text("utf-8")
        (tmp_path / name).write_text(source.replace("print(call.transcript)", "1 / 0"), "utf-8")
    done = subprocess.run(
        [sys.executable, "demo.py", "--once"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "store_call FAILED" in done.stdout
    assert "ZeroDivisionError" in done.stdout
    # call_analyzed waits for call_ended, which has to be tried again.
    assert "did not run: quickstart:follow_up, quickstart:store_call" in done.stdout


def test_the_demo_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        DEMO,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert demo.stdout is not None
    try:
        for line in demo.stdout:
            if "Still serving on" in line:
                url = line.split()[3]
                break
        with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
            assert answer.status == 200
        demo.send_signal(signal.SIGINT)
        assert demo.wait(10) == 0
        assert "Stopped." in demo.stdout.read()
    finally:
        demo.kill()
        demo.wait()
        demo.stdout.close()
