"""What is heard of a written prompt."""

from __future__ import annotations

import re

DIGITS = "zero one two three four five six seven eight nine".split()
SIGNS = {"*": "star", "#": "pound", **{str(i): word for i, word in enumerate(DIGITS)}}


def spoken(text: str) -> str:
    """The words in small letters, digits and the two signs of a telephone as words, without marks and what stands in brackets.

    >>> spoken("Press 1 or #..."), spoken("dash [-]"), spoken("I'm sorry."), spoken("(2 seconds of silence)")
    ('press one or pound', 'dash', "i'm sorry", '')
    """
    text = re.sub(r"\[.*?\]|\(.*?\)", " ", text.lower())
    text = re.sub(r"[\d*#]", lambda sign: f" {SIGNS[sign[0]]} ", text)
    return " ".join(re.sub(r"[^a-z']", " ", text).split())
