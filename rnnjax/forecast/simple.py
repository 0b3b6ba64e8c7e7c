"""What the simple methods say, and the linear combination of them that a network starts from.

From the last value y_t the methods add, h rows ahead (windows of v < w rows back, seasons of m rows, k = ceil(h / m)):

    level             (mean of the last v values) - y_t, and that of the last w
    drift             h (y_t - y_{t-v}) / v; of uneven rows, times in place of numbers of rows
    season            (mean over up to four seasons j = k, k + 1, ... of y_{t+h-jm}) - y_t, and that of the last one alone
    drifting season   k (y_t - y_{t-m})
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

RIDGES = (1e-6, 1e-4, 1e-2, 1e-1, 1.0, 10.0)
MOST = 20_000  # origins that combinations are fitted to, of all series together where there are 1000 of each
LONG = 1000  # rows of the longest mean, at most


class Methods(NamedTuple):
    """seasons: m of each, with the number of them that are averaged. window, long: v and w."""

    seasons: tuple[tuple[int, int], ...]
    window: int
    long: int

    @property
    def count(self) -> int:
        """How many numbers `changes` gives."""
        return 3 + sum(2 + (many > 1) for _, many in self.seasons)

    @property
    def reach(self) -> int:
        """Rows needed before the origin."""
        return max([self.window, self.long, *(m * many for m, many in self.seasons)])


class History:
    """values ``[T, S]`` and ``sums [T + 1, S]``, those of all rows before; times ``[T + horizon, S']``, None where rows are even."""

    def __init__(self, values: np.ndarray, times: np.ndarray | None = None):
        self.values = values
        self.sums = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, 0)])
        self.times = None if times is None else np.broadcast_to(times, (len(times), values.shape[1]))

    def put(self, row: int, values: np.ndarray) -> None:
        """Replaces a row, the rows before which are as they should be."""
        self.values[row] = values
        self.sums[row + 1] = self.sums[row] + values

    def mean(self, origin: np.ndarray, window: int, column: np.ndarray) -> np.ndarray:
        """The mean of the ``window`` rows that end with ``origin``."""
        return (self.sums[origin + 1, column] - self.sums[origin + 1 - window, column]) / window

    def between(self, first: Any, last: Any, column: np.ndarray) -> Any:
        """The time from row ``first`` to row ``last``, in steps."""
        return last - first if self.times is None else self.times[last, column] - self.times[first, column]


def changes(
    methods: Methods, history: History, origin: np.ndarray, ahead: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """What each method adds to the last value: ``[..., count]`` for origins, rows ahead and columns that broadcast.

    Nothing after row ``origin`` is read.
    """
    values, window = history.values, methods.window
    last = values[origin, column]
    found = [history.mean(origin, rows, column) - last for rows in (window, methods.long)]
    gone = history.between(origin - window, origin, column)
    found.append(history.between(origin, origin + ahead, column) * (last - values[origin - window, column]) / gone)
    for m, many in methods.seasons:
        turns = -(-ahead // m)
        same = origin + ahead - turns * m
        found += [values[same, column] - last, turns * (last - values[origin - m, column])]
        if many > 1:
            found.append(sum(values[same - j * m, column] for j in range(many)) / many - last)
    return np.stack(np.broadcast_arrays(*found), -1)


def methods_for(rows: int, seasons: tuple[int, ...], horizon: int, window: int) -> Methods:
    """The methods for which a series of ``rows`` training rows is long enough: they look back over half of it at most."""
    room = max(1, (rows - horizon) // 2)
    fitting = [(m, max(1, min(4, room // m))) for m in seasons if m <= room]
    return Methods(tuple(fitting), max(1, min(window, room)), max(1, min(LONG, rows // 3, room)))


def combine(
    methods: Methods, history: History, there: np.ndarray, origins: np.ndarray, leads: int, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each lead and series the weights of the methods by ridge regression, and the root mean square of what is left.

    there: ``[T, S]``. origins: of the training windows; of each series those from its first value on count.
    size: ``[S]``, the unit in which changes are of order one.
    Returns ``[leads, count + 1, S]``, the last weight being a constant in units of ``size``, and ``[leads, S]`` in units of it.
    The penalty is, for each series, that with the least error on the last third of the origins after fitting to the others.
    """
    origins = origins[:: -(-len(origins) // max(1000, MOST // there.shape[1]))]
    fitted = [
        [_ridge(*_equations(methods, history, there, origins, lead, s, size[s])) for s in range(there.shape[1])]
        for lead in range(1, leads + 1)
    ]
    weights = np.array([[weight for weight, _ in row] for row in fitted]).transpose(0, 2, 1)
    return weights, np.array([[left for _, left in row] for row in fitted])


def added(methods: Methods, weights: np.ndarray, found: np.ndarray, size: np.ndarray) -> np.ndarray:
    """What the combination adds to the last value: ``weights [..., count + 1]`` on ``found [..., count]`` of `changes`."""
    return (found * weights[..., :-1]).sum(-1) + size * weights[..., -1]


def _equations(methods, history, there, origins, lead, s, size):
    """What the methods say and what came, in units of ``size``, where the target is there."""
    use = origins[there[origins + lead, s] & (origins >= np.argmax(there[:, s]))]
    column, ahead = np.full(len(use), s), np.full(len(use), lead)
    found, values = changes(methods, history, use, ahead, column) / size, history.values
    return np.concatenate([found, np.ones((len(use), 1))], 1), (values[use + lead, s] - values[use, s]) / size


def _ridge(found: np.ndarray, came: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights, and the root mean square of what is left."""
    if len(came) < 4:
        return np.zeros(found.shape[1]), float(np.sqrt(np.mean(came**2))) if len(came) else 1.0
    cut = len(came) * 2 // 3
    early = (_solve(found[:cut], came[:cut], ridge) for ridge in RIDGES)
    errors = [np.mean((came[cut:] - found[cut:] @ weights) ** 2) for weights in early]
    weights = _solve(found, came, RIDGES[int(np.argmin(errors))])
    left = np.mean((came - found @ weights) ** 2)
    return weights, float(np.sqrt(max(left, min(errors))))


def _solve(found: np.ndarray, came: np.ndarray, ridge: float) -> np.ndarray:
    """Least squares with a penalty of ``ridge`` times the mean square of each method on its weight."""
    gram = found.T @ found
    penalty = ridge * np.diag(gram) + 1e-10 * (np.trace(gram) / len(gram) + 1e-30)
    return np.linalg.solve(gram + np.diag(penalty), found.T @ came)
