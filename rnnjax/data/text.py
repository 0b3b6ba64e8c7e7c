"""Text as a sequence of characters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rnnjax.data.errors import DataError
from rnnjax.data.files import called, decode


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a text, each known by its place.

    >>> v = Vocabulary.of("abba")
    >>> v.symbols, v.encode("ba").tolist(), v.decode([0, 1])
    ('ab', [1, 0], 'ab')
    """

    symbols: str

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        """Every symbol that occurs in ``text``, sorted."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        """``text`` as int32 places. Raises: DataError naming a symbol that is not in the vocabulary."""
        place = {symbol: i for i, symbol in enumerate(self.symbols)}
        unknown = sorted(set(text) - place.keys())
        if unknown:
            raise DataError(f"the model knows no {unknown[0]!r}; its {len(self)} symbols are {self.symbols!r}")
        return np.array([place[symbol] for symbol in text], np.int32)

    def decode(self, tokens: object) -> str:
        """Places back as text."""
        return "".join(self.symbols[int(i)] for i in np.asarray(tokens).ravel())


def python_documentation() -> str:
    """Python's own language documentation, as the standard library ships it for ``help()``: about 465,000 characters."""
    from pydoc_data.topics import topics

    return "".join(topics.values())


def read_text(path: str | Path, shortest: int = 300, encoding: str | None = None) -> str:
    """A text file in UTF-8, in UTF-16 with a byte-order mark, or in the ``encoding`` given; packed by gzip or not.

    Raises: DataError if it is missing, unreadable, empty, binary or under ``shortest`` characters.
    """
    text, path = decode(path, "text", encoding), called(path)
    if not text.strip():
        raise DataError(f"{path} is empty; a text of at least {shortest} characters is needed")
    if len(text) < shortest:
        raise DataError(f"{path} is too short: it has {len(text)} characters, at least {shortest} are needed")
    return text
