from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import requests

DEMO = [sys.executable, str(Path(__file__).parent.parent / "demo.py")]
ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}
TRANSFERRED = "  transferred neutral   +14155550142  call_transfer"


def test_the_demo_rehearses_calls_and_says_what_became_of_them(tmp_path: Path) -> None:
    demo = subprocess.run(
        [*DEMO, "--once"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "RETELL_DISPATCH": "none", "CALL_CENTER_PROXIES": "of another"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert demo.returncode == 0, demo.stderr
    assert demo.stdout.count("each webhook answered 200, each handler done") == 7
    assert TRANSFERRED in demo.stdout.splitlines()
    assert "task: Agent: I'll have our billing manager call you tomorrow at 9." in demo.stdout
    assert list(tmp_path.iterdir()) == []


def test_it_serves_its_pages_until_it_is_interrupted(tmp_path: Path) -> None:
    demo = subprocess.Popen(DEMO, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    try:
        looked_at = next(line for line in demo.stdout if line.startswith("Look at "))
        page = requests.get(looked_at.split()[2].rstrip(","), timeout=10)
        assert page.status_code == 200
        assert page.text.count("<tr>") >= 8  # of the head, and a call each
        demo.send_signal(signal.SIGINT)
        assert demo.wait(10) == 0
        assert "Stopped." in demo.stdout.read()
    finally:
        demo.kill()
        demo.wait()
        demo.stdout.close()
