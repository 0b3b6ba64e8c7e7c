"""Sums to be done digit by digit."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnjax.data.errors import DataError


def sums(seed: Any, count: int, digits: int = 3) -> list[tuple[str, str]]:
    """``count`` different questions ``"12+345"`` with their answers ``"357"``; both numbers have up to ``digits`` digits.

    How many digits a number has is drawn first, so that short ones are not rare. The task of Zaremba and Sutskever 2014
    (arXiv:1410.4615) and of flax's seq2seq example. Raises: DataError where there are too few such sums.

    >>> all(sum(map(int, question.split("+"))) == int(answer) for question, answer in sums(0, 50))
    True
    """
    there = 10**digits
    if count > there**2 // 4:
        raise DataError(
            f"sums: {count} different sums of up to {digits} digits are too many; take at most {there**2 // 4}"
        )
    rng, found = np.random.default_rng(seed), {}
    while len(found) < count:
        highest = 10 ** rng.integers(1, digits + 1, (count, 2))
        for a, b in (rng.random((count, 2)) * highest).astype(int).tolist():
            found[f"{a}+{b}"] = str(a + b)
    return list(found.items())[:count]
