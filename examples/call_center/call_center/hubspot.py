"""HubSpot's API, as far as ``crm`` needs it.

HubSpot's own client for Python is not kept up: its last release is of May 2025, it knows only the
paths below ``/crm/v3``, and what is to replace it is an alpha.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, TypeVar

import requests
from pydantic import BaseModel

from retell_flask import Retry

from . import failures

VERSION = "2026-09"
TIMEOUT = 10.0  # seconds
# How long HubSpot's search may need until it finds what was made.
SEARCH_LAG = 60.0

_REMEDIES = {
    401: "See HUBSPOT_ACCESS_TOKEN.",
    403: "The token needs the scopes crm.objects.contacts.read and crm.objects.contacts.write.",
}
_EXISTING = re.compile(r"Existing ID: (\d+)")


class Record(BaseModel):
    id: str


class Found(BaseModel):
    results: list[Record]


Form = TypeVar("Form", Record, Found)


class HubSpot:
    """One account."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url.rstrip('/')}/crm/objects/{VERSION}"
        self._headers = {"Authorization": f"Bearer {token}"}

    def find(self, kind: str, **values: str) -> str | None:
        """The id of the oldest record that has one of these values."""
        response = self._post(
            f"{kind}/search",
            filterGroups=[
                {"filters": [{"propertyName": name, "operator": "EQ", "value": value}]}
                for name, value in values.items()
            ],
            sorts=[{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            limit=1,
        )
        results = _read(response, Found).results
        return results[0].id if results else None

    def create(self, kind: str, properties: dict[str, str], **more: Any) -> str:
        """The id of a new record, or of the one that HubSpot says is in its way.

        Where HubSpot did not say whether it made one, the next try comes when ``find`` finds it.
        """
        try:
            response = self._post(kind, properties=properties, **more)
            existing = _EXISTING.search(response.text) if response.status_code == 409 else None
            return existing[1] if existing else _read(response, Record).id
        except Retry as error:
            lag = timedelta(seconds=SEARCH_LAG)
            raise Retry(max(error.after or lag, lag), reason=error.reason) from None

    def _post(self, path: str, **body: Any) -> requests.Response:
        url = f"{self._url}/{path}"
        try:
            return requests.post(
                url, json=body, headers=self._headers, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.RequestException:
            raise Retry(reason="HubSpot did not answer.") from None


def _read(response: requests.Response, form: type[Form]) -> Form:
    if not response.ok:
        raise failures.of_status("HubSpot", response.status_code, response.headers, _REMEDIES)
    try:
        return form.model_validate_json(response.content)
    except ValueError:  # its text quotes the answer
        raise Retry(reason="HubSpot's answer cannot be read.") from None
