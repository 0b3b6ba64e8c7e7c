"""Windows of a series as the network reads them: a context, the rows ahead, and nothing across an end."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnjax.forecast.plan import Plan
from rnnjax.forecast.rows import Rows
from rnnjax.forecast.simple import History, changes

FAR = 1e3  # inputs beyond are cut: one wild value must not drown a window


class Windows:
    """Windows of forecasts from given origins: ``window(origin [B], column [B]) -> dict`` of arrays.

    inputs: float32 ``[context + horizon - 1, B, F]``, one step for each value that is predicted, the last ``horizon`` being those ahead.
    target, base, scale, weight: ``[horizon, B]``, the values that came (relative to base in units of scale where the law is not
    absolute), the linear start and what it misses as a rule, 1 where the value is there or 0.

    taught: a step ahead sees the value before it (recursive forecasts are trained so); else all of them see the context alone.
    """

    def __init__(self, rows: Rows, plan: Plan, *, taught: bool, absolute: bool):
        self.plan, self.taught, self.absolute = plan, taught, absolute
        self.history, self.there = History(rows.values / plan.unit), rows.there
        self.values = self.history.values
        self.known = (rows.known - plan.known[0]) / plan.known[1]
        self.past = (rows.past - plan.past[0]) / plan.past[1]

    @property
    def features(self) -> int:
        """F: value, whether it is there, how far ahead, what the simple methods add, covariates."""
        return 3 + self.plan.methods.count + self.known.shape[1] + self.past.shape[1]

    def __call__(self, origin: np.ndarray, column: np.ndarray) -> dict[str, np.ndarray]:
        plan = self.plan
        ahead = np.arange(1, plan.horizon + 1)[:, None]
        seen = origin + ahead - 1 if self.taught else np.broadcast_to(origin, (plan.horizon, len(origin)))
        at = origin + ahead
        base, scale = plan.start_of(self.history, seen, at - seen, column)
        came = self.values[at, column]
        return {
            "inputs": self.inputs(origin, column),
            "target": (came if self.absolute else np.clip((came - base) / scale, -1e9, 1e9)).astype(np.float32),
            "base": base.astype(np.float32),
            "scale": scale.astype(np.float32),
            "weight": self.there[at, column].astype(np.float32),
        }

    def inputs(self, origin: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Float32 ``[context + horizon - 1, B, F]``; reads nothing of the series after ``origin`` unless taught."""
        plan = self.plan
        at = origin + np.arange(2 - plan.context, plan.horizon + 1)[:, None]
        return self.steps(origin, at, column)

    def steps(self, origin: np.ndarray, at: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The inputs of the steps that predict the rows ``at [N, B]`` from ``origin [B]``."""
        plan, reach = self.plan, self.plan.methods.reach
        before = at - 1
        fed = before >= 0 if self.taught else (before >= 0) & (before <= origin)
        seen = np.maximum(before if self.taught else np.minimum(before, origin), reach)
        row = np.where(fed, before, 0)
        size = plan.size[column]
        anchor = plan.centre[column] if self.absolute else self.values[origin, column]
        there = fed & self.there[row, column]
        value = np.where(there, (self.values[row, column] - anchor) / size, 0.0)
        said = changes(plan.methods, self.history, seen, np.maximum(at - seen, 1), column) / size[:, None]
        lead = np.zeros_like(value) if self.taught else np.maximum(at - 1 - origin, 0) / plan.horizon
        parts = [value[..., None], there[..., None], lead[..., None], said]
        parts += [self.known[np.maximum(at, 0)], self.past[row] * ((before >= 0) & (before <= origin))[..., None]]
        return np.clip(np.concatenate(parts, -1), -FAR, FAR).astype(np.float32)


def random_batches(windows: Windows, origins: np.ndarray, batch: int, seed: int) -> Any:
    """``batch(step)``: windows at random origins and series, each a function of seed and step alone."""
    columns = windows.values.shape[1]

    def batch_of(step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([seed, step])
        return windows(origins[rng.integers(len(origins), size=batch)], rng.integers(columns, size=batch))

    return batch_of


def every(origins: np.ndarray, columns: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of origin and column, or ``most`` of them spread evenly."""
    pairs = np.arange(len(origins) * columns)
    pairs = pairs[np.linspace(0, len(pairs) - 1, min(most, len(pairs))).astype(int)]
    return origins[pairs // columns], pairs % columns
