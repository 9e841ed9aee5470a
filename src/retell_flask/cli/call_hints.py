"""Troubles of calls and chats themselves. Their texts agree with the README's table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from ..models.call import Call
from .hints import Case, Hint, Seen
from .text import age

_ANALYSIS_TAKES = timedelta(minutes=5)
_ANALYSES = {"call_ended": "call_analyzed", "chat_ended": "chat_analyzed"}
_CHECK_NUMBER = (
    "Check the number in event.transfer.destination (show --body), and the "
    "disconnection_reason in call_ended{reason}."
)


def _call_failed(case: Case) -> Iterator[Hint]:
    for entry, _, event, _ in case.of_type("call_ended", "call_error"):
        if event is None or event.error is None:
            continue
        status = event.call.call_status if event.call else None
        known = [f"call_status {status}"] if status else []
        known += [f"disconnection_reason {event.error.code}"] if event.error.code else []
        yield Hint(
            "call failed",
            entry.event_id,
            event.error.message + (f" ({', '.join(known)})" if known else ""),
            ("Place it again later: that may well succeed." if event.error.retryable else _MEND)
            + (_NEVER_STARTED if status == "not_connected" else ""),
        )


_MEND = "Mend the cause first: the same call, placed again, would fail again."
_NEVER_STARTED = (
    " call_started never comes for a call that did not connect: use call_ended, or call_error."
)


def _chat_failed(case: Case) -> Iterator[Hint]:
    for entry, _, event, _ in case.of_type("chat_ended"):
        if event is not None and event.chat and event.chat.chat_status == "error":
            yield Hint(
                "chat failed",
                entry.event_id,
                "Retell ended the chat with chat_status error, and gives no reason.",
                "Look at the chat in Retell's dashboard.",
            )


def _no_transcript(case: Case) -> Iterator[Hint]:
    for seen in case.of_type("call_ended", "chat_ended"):
        subject = seen.event and (seen.event.call or seen.event.chat)
        if not subject or subject.transcript:
            continue
        if isinstance(subject, Call) and subject.call_status == "not_connected":
            continue  # nobody could speak, and the hint about the failure says why
        if subject.transcript == "":
            found, check = _NOBODY_SPOKE
        else:
            setting = getattr(subject, _SETTING, None)
            found = f"transcript is missing{f'; {_SETTING} is {setting}' if setting else ''}."
            check = _KEEPS_NONE
        yield Hint("no transcript", seen.entry.event_id, found, check)


_SETTING = "data_storage_setting"
_NOBODY_SPOKE = (
    "transcript is there, and empty: nobody spoke.",
    "If somebody did, look at the call in Retell's dashboard.",
)
_KEEPS_NONE = (
    f"Does the agent's {_SETTING} keep transcripts? In transcript_updated the turns are in "
    "event.call.transcript_with_tool_calls: read the field that the event has."
)


def _transfer_failed(case: Case) -> Iterator[Hint]:
    for entry, *_ in case.of_type("transfer_cancelled"):
        endings = case.beside(entry, "call_ended")
        reason = next(filter(None, map(_reason, endings)), "")
        yield Hint(
            "transfer failed",
            entry.event_id,
            "The number did not answer, or is wrong: transfer_cancelled came instead of "
            "transfer_bridged.",
            _CHECK_NUMBER.format(reason=reason and f", which is {reason}"),
        )
    for seen in case.of_type("call_ended"):
        if _reason(seen) == "transfer_cancelled":
            yield Hint(
                "transfer failed",
                seen.entry.event_id,
                "The transfer that this call mediated was cancelled.",
                "Look at the call that was to be transferred.",
            )
        elif _reason(seen) != "call_transfer" and _was_left_open(case, seen):
            yield Hint(
                "transfer failed",
                seen.entry.event_id,
                f"A transfer began, and the call ended by {_reason(seen) or 'itself'}; neither "
                "transfer_bridged nor transfer_cancelled came.",
                "Add both to the agent's webhook_events: they are opt-in. "
                + _CHECK_NUMBER.format(reason=""),
            )


def _was_left_open(case: Case, ending: Seen) -> bool:
    outcomes = ("transfer_bridged", "transfer_cancelled", "transfer_ended")
    began = case.beside(ending.entry, "transfer_started")
    return bool(began) and not case.beside(ending.entry, *outcomes)


def _reason(seen: Seen) -> str | None:
    call = seen.event.call if seen.event else None
    return call.disconnection_reason if call else None


def _missing_analysis(case: Case) -> Iterator[Hint]:
    for entry, *_ in case.of_type(*_ANALYSES):
        analysis = _ANALYSES[entry.type]
        waited = case.now - entry.received_at
        if waited > _ANALYSIS_TAKES and not case.beside(entry, analysis):
            yield Hint(
                "missing analysis",
                entry.event_id,
                f"{entry.type} came {age(waited)} ago, and no {analysis}.",
                f"{analysis} comes seconds to minutes later, for some calls that did not "
                "connect never, and only if it is among the agent's webhook_events. Do not wait "
                f"for it: act on {entry.type}, and add the analysis when it comes.",
            )


CALL_LOOKS: tuple[Callable[[Case], Iterator[Hint]], ...] = (
    _call_failed,
    _chat_failed,
    _no_transcript,
    _transfer_failed,
    _missing_analysis,
)
