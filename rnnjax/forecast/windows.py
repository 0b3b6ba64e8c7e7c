"""Windows of a series as the network reads them: a context, the rows ahead, and nothing across an end."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnnjax.forecast.gaps import READ
from rnnjax.forecast.plan import Plan
from rnnjax.forecast.rows import Rows
from rnnjax.forecast.simple import changes

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
        self.history, self.there, self.began = plan.history(rows), rows.there, rows.began
        self.values = self.history.values
        each = lambda a: np.broadcast_to(a, (len(a), self.values.shape[1], a.shape[2]))
        self.known = each((rows.known - plan.known[0]) / plan.known[1])
        self.past = each((rows.past - plan.past[0]) / plan.past[1])
        self.static = (rows.static - plan.static[0]) / plan.static[1]
        seen = np.where(self.there, np.arange(len(self.there))[:, None], 0)
        self.last_seen = np.maximum.accumulate(seen, 0)

    @property
    def features(self) -> int:
        """F: what there is to say of a value, how far ahead, what the simple methods add, covariates."""
        beside = self.known.shape[2] + self.past.shape[2] + self.static.shape[1]
        return (2 if self.plan.gaps == "masked" else READ) + 1 + self.plan.methods.count + beside + self.plan.timed

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
            "weight": (self.there[at, column] & (origin >= self.began[column])).astype(np.float32),
        }

    def inputs(self, origin: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Float32 ``[context + horizon - 1, B, F]``; reads nothing of the series after ``origin`` unless taught."""
        plan = self.plan
        at = origin + np.arange(2 - plan.context, plan.horizon + 1)[:, None]
        return self.steps(origin, at, column)

    def steps(self, origin: np.ndarray, at: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The inputs of the steps that predict the rows ``at [N, B]`` from ``origin [B]``."""
        plan, reach, before = self.plan, self.plan.methods.reach, at - 1
        fed = before >= 0 if self.taught else (before >= 0) & (before <= origin)
        last = before if self.taught else np.minimum(before, origin)
        seen = np.maximum(last, reach)
        said = changes(plan.methods, self.history, seen, np.maximum(at - seen, 1), column) / plan.size[column][:, None]
        lead = np.zeros(at.shape) if self.taught else np.maximum(before - origin, 0) / plan.horizon
        past = self.past[np.where(fed, before, 0), column] * ((before >= 0) & (before <= origin))[..., None]
        still = np.broadcast_to(self.static[column], (*at.shape, self.static.shape[1]))
        parts = [*self._value(origin, before, fed, last, column), lead[..., None], said]
        parts += [self.known[np.maximum(at, 0), column], past, still]
        if plan.timed:
            parts.append(self._between(before, at, column)[..., None])
        return np.clip(np.concatenate(parts, -1), -FAR, FAR).astype(np.float32)

    def _value(self, origin: Any, before: Any, fed: Any, last: Any, column: Any) -> list[np.ndarray]:
        """The value before each step and whether it is there; for GRU-D the last that was, how long ago, and the mean before."""
        size = self.plan.size[column]
        anchor = self.plan.centre[column] if self.absolute else self.values[origin, column]
        row = np.where(fed, before, 0)
        there = fed & self.there[row, column]
        if self.plan.gaps == "masked":
            return [np.where(there, (self.values[row, column] - anchor) / size, 0.0)[..., None], there[..., None]]
        known = np.maximum(last, 0)
        earlier = self.last_seen[np.maximum(np.minimum(before - 1, last), 0), column]
        gone = np.where(before > 0, self._between(earlier, np.maximum(before, 0), column), 0.0)
        near = self.history.mean(np.maximum(last, self.plan.methods.window), self.plan.methods.window, column)
        found = [(self.values[known, column] - anchor) / size, there, gone, (near - anchor) / size]
        return [a[..., None] for a in found]

    def _between(self, first: Any, last: Any, column: Any) -> np.ndarray:
        """The time between rows, in steps; before the first row they are one apart."""
        early = first < 0
        found = self.history.between(np.maximum(first, 0), np.maximum(last, 0), column)
        return np.where(early, 1.0, found).astype(np.float64)


def random_batches(windows: Windows, origins: np.ndarray, batch: int, seed: int) -> Any:
    """``batch(step)``: windows at random origins and series, each a function of seed and step alone.

    A window has seen a value of its series; a series that begins after the last origin has none.
    """
    first, last = origins[0], origins[-1]
    low = np.maximum(windows.began, first)
    usable = np.flatnonzero(low <= last)

    def batch_of(step: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng([seed, step])
        origin, column = rng.integers(first, last + 1, size=batch), usable[rng.integers(len(usable), size=batch)]
        early = low[column]
        moved = early + (origin - first) % (last + 1 - early)
        return windows(np.where(origin < early, moved, origin), column)

    return batch_of


def every(origins: np.ndarray, columns: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of origin and column, or ``most`` of them spread evenly."""
    pairs = np.arange(len(origins) * columns)
    pairs = pairs[np.linspace(0, len(pairs) - 1, min(most, len(pairs))).astype(int)]
    return origins[pairs // columns], pairs % columns
