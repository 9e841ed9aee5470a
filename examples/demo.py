"""One whole call, sent to the quickstart application as Retell would send it.

Starts ``quickstart.py`` on a free local port, posts the signed webhooks of a sample call
to it over HTTP, shows what each handler made of them, and serves on until Ctrl-C.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import io
import logging
import os
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
import traceback
from pathlib import Path

from werkzeug.serving import BaseWSGIServer, make_server

from retell_flask.identity import connected
from retell_flask.signals import SIGNALS
from retell_flask.testing import encode, sample, sign
from retell_flask.testing.sending import Sender

KEY = "key_of_the_demo"
PATH = "/webhooks/retellai"
CALL = ("call_started", "transcript_updated", "call_ended", "call_analyzed")


class Narrator(logging.Handler):
    """Collects what each handler printed, as the library logs that it is done."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.output = io.StringIO()
        self.runs: list[tuple[str, str, str, bool]] = []

    def emit(self, record: logging.LogRecord) -> None:
        receiver = getattr(record, "retell_receiver", None)
        if receiver is None:
            return
        printed = self.output.getvalue()
        self.output.seek(0)
        self.output.truncate()
        if record.exc_info:
            printed += "".join(traceback.format_exception(record.exc_info[1]))
        failed = record.levelno > logging.INFO
        self.runs.append((vars(record)["retell_signal"], receiver, printed, failed))


def start_server(directory: str) -> BaseWSGIServer:
    for name in [name for name in os.environ if name.startswith("RETELL_")]:
        del os.environ[name]  # the demo has a key of its own
    os.environ["RETELL_API_KEY"] = KEY
    os.environ["RETELL_INBOX_URL"] = f"sqlite:///{directory}/retell.sqlite3"
    sys.path.insert(0, str(Path(__file__).parent))
    from quickstart import create_app

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", 0, create_app(), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def play(url: str, narrator: Narrator) -> None:
    sender = Sender(url, lambda body: sign(body, KEY))
    for name in CALL:
        seen, body = len(narrator.runs), encode(sample(name))
        with contextlib.redirect_stdout(narrator.output):
            reply = sender.post(body)
            wait_for_handlers(narrator, seen, name)
        print(f"\n→ {name}, {len(body):,} bytes, signed")
        for _, receiver, printed, failed in narrator.runs[seen:]:
            print(f"  {receiver.partition(':')[2]}{' FAILED' if failed else ''}")
            for line in printed.strip().splitlines():
                for part in textwrap.wrap(line, 74) or [""]:
                    print(f"  │ {part}")
        if len(narrator.runs) == seen:
            print("  (no handler of the quickstart listens to this one)")
        answer = f"{reply.status} {reply.body.decode()}" if reply.status else reply.error
        print(f"← {answer} in {reply.seconds * 1000:.0f} ms")


def handlers(*signals: str) -> set[tuple[str, str]]:
    """The handlers of the quickstart, as signal and name."""
    from quickstart import retell

    return {
        (name, identity) for name in signals for identity, _ in connected(SIGNALS[name], retell)
    }


def wait_for_handlers(narrator: Narrator, seen: int, name: str) -> None:
    """The answer does not wait for them: they run in threads of the application."""
    # Where one has failed, the events behind it wait until it is tried again.
    deadline = time.monotonic() + (1 if has_failed(narrator) else 10)
    while time.monotonic() < deadline:
        if handlers(name) <= {run[:2] for run in narrator.runs[seen:]}:
            return
        time.sleep(0.01)


def has_failed(narrator: Narrator) -> bool:
    """Whether a handler has failed."""
    return any(failed for *_, failed in narrator.runs)


def missing(narrator: Narrator) -> set[tuple[str, str]]:
    """The handlers of the quickstart that did not run to success."""
    return handlers(*SIGNALS) - {
        (signal, receiver) for signal, receiver, _, failed in narrator.runs if not failed
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="stop after the call")
    once = parser.parse_args().once
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    narrator = Narrator()
    deliveries = logging.getLogger("retell_flask.invocation")
    deliveries.addHandler(narrator)
    deliveries.setLevel(logging.INFO)
    deliveries.propagate = False
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored
    directory = tempfile.mkdtemp()
    # Registered before the application's threads, and so done after they have stopped.
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    server = start_server(directory)
    url = f"http://127.0.0.1:{server.port}{PATH}"
    print(f"examples/quickstart.py listens on {url}")
    print("A call comes in, and Retell tells us about it:")
    play(url, narrator)
    if left := missing(narrator):
        print(f"\nThese handlers did not run: {', '.join(sorted(name for _, name in left))}")
        return 1
    print(f"\nEvery handler ran. Retell's part is played by {Path(__file__).name}.")
    if not once:
        deliveries.removeHandler(narrator)
        deliveries.addHandler(logging.StreamHandler())
        with contextlib.suppress(KeyboardInterrupt):
            print(f"Still serving on {url}")
            print(f"with RETELL_API_KEY={KEY}. Ctrl-C stops it.", flush=True)
            threading.Event().wait()
        print("\nStopped.")
    server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
