"""How far two sequences of frames are apart where one may be slower here and faster there."""

from __future__ import annotations

from typing import Any

import numpy as np


def warped_distance(made: Any, recorded: Any) -> float:
    """Dynamic time warping: ``min over paths of sum over (i, j) of |made_i - recorded_j| / sqrt(I)``, over the recorded frames' number.

    made ``[N, I]``, recorded ``[T, I]``. A path goes from both first frames to both last by steps of one frame in either or in both, so
    that a frame too many costs, and to be slower costs the frames that are repeated. For one frame repeated T times it is the mean
    over the recorded frames. Source: Sakoe and Chiba 1978.

    >>> warped_distance([[0.0], [1.0], [1.0], [3.0]], [[0.0], [1.0], [3.0]])
    0.0
    """
    made, recorded = np.asarray(made, np.float64), np.asarray(recorded, np.float64)
    products = np.einsum("ni,ti->nt", made, recorded)
    squares = np.square(made).sum(1)[:, None] + np.square(recorded).sum(1) - 2 * products
    costs = np.sqrt(np.maximum(squares, 0) / made.shape[1])
    best = np.cumsum(costs[0])
    for row in costs[1:]:  # best_j = row_j + min(above_j, above_{j-1}, best_{j-1}), the last by running sums
        above = np.minimum(best, np.concatenate([[np.inf], best[:-1]]))
        sums = np.cumsum(row)
        best = sums + np.minimum.accumulate(above - (sums - row))
    return float(best[-1] / len(recorded))
