"""Pairs of sequences, one read and one written: batches in few shapes, and what is written of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnnjax.data import batches as in_order
from rnnjax.data import pad


def batches(
    sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], shapes: Sequence[int], batch: int, seed: int
) -> Callable[[int], Any]:
    """``step -> (sources [T, B, ...], lengths), (targets [T + 1, B], lengths)``, of about one length each.

    T: the first of ``shapes`` that all fit in, a target without its start; few shapes are few programs to compile.
    """
    times = [max(len(source), len(target) - 1) for source, target in zip(sources, targets)]
    order = in_order(times, batch, seed)

    def drawn(step: int) -> Any:
        places = order(step)
        time = next(time for time in shapes if time >= max(times[i] for i in places))
        return pad([sources[i] for i in places], time), pad([targets[i] for i in places], time + 1)

    return drawn


def written(write: Callable[..., Any], sources: list[np.ndarray], rows: int, length: int) -> np.ndarray:
    """What ``write(sources [length, rows, ...], lengths) -> [T, rows]`` gives, ``[N, T]``; longer sources are cut.

    >>> written(lambda xs, lengths: xs[:1], [np.array([n, 7]) for n in range(3)], rows=2, length=2).tolist()
    [[0], [1], [2]]
    """
    parts = [sources[at : at + rows] for at in range(0, len(sources), rows)]
    filled = [part + sources[:1] * (rows - len(part)) for part in parts]
    return np.concatenate([np.asarray(write(*pad(part, length, cut=True))).T for part in filled])[: len(sources)]
