"""How good forecasts were: errors and scoring rules, plain NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Scores(NamedTuple):
    """Means over windows and series of what was there, for each row ahead: ``[horizon]``.

    mae: mean absolute error of the median. mase: the same over the mean absolute error of the seasonal naive method on the training
    rows (Hyndman and Koehler 2006). pinball: mean over the quantiles of ``max(u d, (u - 1) d)``, d = value - quantile.
    crps: continuous ranked probability score, in the units of the series (of one number instead of a law: its absolute error).
    coverage: share of values from the lowest to the highest quantile; NaN where there is one number only.
    """

    mae: np.ndarray
    mase: np.ndarray
    pinball: np.ndarray
    crps: np.ndarray
    coverage: np.ndarray


def score(
    came: np.ndarray,
    there: np.ndarray,
    usual: np.ndarray,
    levels: tuple[float, ...],
    median: np.ndarray,
    quantiles: np.ndarray | None = None,
    crps: np.ndarray | None = None,
) -> Scores:
    """came, there, median, crps: ``[W, horizon, S]``. usual ``[S]``: MASE is in units of it. quantiles: ``[W, Q, horizon, S]``."""
    error = np.abs(came - median)
    spread = (
        np.broadcast_to(median[:, None], (len(median), len(levels), *median.shape[1:]))
        if quantiles is None
        else quantiles
    )
    inside = (came >= spread[:, 0]) & (came <= spread[:, -1])
    average = lambda of: _average(of, there)
    return Scores(
        mae=average(error),
        mase=average(np.where(error > 0, error, 0.0) / np.where(usual > 0, usual, np.where(error > 0, 1e-300, 1.0))),
        pinball=average(pinball(came[:, None], spread, np.array(levels)[:, None, None]).mean(1)),
        crps=average(error if crps is None else crps),
        coverage=np.full(came.shape[1], np.nan) if quantiles is None else average(inside.astype(float)),
    )


def pinball(came: np.ndarray, quantile: np.ndarray, u: np.ndarray | float) -> np.ndarray:
    """The pinball loss (Koenker and Bassett 1978).

    >>> pinball(np.array([1.0, -1.0]), np.zeros(2), 0.9).round(3).tolist()
    [0.9, 0.1]
    """
    off = came - quantile
    return np.maximum(u * off, (u - 1) * off)


def crps_of(ppf: Callable[[float], np.ndarray], came: np.ndarray, points: int = 100) -> np.ndarray:
    """The continuous ranked probability score of a law by its quantiles: twice the integral of the pinball loss over u, by midpoints.

    >>> from scipy.special import ndtri
    >>> float(crps_of(lambda u: ndtri(u), np.zeros(()), 1000).round(3))  # Gaussian: (sqrt(2) - 1) / sqrt(pi)
    0.234
    """
    shares = (np.arange(points) + 0.5) / points
    return 2 * np.mean([pinball(came, ppf(u), u) for u in shares], 0)


def seasonal_naive(values: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """``[horizon, S]``: what stood in ``values [T, S]`` a whole number of seasons before each row to come.

    >>> seasonal_naive(np.arange(6.0)[:, None], 4, 3).ravel().tolist()
    [3.0, 4.0, 5.0, 3.0]
    """
    ahead = np.arange(1, horizon + 1)
    return values[len(values) - 1 + ahead - -(-ahead // season) * season]


def usual_error(values: np.ndarray, there: np.ndarray, season: int) -> np.ndarray:
    """``[S]``: the mean absolute error of the seasonal naive method one season ahead, where both values are there."""
    both = there[season:] & there[:-season]
    off = np.where(both, np.abs(values[season:] - values[:-season]), 0.0)
    return off.sum(0) / np.maximum(both.sum(0), 1)


def _average(of: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Over windows and series; NaN where nothing is there."""
    count = there.sum((0, 2))
    return np.where(count > 0, np.where(there, of, 0.0).sum((0, 2)) / np.maximum(count, 1), np.nan)
