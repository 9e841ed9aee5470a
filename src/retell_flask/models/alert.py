"""An incident of an alert rule: about a metric of the workspace, not about one call."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from .base import Model, moment


class Alert(Model, frozen=True, kw_only=True):
    """Fields as in Retell's documentation, "Alerting". Cost metrics are in cents.

    Alerts are sent once and never repeated, and a rule has one open incident at a time.
    """

    alert_incident_id: str | None = None
    alert_rule_id: str | None = None
    org_id: str | None = None
    name: str | None = None
    metric_type: str | None = None
    filter: dict[str, Any] | None = None
    threshold_type: str | None = None
    threshold_value: float | None = None
    comparator: str | None = None
    frequency: str | None = None
    window: str | None = None
    emails: tuple[str, ...] | None = None
    webhook_urls: tuple[str, ...] | None = None
    current_value: float | None = None
    previous_value: float | None = None
    triggered_timestamp: int | None = None
    resolved_timestamp: int | None = None

    @property
    def triggered_at(self) -> datetime | None:
        """``triggered_timestamp`` (ms) as an aware UTC datetime."""
        return moment(self.triggered_timestamp)

    @property
    def resolved_at(self) -> datetime | None:
        """``resolved_timestamp`` (ms) as an aware UTC datetime; None while it is open."""
        return moment(self.resolved_timestamp)
