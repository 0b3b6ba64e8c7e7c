"""After how many rows a series repeats itself."""

from __future__ import annotations

import numpy as np


def season_of(values: np.ndarray, longest: int | None = None) -> int:
    """The lag of at least 2 rows after which ``values [T, C]``, their linear trend taken off, are most alike again.

    Of the lags up to ``longest`` (a third of the rows if None, at most 1000) at which the mean squared difference is smaller than
    at the neighbouring ones, the shortest that explains nine tenths of what the best does; of all lags where none is. Long series are
    judged by their last 20,000 rows.

    >>> t = np.arange(240)
    >>> season_of((0.1 * t + np.sin(2 * np.pi * t / 12))[:, None])
    12
    """
    values = np.asarray(values, np.float64)[-20_000:]
    rows = len(values)
    longest = max(2, min(rows // 3, 1000) if longest is None else longest)
    flat = without_trend(values)
    last = min(longest + 1, rows - 1)
    error = np.array([0.0] + [np.mean((flat[lag:] - flat[: rows - lag]) ** 2) for lag in range(1, last + 1)])
    error = np.maximum(error, 1e-20 * float(np.mean((values - values.mean(0)) ** 2)))  # rounding is no difference
    lags = np.arange(2, min(longest, last) + 1)
    dips = lags[(error[lags] < error[lags - 1]) & (error[lags] <= error[np.minimum(lags + 1, last)])]
    among = dips if len(dips) else lags if len(lags) else np.array([min(2, last)])
    enough = np.min(error[among]) + 0.1 * max(0.0, 2 * float(np.mean(flat**2)) - np.min(error[among]))
    return max(2, int(among[np.argmax(error[among] <= enough)]))


def seasons_of(values: np.ndarray) -> tuple[int, ...]:
    """That of `season_of`, and one more where there is one: shorter, within it, or longer, in what changes from one to the next.

    >>> t = np.arange(24 * 40)
    >>> seasons_of((np.sin(2 * np.pi * t / 24) + 0.7 * np.sin(2 * np.pi * t / 168))[:, None])
    (24, 168)
    """
    flat = without_trend(np.asarray(values, np.float64)[-20_000:])
    first = season_of(flat)
    rest = flat[first:] - flat[:-first]
    shorter = season_of(flat, first // 2) if first >= 4 else first
    longer = season_of(rest) if len(rest) > 8 else first
    found = {first} | {
        lag for lag, of in ((shorter, flat), (longer, rest)) if _repeats(of, lag, float(np.mean(flat**2)))
    }
    return tuple(sorted(found))


def without_trend(values: np.ndarray) -> np.ndarray:
    """``values [T, C]`` less the straight line through each column."""
    t = np.arange(len(values)) - (len(values) - 1) / 2
    level = values - values.mean(0)
    return level - t[:, None] * (t @ level / max(t @ t, 1.0))


def _repeats(flat: np.ndarray, lag: int, power: float) -> bool:
    """Whether the correlation with what was ``lag`` rows before is above 0.3 and larger than at the neighbouring lags."""
    if not 1 < lag < len(flat) - 1 or not np.mean(flat**2) > 1e-12 * power:
        return False
    before, here, after = (float(np.mean(flat[n:] * flat[:-n])) for n in (lag - 1, lag, lag + 1))
    return here > max(before, after, 0.3 * float(np.mean(flat**2)))
