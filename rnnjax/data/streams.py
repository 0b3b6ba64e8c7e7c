"""One long sequence as batches: endless windows to train on, and the whole of a held-out part to measure on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rnnjax.data.errors import DataError


class Windows:
    """``window(step) -> [time + 1, batch, ...]`` and ``window.fresh(step) -> [batch]``; see `windows`."""

    def __init__(self, values: np.ndarray, batch: int, time: int, seed: int = 0):
        steps = len(values) - 1  # pairs of neighbours
        if min(batch, time) < 1 or steps < time:
            raise DataError(
                f"windows: {time} steps and the value after them need at least {time + 1} values, got {len(values)} for "
                f"batch {batch}; take a smaller time, or more values"
            )
        self.values, self.batch, self.time, self.seed = values, batch, time, seed
        whole = steps // time
        self.laps = whole - 1 if whole > 2 else whole  # windows of a lap
        self.slack = steps - self.laps * time  # a lap starts at 0 .. slack
        turn = int(np.random.default_rng(seed).integers(self.laps))
        self.ahead = np.arange(batch) * self.laps // batch + turn

    def __call__(self, step: int) -> np.ndarray:
        lap, at = np.divmod(self.ahead + step, self.laps)
        starts = at * self.time + np.array([self._start(reader, int(n)) for reader, n in enumerate(lap)])
        return self.values[starts + np.arange(self.time + 1)[:, None]]

    def fresh(self, step: int) -> np.ndarray:
        """Which readers start anew at this step: what their carry remembers is not what comes before."""
        return (self.ahead + step) % self.laps == 0 if step else np.ones(self.batch, bool)

    def _start(self, reader: int, lap: int) -> int:
        """Where a lap starts: by the golden ratio, so that few laps already cover the slack evenly."""
        place = np.random.default_rng([self.seed, reader]).random() + lap * 0.6180339887498949
        return int(place % 1.0 * (self.slack + 1))


def windows(values: np.ndarray, batch: int, time: int, seed: int = 0) -> Windows:
    """``window(step) -> [time + 1, batch, ...]``: ``batch`` readers, each going through ``values [N, ...]`` again and again.

    Reader b goes on where it stopped the step before (its windows share one element: the last target is the next first
    input), so the carry can be handed on, except where ``window.fresh(step) [batch]`` is True: there it starts anew, having
    come to the end, and at step 0. No window goes across an end. Laps start at places of their own, up to the slack that whole
    windows leave, so that neighbours are cut apart elsewhere each time. The readers start evenly spaced, turned by ``seed``; a
    window depends on seed and step alone, so a run can go on at any step.

    Raises: DataError (a ValueError) unless there are ``time + 1`` values.

    >>> window = windows(np.arange(10), batch=2, time=3)
    >>> bool(((window(1)[0] == window(0)[-1]) | window.fresh(1)).all())
    True
    >>> all(bool((np.diff(window(step), axis=0) == 1).all()) for step in range(20))
    True
    """
    return Windows(values, batch, time, seed)


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
