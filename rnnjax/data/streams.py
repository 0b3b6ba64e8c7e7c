"""One long sequence as batches: endless windows to train on, and the whole of a held-out part to measure on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np


def windows(values: np.ndarray, batch: int, time: int, seed: int = 0) -> Callable[[int], np.ndarray]:
    """``window(step) -> [time + 1, batch, ...]``: ``batch`` readers go round ``values [N, ...]`` like hands of a clock.

    Reader b goes on where it stopped the step before (its windows share one element: the last target is the next first
    input), so the carry can be handed on for ever. The readers start evenly spaced, turned by ``seed``; a window depends on
    seed and step alone.

    >>> window = windows(np.arange(10), batch=2, time=3)
    >>> (window(1)[0] - window(0)[-1]).tolist()
    [0, 0]
    """
    count = len(values)
    starts = np.arange(batch) * count // batch + np.random.default_rng(seed).integers(count)
    return lambda step: values[(starts + np.arange(time + 1)[:, None] + step * time) % count]


def held_out(
    values: np.ndarray, first: int, batch: int, time: int, warm_up: int = 64
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pieces ``(window [time + 1, batch, ...], counts [time, batch])`` that predict each of ``values[first:]`` once.

    ``counts`` is True where the step's target ``window[t + 1]`` is to be measured. The targets are cut into ``batch`` rows
    read side by side; each row starts ``warm_up`` steps early, without measuring, so that no row starts cold.

    >>> pieces = list(held_out(np.arange(30), first=20, batch=3, time=4, warm_up=2))
    >>> sorted(int(t) for window, counts in pieces for t in window[1:][counts]) == list(range(20, 30))
    True
    """
    row = -(-(len(values) - first) // batch)
    begin = first + row * np.arange(batch)  # first target of each row
    end = np.minimum(begin + row, len(values))
    for offset in range(-warm_up, row, time):
        at = begin + np.arange(offset - 1, offset + time)[:, None]
        yield values[np.clip(at, 0, len(values) - 1)], (at[1:] >= begin) & (at[1:] < end)
