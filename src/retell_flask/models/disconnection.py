"""Why calls end: every ``disconnection_reason`` that Retell documents, in our words.

From Retell's documentation ("Debug call disconnection") and ``retell-sdk`` 6.2.13. The
list grows about once a month, so an unknown reason is a value like any other.
"""

from __future__ import annotations

from typing import NamedTuple


class DisconnectionReason(NamedTuple):
    """``retryable``: the same call, placed again later, may well succeed."""

    message: str
    retryable: bool = False


UNKNOWN_REASON = DisconnectionReason("The call failed for a reason that is not documented yet.")

DISCONNECTION_REASONS: dict[str, DisconnectionReason] = {
    # The call took place.
    "user_hangup": DisconnectionReason("The person on the line hung up."),
    "agent_hangup": DisconnectionReason("The agent hung up."),
    "call_transfer": DisconnectionReason("The agent transferred the call."),
    "voicemail_reached": DisconnectionReason("A voicemail system answered."),
    "ivr_reached": DisconnectionReason(
        "A phone menu answered, and the agent is set to hang up on one."
    ),
    "inactivity": DisconnectionReason("Nobody spoke for longer than the agent allows."),
    "max_duration_reached": DisconnectionReason("The call reached the agent's longest duration."),
    "user_requested_dnc": DisconnectionReason("The person asked not to be called again."),
    "user_requested_callback": DisconnectionReason("The person asked to be called back."),
    "call_take_over": DisconnectionReason("A human took the call over."),
    "manual_stopped": DisconnectionReason(
        "The call was stopped through the API or the dashboard."
    ),
    "transfer_bridged": DisconnectionReason("The transfer that this call mediated was bridged."),
    "transfer_cancelled": DisconnectionReason(
        "The transfer that this call mediated was cancelled."
    ),
    "no_concurrency_fallback": DisconnectionReason(
        "No capacity was free, so the fallback number took over."
    ),
    # It was not connected.
    "dial_busy": DisconnectionReason("The line was busy.", retryable=True),
    "dial_no_answer": DisconnectionReason("Nobody answered.", retryable=True),
    "dial_failed": DisconnectionReason("The carrier did not connect the call.", retryable=True),
    "invalid_destination": DisconnectionReason(
        "The number called does not exist or is written wrongly."
    ),
    "telephony_provider_permission_denied": DisconnectionReason(
        "The telephony provider refused the trunk."
    ),
    "telephony_provider_unavailable": DisconnectionReason(
        "The telephony provider was down.", retryable=True
    ),
    "sip_routing_error": DisconnectionReason("The SIP route went in a circle or was too long."),
    "marked_as_spam": DisconnectionReason("The calling number is flagged as spam."),
    "network_blocked": DisconnectionReason("The network blocked the call."),
    "user_declined": DisconnectionReason("The person called declined."),
    # It failed.
    "concurrency_limit_reached": DisconnectionReason(
        "The workspace has no concurrent call left.", retryable=True
    ),
    "no_valid_payment": DisconnectionReason("The workspace has no valid payment method."),
    "credit_exhausted": DisconnectionReason("The workspace's credit is used up."),
    "budget_reached": DisconnectionReason("The workspace's budget is used up."),
    "scam_detected": DisconnectionReason("Retell takes the agent for a scam."),
    "error_llm_websocket_open": DisconnectionReason(
        "Your language model's socket did not open.", retryable=True
    ),
    "error_llm_websocket_lost_connection": DisconnectionReason(
        "The connection to your language model's socket broke.", retryable=True
    ),
    "error_llm_websocket_runtime": DisconnectionReason(
        "Your language model's socket closed with an error."
    ),
    "error_llm_websocket_corrupt_payload": DisconnectionReason(
        "Your language model's socket sent what Retell cannot read."
    ),
    "error_no_audio_received": DisconnectionReason(
        "No audio came from the phone or the browser.", retryable=True
    ),
    "error_asr": DisconnectionReason("Retell's speech recognition failed.", retryable=True),
    "error_retell": DisconnectionReason("Retell failed.", retryable=True),
    "error_unknown": DisconnectionReason(
        "The call failed and Retell does not know why.", retryable=True
    ),
    "error_user_not_joined": DisconnectionReason(
        "Nobody joined the web call within 30 seconds.", retryable=True
    ),
    "registered_call_timeout": DisconnectionReason(
        "The registered call was not dialled within 5 minutes.", retryable=True
    ),
    # No longer sent.
    "machine_detected": DisconnectionReason("A voicemail system answered."),
    "error_inbound_webhook": DisconnectionReason("The inbound webhook failed.", retryable=True),
    "error_frontend_corrupted_payload": DisconnectionReason(
        "The web client sent what Retell cannot read."
    ),
    "error_twilio": DisconnectionReason("Twilio failed.", retryable=True),
}
