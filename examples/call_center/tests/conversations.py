"""What is said in the calls of the browser tests, as Retell tells it."""

from __future__ import annotations

import itertools

call_ids = (f"call_{number:027}" for number in itertools.count(1))


def turns(*said):
    """As Retell has them: role and content of each, five seconds apart."""
    return [
        {
            "role": role,
            "content": content,
            "words": [{"word": content, "start": 5 * number + 0.6, "end": 5 * number + 4}],
        }
        for number, (role, content) in enumerate(said)
    ]


def transcript(*said):
    """The fields of ``call_ended`` that hold what was said."""
    lines = [f"{role.capitalize()}: {content}\n" for role, content in said]
    return {
        "transcript": "".join(lines),
        "transcript_object": turns(*said),
        "transcript_with_tool_calls": turns(*said),
    }


CONVERSATION = (
    ("agent", "Hi, thanks for calling Bayview Dental, this is Ada. How can I help?"),
    ("user", "Hola, soy José Muñoz. Could you please send me the plan for my treatment?"),
    ("agent", "Of course. I'll send it to you tomorrow morning."),
    ("user", "Perfecto, gracias."),
)
