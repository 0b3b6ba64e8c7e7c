"""Texts as pieces of words, found by byte-pair encoding (Sennrich, Haddow, Birch 2016, arXiv:1508.07909), of the library tokenizers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

END = 0  # begins and ends a text
MISSING = 'pieces of words are found by tokenizers, which is not installed; pip install "rnnjax[data]"'


class Pieces(NamedTuple):
    """A vocabulary of pieces; place 0 is that of no piece.

    >>> import pytest; _ = pytest.importorskip("tokenizers")
    >>> pieces = Pieces.of(["low lower lowest"] * 9, 12)
    >>> pieces.decode(pieces.encode("lower")), pieces.kinds
    ('lower', 12)
    """

    by: Any  # tokenizers.Tokenizer

    @classmethod
    def of(cls, texts: Iterable[str], kinds: int) -> Pieces:
        """As many kinds of pieces as asked for, or as many as joining neighbours in the texts gives. Raises: ImportError."""
        try:
            from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        except ImportError:
            raise ImportError(MISSING) from None
        by = Tokenizer(models.BPE())
        by.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
        by.decoder = decoders.Metaspace()
        by.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=kinds, special_tokens=[""], show_progress=False))
        return cls(by)

    @property
    def kinds(self) -> int:
        return self.by.get_vocab_size()

    def encode(self, text: str) -> np.ndarray:
        """Int32 places ``[T]``."""
        return np.array(self.by.encode(text).ids, np.int32)

    def decode(self, places: Any) -> str:
        """The text up to the first END."""
        places = np.asarray(places)
        ends = np.flatnonzero(places == END)
        return self.by.decode([int(i) for i in (places[: ends[0]] if len(ends) else places)])
