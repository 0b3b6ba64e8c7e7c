"""Formal languages: strings, and what a machine that knows the language says of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rnnjax.data.errors import DataError


class Strings(NamedTuple):
    """tokens ``[T, B]`` int32. targets ``[T, B]`` int32: the answer where one is asked for, -1 elsewhere. lengths ``[B]``."""

    tokens: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray


class Language(NamedTuple):
    """answer: ``tokens [n] -> its answers``: one after the last symbol, or a string read out after it.

    symbols: how many symbols strings have. answers: how many answers there are. draw: ``(rng, n) -> tokens [n]``.
    """

    symbols: int
    answers: int
    answer: Callable[[np.ndarray], Any]
    draw: Callable[[np.random.Generator, int], np.ndarray]
    spelled: bool = False


def strings(name: str, seed: Any, batch: int, longest: int, shortest: int = 1, *, prefixes: bool = False) -> Strings:
    """Strings of a language, lengths even between ``shortest`` and ``longest``, padded with zeros to one time.

    name: ``"parity"`` of the ones; ``"even_pairs"``, whether 01 and 10 together occur an even number of times;
    ``"modular_arithmetic"``, a term of digits, + - and x modulo 5, no brackets (digits 0-4, signs 5-7); ``"cycle_navigation"``, the
    place after steps 0, +1, -1 on a cycle of five; ``"reverse_string"``, the string itself from its end, one symbol
    at each of as many steps of token 2 that follow. The first four are regular; the last needs a stack.
    The first four ask for one answer, with the last symbol; with ``prefixes`` for those of all beginnings of a string, each of which is
    a string too. Lengths count symbols (``modular_arithmetic``: odd ones only).
    Source: Deletang et al. 2023, arXiv:2207.02098. Raises: DataError for an unknown name or lengths that are none.

    >>> drawn = strings("parity", 0, batch=4, longest=6)
    >>> ones = [int(drawn.tokens[:n, b].sum()) % 2 for b, n in enumerate(drawn.lengths)]
    >>> ones == [int(drawn.targets[n - 1, b]) for b, n in enumerate(drawn.lengths)]
    True
    """
    if name not in LANGUAGES:
        raise DataError(f"there is no language {name!r}; the languages are {', '.join(LANGUAGES)}")
    if not 1 <= shortest <= longest:
        raise DataError(f"strings: lengths must be 1 <= shortest <= longest, got {shortest} and {longest}")
    language, rng = LANGUAGES[name], np.random.default_rng(seed)
    time = longest * (2 if language.spelled else 1)
    tokens, targets = np.zeros((time, batch), np.int32), np.full((time, batch), -1, np.int32)
    lengths = rng.integers(shortest, longest + 1, batch)
    if name == "modular_arithmetic":
        lengths -= (lengths + 1) % 2  # a term ends in a digit
    for b, n in enumerate(lengths):
        string = tokens[:n, b] = language.draw(rng, int(n))
        if language.spelled:
            tokens[n : 2 * n, b], targets[n : 2 * n, b] = language.symbols - 1, language.answer(string)
        else:
            for end in range(1, n + 1) if prefixes else [n]:
                if name != "modular_arithmetic" or end % 2:
                    targets[end - 1, b] = language.answer(string[:end])
    return Strings(tokens, targets, lengths.astype(np.int32))


def modular(term: np.ndarray, modulus: int = 5) -> int:
    """``2 + 3 x 4 - 1`` modulo 5, products first: the sum so far, and the product at hand with its sign."""
    total, product = 0, int(term[0])
    for sign, digit in zip(term[1::2], term[2::2]):
        if sign == 7:
            product = product * int(digit) % modulus
        else:
            total, product = total + product, int(digit) if sign == 5 else -int(digit)
    return (total + product) % modulus


def _term(rng: np.random.Generator, n: int) -> np.ndarray:
    term = rng.integers(0, 5, n)
    term[1::2] = rng.integers(5, 8, n // 2)
    return term


def _of(symbols: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.integers(0, symbols, n)


LANGUAGES = {
    "parity": Language(2, 2, lambda s: s.sum() % 2, _of(2)),
    "even_pairs": Language(2, 2, lambda s: int(s[0] == s[-1]), _of(2)),  # as many ways there as back
    "modular_arithmetic": Language(8, 5, modular, _term),
    "cycle_navigation": Language(3, 5, lambda s: ((s == 1).sum() - (s == 2).sum()) % 5, _of(3)),
    "reverse_string": Language(3, 2, lambda s: s[::-1], _of(2), spelled=True),
}
