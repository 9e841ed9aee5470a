"""Action items by a few patterns of English, where no language model is set up.

They would rather miss an item than make one up. An item is the sentence as it was spoken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"

# What may follow a promise to call: "I'll call you Ada" is none.
_WHEN = rf"""(?:
    \ (?: after | again | as | at | back | before | by | in | later | next | on | once | right
        | this | today | tomorrow | tonight | when | with | {_DAY} )\b
    | [.,!?] | $
)"""

# What is done after a call, and not in it: "I'll check that for you" is no item.
_LATER = rf"""(?:
    (?: send(?!\ (?:me|you)\ (?:over|to)\b) | e-?mail | mail | text | refund | notify
      | forward(?!\ (?:me|you|your\ call)\b)
      | follow\ up | get\ back\ to | pass\ (?:it|this|that|your) | (?:leave|make)\ a\ note
      | have\ (?:some(?:one|body)|our) | ask\ (?:some(?:one|body)|our|the)
      | (?:remind\ you | let\ (?:me|them|you)\ know)(?!\ that\b)
    )\b
    | (?:call|phone|ring)\ you{_WHEN}
)"""

_WILL = r"\b(?:I|we)(?:'ll | \ will | (?:'m|'re|\ am|\ are)\ going\ to)"
_ASKED = r"""(?:
    \b(?:can|could|would|will)\ (?:you|some(?:one|body))(?:\ please)?
    | \bplease
    | \b(?:I'd\ like|I\ want|I\ need)\ (?:you|some(?:one|body))\ to
)"""
_ME = rf"(?:(?:call|phone|ring)\ me{_WHEN} | remind\ me(?:{_WHEN} | \ (?:about|to)\b))"

# Who says it, and what.
_RULES = {
    "Agent": rf"""
        {_WILL}\ (?:(?:also|then|just|make\ sure\ to)\ )?
        (?:{_LATER} | ship\b | leave\ a\ message\b)
    """,
    "User": rf"{_ASKED}\ {_LATER} | (?:^|{_ASKED}\ ){_ME}",
}

# Sentences with one of these make no item: it is done at once, or asked about, or it depends.
_DOUBT = r"""
    \b(?: now | hold | if | says | (?:a|one)\ (?:moment|second) | just\ a\ (?:minute|second) )\b
    | ^(?:(?:and|but|so)\ )?(?:how|once|what|when|where|why)\b
"""
# Before a promise, in the same part of the sentence: it is none.
_REFUSAL = r"(?:\b(?:cannot|never|not)\b|n't\b)[^,;]*$"

_DUE = rf"""\b(
    (?:by\ |on\ |before\ |until\ |this\ |next\ )?
    (?:today | tonight | the\ day\ after\ tomorrow | {_DAY}(?:\ (?:morning|afternoon|evening))?
       | tomorrow(?:\ (?:morning|noon|afternoon|evening))?)
    (?:\ at\ (?:noon|\d{{1,2}}(?:[:.]\d\d)?)(?:\ ?[ap]\.?m\b)?)?
    | (?:this|next)\ (?:week(?:end)?|month)\b
    | (?:in|within)\ (?:an?|one|two|three|four|five|\d{{1,3}})\ (?:minute|hour|day|week|month)s?\b
)"""


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.VERBOSE)


_PATTERNS = {role: _compile(pattern) for role, pattern in _RULES.items()}
_DUE_PATTERN, _DOUBT_PATTERN, _REFUSAL_PATTERN = map(_compile, (_DUE, _DOUBT, _REFUSAL))
_TURN = re.compile(r"(Agent|User): (.*)")
_END_OF_SENTENCE = re.compile(
    r"(?<=[.!?])(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<![ap]\.m\.)\s+"
)


def find(transcript: str) -> Iterator[tuple[str, str | None]]:
    """Text and due date of each item, as they were spoken."""
    seen = set()
    for role, sentence in _sentences(transcript):
        found = _PATTERNS[role].search(sentence)
        if found is None or sentence in seen or _is_doubtful(sentence, found):
            continue
        seen.add(sentence)
        due = _DUE_PATTERN.search(sentence, found.start()) or _DUE_PATTERN.search(sentence)
        yield f"{role}: {sentence}", due and due[1].removeprefix("by ")


def _is_doubtful(sentence: str, promise: re.Match[str]) -> bool:
    before = sentence[: promise.start()]
    return bool(_DOUBT_PATTERN.search(sentence) or _REFUSAL_PATTERN.search(before))


def _sentences(transcript: str) -> Iterator[tuple[str, str]]:
    for line in transcript.splitlines():
        if turn := _TURN.fullmatch(line.strip()):
            for sentence in _END_OF_SENTENCE.split(turn[2]):
                yield turn[1], sentence.replace("\u2019", "'")
