"""``flask retell …``"""

from __future__ import annotations

from flask import Flask


def add_commands(app: Flask) -> None:
    """Add the group ``retell`` to the app's commands."""
