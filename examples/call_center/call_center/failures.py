"""What follows from a service's not doing what it was asked: another try, or none.

The reasons are in our words, and may be logged and shown: what a service answers can quote what it
was sent, which is personal data.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from retell_flask import GiveUp, Retry

LONGEST_PAUSE = 3600  # seconds
# Beside those of 500 and up, what another try may mend. 477 is HubSpot's, for an account that it
# is moving.
_MAY_PASS = {408, 409, 423, 425, 429, 477}


def of_status(
    service: str, status: int, headers: Mapping[str, str], remedies: Mapping[int, str]
) -> Retry | GiveUp:
    """What to raise for an HTTP status; ``remedies`` say what mends those that stay."""
    answer = f"{service} answered {status}."
    if status in _MAY_PASS or status >= 500:
        return Retry(_pause(headers.get("Retry-After", "")), reason=answer)
    return GiveUp(f"{answer} {remedies.get(status, '')}".strip())


def _pause(after: str) -> float | None:
    """In seconds; None for the usual one, where the service does not say.

    Somewhat longer than it says: all that was refused would come back at the same moment, and
    eight attempts with a second between them would be over before the service has recovered.
    """
    if not re.fullmatch("[0-9]{1,9}", after):
        return None
    return min(int(after), LONGEST_PAUSE) + random.uniform(5, 60)
