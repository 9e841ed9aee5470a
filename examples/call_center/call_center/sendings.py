"""What was sent to other services: once each, and noted for the call's page."""

from __future__ import annotations

from collections.abc import Callable

from retell_flask import GiveUp, Retry

from . import records
from .models import UNFINISHED, Sending, db, now


def send_once(
    call_id: str, service: str, what: str, send: Callable[[], str | None], *, lag: float = 0
) -> None:
    """Run ``send``, unless it is noted that it worked; note how it went.

    ``send`` returns the service's own id of what was made, and raises whatever went wrong. That
    is raised again: retell-flask tries the receiver again, and no other. If the process ends
    between the service's success and our note, ``send`` runs again: it has to see to it that the
    service does not do it twice. A service by which that is found only after ``lag`` seconds is
    left alone for so long.
    """
    sending = db.session.get(Sending, (call_id, service, what))
    if sending is None:
        records.save(call_id)  # its own receiver may not have succeeded yet
        sending = Sending(call_id=call_id, service=service, what=what, attempts=0)
        db.session.add(sending)
    elif sending.worked:
        return
    elif sending.detail == UNFINISHED:
        wait = lag - (now() - sending.sent_at).total_seconds()
        if wait > 0:
            raise Retry(wait, reason="It is not known yet whether the last attempt got through.")
    sending.attempts += 1
    sending.sent_at = now()
    sending.worked, sending.detail = False, UNFINISHED
    db.session.commit()  # a service may take its time, and no transaction waits for it
    try:
        made = send()
    except Exception as error:
        db.session.rollback()
        db.session.refresh(sending)
        if not sending.worked:  # by another process meanwhile
            sending.detail = _describe(error)
            db.session.commit()
        raise
    sending.worked, sending.detail = True, records.storable(made)
    db.session.commit()


def _describe(error: Exception) -> str:
    """The reasons that are ours are fit to be shown; of others, which may quote what was sent, the
    name is."""
    return str(error) if isinstance(error, GiveUp | Retry) else type(error).__name__
