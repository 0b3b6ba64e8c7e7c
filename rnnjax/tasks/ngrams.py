"""N-gram models with Kneser and Ney's smoothing, by counting."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnnjax.tasks.markov import looked_up

BEGIN, END = 0, 1  # symbols of a sequence are numbers from 2 on


class Level(NamedTuple):
    """One order: grams as sorted numbers, the last symbol their last digit, and how much each counts; the contexts that
    they have, the sum of their counts and how many symbols follow each; the discount."""

    grams: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray
    discount: float


class NGrams(NamedTuple):
    """``p_k(s | h) = max(c(hs) - D_k, 0) / c(h) + D_k d(h) / c(h) p_{k-1}(s | h')``: h the last k-1 symbols, h' without its first.

    c: at the highest order how often a gram came, below how many different symbols came before it (grams that begin a sequence:
    how often), d how many symbols followed h; ``D_k = n1 / (n1 + 2 n2)`` of the grams that count 1 and 2; ``p_0`` is even.
    Source: Kneser and Ney 1995; interpolated as in Chen and Goodman 1999.
    """

    levels: tuple[Level, ...]
    symbols: int

    @classmethod
    def of(cls, sequences: list[np.ndarray], symbols: int, order: int) -> NGrams:
        """Counted on sequences of numbers from 2 to ``symbols - 1``; each ends with END and has BEGIN before it.

        >>> model = NGrams.of([np.array([2, 3])] * 3 + [np.array([2, 2])], symbols=4, order=2)
        >>> model.probability(np.array([BEGIN * 4 + 2, 2 * 4 + 3])).round(3).tolist()  # 2 at the beginning, 3 after 2
        [0.924, 0.557]
        """
        if symbols**order >= 2**63:
            raise ValueError(f"NGrams: {symbols} symbols are too many for order {order}: grams must fit in 63 bits")
        begun = np.full(order - 1, BEGIN)
        flat = np.concatenate([part for s in sequences for part in (begun, s, [END])]).astype(np.int64)
        ends = np.flatnonzero(flat != BEGIN)
        grams, levels, longer = np.zeros(len(ends), np.int64), [], []
        for k in range(order):
            grams = grams + flat[ends - k] * symbols**k
            longer.append(np.unique(grams, return_counts=True))
        for k, (found, often) in enumerate(longer):
            counts = often if k == order - 1 else followed(found, often, longer[k + 1][0], symbols**k, symbols)
            levels.append(level(found, counts, symbols))
        return cls(tuple(levels), symbols)

    def probability(self, grams: np.ndarray) -> np.ndarray:
        """Of the last symbol of each gram of the highest order, given the others."""
        p, flat = np.full(grams.size, 1 / self.symbols), grams.ravel()
        for k, level in enumerate(self.levels):
            asked = flat % self.symbols ** (k + 1)
            (count,) = looked_up(level.grams, [level.counts], asked)
            total, kinds = looked_up(level.contexts, [level.totals, level.kinds], asked // self.symbols)
            known = total > 0
            better = (np.maximum(count - level.discount, 0) + level.discount * kinds * p) / np.where(known, total, 1)
            p = np.where(known, better, p)
        return p.reshape(grams.shape)


def followed(found: np.ndarray, often: np.ndarray, longer: np.ndarray, first: int, symbols: int) -> np.ndarray:
    """How many different symbols came before each gram; how often it came where it begins a sequence."""
    ends, kinds = np.unique(longer % (first * symbols), return_counts=True)
    (before,) = looked_up(ends, [kinds], found)
    return np.where(found // first == BEGIN, often, before)


def level(grams: np.ndarray, counts: np.ndarray, symbols: int) -> Level:
    """The sums of one order."""
    contexts, first = np.unique(grams // symbols, return_index=True)  # a context's grams stand together
    once, twice = np.sum(counts == 1), np.sum(counts == 2)
    discount = once / (once + 2 * twice) if once and twice else 0.5
    return Level(
        grams, counts, contexts, np.add.reduceat(counts, first), np.diff([*first, len(grams)]), float(discount)
    )
