"""Markov models of symbols, by counting."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Grams = Callable[[int], np.ndarray]


def markov_bits(train: np.ndarray, test: np.ndarray, symbols: int, order: int) -> list[float]:
    """Bits per symbol of ``test [M]`` under Markov models of orders 0 to ``order`` counted on ``train [N]``.

    ``P_k(s | h) = (n(h s) + d(h) P_{k-1}(s | h')) / (n(h) + d(h))``: h the last k symbols, h' the last k-1, n how often it came in
    train, d how many different symbols followed it; P_{-1} is even. The smoothing of Witten and Bell 1991, method C.
    The first ``order`` symbols of test are left out, so that all orders are measured on the same.

    >>> bits = markov_bits(np.arange(100) % 2, np.arange(100) % 2, symbols=2, order=2)
    >>> round(bits[0], 3), bits[1] < 0.05
    (1.0, True)
    """
    grams = lambda tokens: lambda k: _grams(tokens, symbols, k + 1)
    return backed_off(grams(train), lambda k: grams(test)(k)[order - k :], symbols, order)


def backed_off(train: Grams, test: Grams, symbols: int, order: int) -> list[float]:
    """Bits per symbol of test under the formula of `markov_bits`, whatever the history of a symbol is.

    train, test: ``k -> [N], [M]``, each symbol with the k nearest things of its history as one number in base ``symbols``: the symbol
    its last digit, the nearest the one before.
    """
    probability, found = np.full(len(test(0)), 1 / symbols), []
    for k in range(order + 1):
        grams, counts = np.unique(train(k), return_counts=True)
        contexts, first = np.unique(grams // symbols, return_index=True)  # a context's grams stand together
        totals, kinds = np.add.reduceat(counts, first), np.diff([*first, len(grams)])
        asked = test(k)
        n, (n_context, d_context) = (
            looked_up(grams, [counts], asked)[0],
            looked_up(contexts, [totals, kinds], asked // symbols),
        )
        known = n_context > 0
        better = (n + d_context * probability) / np.where(known, n_context + d_context, 1)
        probability = np.where(known, better, probability)
        found.append(float(-np.log2(probability).mean()))
    return found


def _grams(tokens: np.ndarray, symbols: int, n: int) -> np.ndarray:
    """Every n symbols in a row as one number ``[N - n + 1]``, the last symbol its last digit."""
    whole = np.zeros(len(tokens) - n + 1, np.int64)
    for i in range(n):
        whole = whole * symbols + tokens[i : len(tokens) - n + 1 + i]
    return whole


def looked_up(keys: np.ndarray, values: list[np.ndarray], asked: np.ndarray) -> list[np.ndarray]:
    """What stands beside each key that is asked for in a sorted table; 0 where it is not in it."""
    at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return [np.where(keys[at] == asked, value[at], 0) for value in values]
