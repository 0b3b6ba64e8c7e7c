"""Tasks that need nothing but memory, whose scores without it are known exactly."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnjax.data.errors import DataError


def adding(seed: Any, batch: int, time: int) -> tuple[np.ndarray, np.ndarray]:
    """The adding problem: ``xs [T, B, 2]`` float32 numbers in [0, 1) and two marks, ``target [B]`` the sum of the two marked.

    One mark lies in each half. Always saying 1 has a mean squared error of 1/6.
    Source: Hochreiter and Schmidhuber 1997, with marks as in Le, Jaitly, Hinton 2015, arXiv:1504.00941.
    Raises: DataError for a time below 2.

    >>> xs, target = adding(0, batch=3, time=10)
    >>> bool(np.allclose((xs[..., 0] * xs[..., 1]).sum(0), target)), xs[..., 1].sum(0).tolist()
    (True, [2.0, 2.0, 2.0])
    """
    if time < 2:
        raise DataError(f"adding: two numbers are marked, so time must be at least 2, got {time}")
    rng = np.random.default_rng(seed)
    numbers, marks = rng.random((time, batch), np.float32), np.zeros((time, batch), np.float32)
    marks[rng.integers(0, time // 2, batch), np.arange(batch)] = 1
    marks[rng.integers(time // 2, time, batch), np.arange(batch)] = 1
    return np.stack([numbers, marks], -1), (numbers * marks).sum(0)


def copying(seed: Any, batch: int, blanks: int, symbols: int = 10, kinds: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Copy memory: ``(tokens, targets)``, both ``[blanks + 2 symbols, B]`` int32.

    Symbols of 8 kinds are shown, then blanks (token 8), the last of them the signal to recall (9), then blanks to answer in;
    targets are blanks, then the symbols. Remembering nothing costs ``symbols ln kinds / (blanks + 2 symbols)`` nats a step.
    Source: Arjovsky, Shah, Bengio 2016, arXiv:1511.06464. Raises: DataError for no blanks.

    >>> tokens, targets = copying(0, batch=2, blanks=5, symbols=3)
    >>> bool((tokens[:3] == targets[-3:]).all()), tokens[3:, 0].tolist(), targets[:-3, 0].tolist()
    (True, [8, 8, 8, 8, 9, 8, 8, 8], [8, 8, 8, 8, 8, 8, 8, 8])
    """
    if blanks < 1:
        raise DataError(f"copying: the last blank is the signal, so blanks must be at least 1, got {blanks}")
    shown = np.random.default_rng(seed).integers(0, kinds, (symbols, batch), np.int32)
    blank = lambda n: np.full((n, batch), kinds, np.int32)
    tokens = np.concatenate([shown, blank(blanks - 1), blank(1) + 1, blank(symbols)])
    return tokens, np.concatenate([blank(symbols + blanks), shown])
