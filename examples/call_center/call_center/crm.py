"""Each analyzed call is logged in HubSpot where its token is set, else in a table of ours."""

from __future__ import annotations

import html
import re
import time
from datetime import timedelta
from typing import Any

from flask import current_app
from sqlalchemy import or_

from retell_flask import Call, Retry

from . import records
from .hubspot import SEARCH_LAG, TIMEOUT, HubSpot
from .models import Activity, ContactClaim, caller_of, db, now
from .sendings import send_once
from .settings import page_of

_LONGEST_SUMMARY = 10_000
# After these, the search knows of whatever was made by an attempt that began: its requests may
# take their time each, and that for a contact is one of them.
_CALL_LAG = SEARCH_LAG + 4 * TIMEOUT
_CONTACT_LAG = SEARCH_LAG + TIMEOUT
_CALL_TO_CONTACT = 194  # HubSpot's number for this kind of association
_E164 = re.compile(r"\+[1-9]\d{6,14}")
# HubSpot's names for how a call went, of Retell's; others by the call's status.
_STATUS_BY_REASON = {
    "dial_busy": "BUSY",
    "dial_no_answer": "NO_ANSWER",
    "user_declined": "NO_ANSWER",
}
_STATUS = {"not_connected": "FAILED", "error": "FAILED"}


def log_call(call: Call) -> None:
    """Log a call on the contact with the person's number, which is made if there is none.

    A web call has no number, and that of a caller who hides it is none: such a call is logged on
    no contact, and is found in HubSpot's list of calls.
    """
    if current_app.config["HUBSPOT_ACCESS_TOKEN"]:
        send_once(call.call_id, "hubspot", "call", lambda: _log_in_hubspot(call), lag=_CALL_LAG)
    elif db.session.get(Activity, call.call_id) is None:
        records.save(call.call_id)  # its own receiver may not have succeeded yet
        contact = records.storable(caller_of(call)) or "unknown"
        db.session.add(Activity(call_id=call.call_id, contact=contact, note=_summary(call)))
        db.session.commit()


def _log_in_hubspot(call: Call) -> str:
    config = current_app.config
    hubspot = HubSpot(config["HUBSPOT_URL"], config["HUBSPOT_ACCESS_TOKEN"])
    logged = hubspot.find("calls", hs_call_external_id=call.call_id)
    if logged:  # and what should have been noted of it was not
        return logged
    number = caller_of(call) or ""
    associations = (
        [_on_contact(_contact(hubspot, number, call))] if _E164.fullmatch(number) else []
    )
    return hubspot.create("calls", _properties(call), associations=associations)


def _contact(hubspot: HubSpot, number: str, call: Call) -> str:
    """The number's contact. It is found if the number is stored in HubSpot as Retell writes it."""
    contact = hubspot.find("contacts", phone=number, mobilephone=number)
    if contact:
        return contact
    _claim(number, call.call_id)
    # HubSpot takes no contact that has neither a name nor an e-mail address.
    return hubspot.create("contacts", {"phone": number, "lastname": number})


def _claim(number: str, call_id: str) -> None:
    """Let nobody else make the contact, since HubSpot would take both.

    Two calls of a new number can be logged at once: after an outage, say. The second one waits
    until HubSpot's search finds what the first one made.
    """
    insert = records.insert_into(ContactClaim).values(
        number=number, call_id=call_id, claimed_at=now()
    )
    own = ContactClaim.call_id == call_id
    old = ContactClaim.claimed_at < now() - timedelta(seconds=_CONTACT_LAG)
    claimed = db.session.scalar(
        insert.on_conflict_do_update(
            index_elements=[ContactClaim.number],
            set_={"call_id": call_id, "claimed_at": insert.excluded.claimed_at},
            where=or_(own, old),
        ).returning(ContactClaim.number)
    )
    db.session.commit()
    if claimed is None:
        raise Retry(_CONTACT_LAG, reason="Another call makes the contact in HubSpot.")


def _on_contact(contact: str) -> dict[str, Any]:
    kind = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": _CALL_TO_CONTACT}
    return {"to": {"id": contact}, "types": [kind]}


def _properties(call: Call) -> dict[str, str]:
    started = call.start_timestamp or call.end_timestamp or round(time.time() * 1000)
    status = _STATUS.get(call.call_status or "", "COMPLETED")
    recording = call.recording_url or ""
    properties = {
        "hs_call_external_id": call.call_id,
        "hs_timestamp": str(started),
        "hs_call_title": f"Call with {call.agent_name or 'an AI agent'}",
        "hs_call_body": _body(call),
        "hs_call_direction": "OUTBOUND" if call.direction == "outbound" else "INBOUND",
        "hs_call_status": _STATUS_BY_REASON.get(call.disconnection_reason or "", status),
        "hs_call_duration": str(call.duration_ms or 0),
        "hs_call_from_number": call.from_number or "",
        "hs_call_to_number": call.to_number or "",
        # HubSpot takes no other.
        "hs_call_recording_url": recording if recording.startswith("https://") else "",
    }
    return {name: value for name, value in properties.items() if value}


def _body(call: Call) -> str:
    """HTML. The summary repeats what a stranger said."""
    page = html.escape(page_of(call.call_id))
    return f'<p>{html.escape(_summary(call))}</p><p><a href="{page}">Open the call</a></p>'


def _summary(call: Call) -> str:
    summary = (call.analysis and call.analysis.summary) or ""
    return str(records.storable(summary))[:_LONGEST_SUMMARY]
