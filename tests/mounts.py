"""File systems of the test's own, to be filled or made read-only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_CHUNK = 4096


def is_root() -> bool:
    """Permissions do not hold for root, and root alone may mount."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


@contextmanager
def small_file_system(directory: Path, size: str = "2m") -> Iterator[Path]:
    """In memory, below ``directory``. Skips where it cannot be mounted."""
    if not is_root():
        pytest.skip("only root can mount a file system")
    place = directory / "mounted"
    place.mkdir()
    done = _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    if done.returncode:
        pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        if _run("umount", str(place)).returncode:
            _run("umount", "--lazy", str(place))


@contextmanager
def separate_file_system(directory: Path) -> Iterator[Path]:
    """What ``set_read_only`` takes."""
    if is_root():
        with small_file_system(directory) as place:
            yield place
        return
    place = directory / "separate"
    place.mkdir()
    try:
        yield place
    finally:
        place.chmod(0o700)


def fill(place: Path) -> Path:
    """A file that takes all that is left."""
    ballast = place / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * _CHUNK)
    assert os.statvfs(place).f_bavail == 0
    return ballast


def set_read_only(place: Path, wanted: bool) -> None:
    """Nothing may be open for writing there."""
    if is_root():
        done = _run("mount", "-o", f"remount,{'ro' if wanted else 'rw'}", str(place))
        assert done.returncode == 0, done.stderr
        return
    for file in place.iterdir():
        file.chmod(0o400 if wanted else 0o600)
    place.chmod(0o500 if wanted else 0o700)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
