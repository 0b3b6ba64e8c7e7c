"""Examples in batches: shuffled, those of like length together, and a function of the step alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnjax.data.errors import DataError


class Batches:
    """``batches(step) -> places [batch]`` of examples; see `batches`. ``lap``: how many batches go once through all."""

    def __init__(self, lengths: Any, batch: int, seed: int = 0, pool: int = 20):
        self.lengths = np.asarray(lengths)
        if self.lengths.ndim != 1 or not 1 <= batch <= len(self.lengths):
            raise DataError(
                f"batches: batch must be between 1 and the number of examples, {self.lengths.shape}, got {batch}"
            )
        self.batch, self.seed, self.pool = batch, seed, pool
        self.lap = len(self.lengths) // batch
        self._made: tuple[int, Any] = (-1, None)  # the lap at hand

    def __call__(self, step: int) -> np.ndarray:
        lap, at = divmod(step, self.lap)
        if self._made[0] != lap:
            self._made = lap, self._order(lap)
        return self._made[1][at]

    def _order(self, lap: int) -> np.ndarray:
        """Shuffled; pools of so many batches sorted by length; the batches of all pools shuffled."""
        rng = np.random.default_rng([self.seed, lap])
        order = rng.permutation(len(self.lengths))[: self.lap * self.batch]
        pools = np.split(order, range(self.pool * self.batch, len(order), self.pool * self.batch))
        sorted_ = np.concatenate([p[np.argsort(self.lengths[p], kind="stable")] for p in pools])
        return rng.permutation(sorted_.reshape(self.lap, self.batch))


def batches(lengths: Any, batch: int, seed: int = 0, *, pool: int = 20) -> Batches:
    """``batches(step) -> places [batch]``: examples for each step, those of like length together.

    lengths ``[N]``: of the examples. Each lap goes once through all of them in an order of its own, but for the fewer than
    ``batch`` that are left over and drawn anew each lap. Within ``pool`` batches examples are sorted by length, so that little is
    padding and short and long ones still mix; ``pool=1`` only shuffles. Seed and step alone say what a batch holds: a run goes on
    at any step. Raises: DataError for a batch that is no number between 1 and N.

    >>> places = batches([5, 1, 5, 1, 5, 1], batch=2, seed=0)
    >>> sorted(np.concatenate([places(step) for step in range(3)]).tolist()), places.lap
    ([0, 1, 2, 3, 4, 5], 3)
    """
    return Batches(lengths, batch, seed, pool)
