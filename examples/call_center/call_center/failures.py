"""What follows from a service's not doing what it was asked: another try, or none.

The reasons are in our words, and may be logged and shown: what a service answers can quote what it
was sent, which is personal data.
"""

from __future__ import annotations

from collections.abc import Mapping

from retell_flask import GiveUp, Retry

# Beside those of 500 and up, what another try may mend. 477 is HubSpot's, for an account that it
# is moving.
_MAY_PASS = {408, 409, 423, 425, 429, 477}


def of_status(
    service: str, status: int, headers: Mapping[str, str], remedies: Mapping[int, str]
) -> Retry | GiveUp:
    """What to raise for an HTTP status; ``remedies`` say what mends those that stay."""
    answer = f"{service} answered {status}."
    after = headers.get("Retry-After", "")
    if status in _MAY_PASS or status >= 500:
        return Retry(int(after) if after.isdecimal() else None, reason=answer)
    return GiveUp(f"{answer} {remedies.get(status, '')}".strip())
