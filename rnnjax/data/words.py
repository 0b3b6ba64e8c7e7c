"""Texts as sequences of words, or of characters where there are no words."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
MOST = 20_000  # words that are told apart


@dataclass(frozen=True)
class Words:
    """What a network knows of texts; place 0 stands for all that it does not.

    unit: ``"words"``, in lower case, marks among them, or ``"characters"``. known: the most frequent first.

    >>> words = Words.of(["A good film.", "a good, good film"])
    >>> words.known, words.encode("Good grief").tolist()
    (('good', 'a', 'film'), [1, 0])
    """

    unit: str
    known: tuple[str, ...]

    @classmethod
    def of(cls, texts: list[str], unit: str | None = None) -> Words:
        """Of what occurs twice or more in the texts, the most frequent."""
        unit = unit or unit_of(texts)
        counts = Counter(part for text in texts for part in parts(text, unit))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(unit, tuple(word for word, count in ranked[:MOST] if count > 1))

    def __len__(self) -> int:
        return len(self.known) + 1

    def encode(self, text: str) -> np.ndarray:
        """Int32 places ``[T]``."""
        return self.encode_all([text])[0]

    def encode_all(self, texts: list[str]) -> list[np.ndarray]:
        """`encode` of each."""
        place = {word: i + 1 for i, word in enumerate(self.known)}
        return [np.array([place.get(part, 0) for part in parts(text, self.unit)], np.int32) for text in texts]


def parts(text: str, unit: str) -> list[str]:
    """The words or the characters of a text."""
    return WORD.findall(text.lower()) if unit == "words" else list(text)


def unit_of(texts: list[str]) -> str:
    """Words, unless they are long or texts are single ones: DNA, names, scripts without blanks.

    >>> unit_of(["not bad at all"] * 3), unit_of(["ACGTTGCATGCCGTATTA"] * 3)
    ('words', 'characters')
    """
    found = [WORD.findall(text) for text in texts[:1000]]
    count = sum(map(len, found))
    letters = sum(len(word) for words in found for word in words)
    return "words" if count >= 2 * len(found) and letters <= 10 * count else "characters"
