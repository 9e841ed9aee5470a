"""Action items by a few patterns of English, where no language model is set up.

They would rather miss an item than make one up. An item is the sentence as it was spoken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# What may follow a promise to call: "I'll call you Ada" is none.
_WHEN = r"""(?:
    \ (?: after | again | as | at | back | before | by | if | in | later | next | on | once | this
        | today | tomorrow | tonight | when )\b
    | [.,!?] | $
)"""

# What is done after a call, and not in it: "I'll check that for you" is no item.
_LATER = rf"""(?:
    (?: send | e-?mail | mail | text | forward(?!\ you\b) | ship | refund | remind | notify
      | follow\ up | get\ back\ to | pass\ (?:it|this|that|your) | (?:leave|make)\ a\ note
      | have\ (?:some(?:one|body)|our) | ask\ (?:some(?:one|body)|our|the)
      | let\ (?:you|them)\ know
    )\b
    | (?:call|phone|ring)\ you{_WHEN}
)"""

# Who says it, and what.
_RULES = {
    "Agent": rf"""
        \b(?:I|we)(?:'ll|\ will)\ (?:(?:also|then|just|make\ sure\ to)\ )?
        (?:{_LATER} | leave\ a\ message\b)
    """,
    "User": rf"""
        (?: \b(?:can|could|would|will)\ (?:you|some(?:one|body))(?:\ please)?
          | \bplease
          | \b(?:I'd\ like|I\ want|I\ need)\ (?:you|some(?:one|body))\ to
        )\ (?:{_LATER} | (?:call|phone|ring)\ me{_WHEN})
        | \bremind\ me\b(?!\ (?:how|what|where|which|who|why)\b)
    """,
}

_DUE = r"""\b(
    (?:by\ |on\ |before\ |until\ |this\ |next\ )?
    (?:today | tonight | tomorrow(?:\ (?:morning|noon|afternoon|evening))?
       | (?:mon|tues|wednes|thurs|fri|satur|sun)day(?:\ (?:morning|afternoon|evening))?)
    (?:\ at\ (?:noon|\d{1,2}(?:[:.]\d\d)?)(?:\ ?[ap]\.?m\b)?)?
    | (?:this|next)\ (?:week|month)
    | (?:in|within)\ (?:an?|one|two|three|four|five|\d{1,3})\ (?:minute|hour|day|week|month)s?
)"""


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.VERBOSE)


_PATTERNS = {role: _compile(pattern) for role, pattern in _RULES.items()}
_DUE_PATTERN = _compile(_DUE)
_REFUSAL = _compile(r"\b(?:cannot|never|not)\b|n't\b")
_TURN = re.compile(r"(Agent|User): (.*)")
_END_OF_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def find(transcript: str) -> Iterator[tuple[str, str | None]]:
    """Text and due date of each item, as they were spoken."""
    seen = set()
    for role, sentence in _sentences(transcript):
        found = _PATTERNS[role].search(sentence)
        if found and not _REFUSAL.search(sentence[: found.start()]) and sentence not in seen:
            seen.add(sentence)
            due = _DUE_PATTERN.search(sentence)
            yield f"{role}: {sentence}", due and due[1].removeprefix("by ")


def _sentences(transcript: str) -> Iterator[tuple[str, str]]:
    for line in transcript.splitlines():
        if turn := _TURN.fullmatch(line.strip()):
            for sentence in _END_OF_SENTENCE.split(turn[2]):
                yield turn[1], sentence.replace("\u2019", "'")
