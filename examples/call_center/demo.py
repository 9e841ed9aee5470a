"""Several calls, rehearsed into the call centre as Retell would tell it of them.

Starts the application on a free local port with a database of its own, has ``flask retell
rehearse`` send it the signed webhooks of whole calls, says what became of each, and serves on
until Ctrl-C, with a call that goes on meanwhile. No service is called, and no phone rings.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from click.testing import Result
from flask import Flask
from flask.cli import ScriptInfo
from sqlalchemy import select
from werkzeug.serving import make_server

HERE = Path(__file__).parent
CALLS = ("completed", "voicemail", "no_answer", "transfer_bridged", "transfer_failed", "error")
UNHAPPY = str(HERE / "rehearsals" / "unhappy.json")
PAUSE_SECONDS = 20.0
NOBODY = "http://127.0.0.1:9"  # a port at which nothing listens


def make_app(directory: str) -> Flask:
    """The application without the options and tokens that are set here: it sends nothing."""
    sys.path.insert(0, str(HERE))
    from call_center.settings import OPTIONS

    for name in [name for name in os.environ if name.startswith("RETELL_") or name in OPTIONS]:
        del os.environ[name]
    os.environ["RETELL_API_KEY"] = "key_of_the_demo"
    os.environ["RETELL_API_URL"] = NOBODY
    os.environ["RETELL_INBOX_URL"] = f"sqlite:///{directory}/retell.sqlite3"
    os.environ["CALL_CENTER_DATABASE_URL"] = f"sqlite:///{directory}/call_center.sqlite3"
    from call_center import create_app

    return create_app(DEBUG=True)  # which lets this machine see the pages without a password


def rehearse(app: Flask, url: str, scenario: str) -> Result:
    """Send a whole call at once, and wait until every handler is done."""
    arguments = ["retell", "rehearse", scenario, "--url", url, "--pace", "0", "--check"]
    # By itself, the runner ends the debug mode of the application that serves.
    info = ScriptInfo(create_app=lambda: app, set_debug_flag=False)
    return app.test_cli_runner().invoke(args=arguments, obj=info)


def describe(app: Flask) -> None:
    """A line for each call, and its tasks below it."""
    from call_center.models import Call, db

    with app.app_context():
        for call in db.session.scalars(select(Call).order_by(Call.noted_at)):
            print(f"  {call.outcome:<12}{call.sentiment or '-':<10}{call.caller}  {call.reason}")
            for item in call.items:
                print(f"{'':<12}task: {item.text}")
            if any(sending.what == "alarm" for sending in call.sendings):
                print(f"{'':<12}alarm: in the log, since no Slack is set up")


def play_on(url: str) -> None:
    """One call after the other, as long as they would take; returns when it is interrupted."""
    command = [sys.executable, "-m", "flask", "--app", "call_center", "retell", "rehearse"]
    unheard = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    while True:
        for scenario in (UNHAPPY, "completed"):
            arguments = [scenario, "--url", url, "--pace", "1"]
            with subprocess.Popen([*command, *arguments], cwd=HERE, **unheard) as call:
                try:
                    call.wait()
                    threading.Event().wait(PAUSE_SECONDS)
                finally:
                    call.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="stop after the calls")
    once = parser.parse_args().once
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored
    directory = tempfile.mkdtemp()
    # Registered before the application's threads, and so done after they have stopped.
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    app = make_app(directory)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = app.config["CALL_CENTER_PUBLIC_URL"] = f"http://127.0.0.1:{server.port}"
    print(f"The call centre listens on {url}/webhooks/retellai. Retell's part is rehearsed:")
    for scenario in (*CALLS, UNHAPPY):
        played = rehearse(app, url, scenario)
        if played.exit_code:
            print(played.output)
            return 1
        print(f"  {Path(scenario).stem}: each webhook answered 200, each handler done", flush=True)
    print("\nWhat the call centre knows of them:")
    describe(app)
    if not once:
        print(f"\nLook at {url}, where another call goes on now. Ctrl-C stops it.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            play_on(url)
        print("\nStopped.")
    server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
