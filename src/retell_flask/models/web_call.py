"""A web call that was created. Fields as in ``retell-sdk``'s ``CreateWebCallResponse``."""

from __future__ import annotations

from .base import Model


class IceServer(Model, frozen=True, kw_only=True):
    """A server that the browser's connection is set up with."""

    urls: str | tuple[str, ...] | None = None
    username: str | None = None
    credential: str | None = None


class WebCall(Model, frozen=True, kw_only=True):
    """What the caller's browser needs to join: hand it to Retell's web SDK.

    ``access_token`` lets whoever has it join, until ``expires_at`` (Unix milliseconds); log
    it nowhere.
    """

    call_id: str
    access_token: str | None = None
    expires_at: int | None = None
    ice_servers: tuple[IceServer, ...] | None = None
    transport: str | None = None
