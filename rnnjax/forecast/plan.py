"""What is found on the training rows and then fixed: units, seasons, the linear start of every forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnjax.data import seasons_of
from rnnjax.forecast.rows import Rows
from rnnjax.forecast.simple import History, Methods, added, changes, combine, methods_for


@dataclass(frozen=True)
class Plan:
    """Everything about the numbers that prediction needs beside the network.

    horizon. context: steps the network reads before it forecasts. methods, weights ``[leads, count + 1, S]``: see `simple`; leads is
    1 for recursive forecasts, the horizon for direct ones. unit ``[S]``: values are divided by it, and everything below is in it.
    size ``[S]``: usual change within a horizon. left ``[leads, S]``: what the linear start misses. centre ``[S]``: the mean.
    known, past: mean and deviation of each covariate, ``[2, K]`` and ``[2, P]``.
    """

    horizon: int
    context: int
    methods: Methods
    weights: np.ndarray
    unit: np.ndarray
    size: np.ndarray
    left: np.ndarray
    centre: np.ndarray
    known: np.ndarray
    past: np.ndarray

    @property
    def leads(self) -> int:
        return len(self.weights)

    @property
    def reach(self) -> int:
        """Rows that must come before a forecast."""
        return self.methods.reach + 1

    def start_of(self, history: History, origin: np.ndarray, ahead: np.ndarray, column: np.ndarray) -> tuple[Any, Any]:
        """The linear start of the forecasts of rows ``origin + ahead``, and what it is wrong by as a rule; in units."""
        found = changes(self.methods, history, origin, ahead, column)
        lead = np.minimum(ahead, self.leads) - 1
        step = added(self.methods, self.weights[lead, :, column], found, self.size[column])
        return history.values[origin, column] + step, self.left[lead, column]


def make_plan(
    rows: Rows, cut: int, horizon: int, leads: int, season: Any, context: int | None, absolute: bool
) -> tuple[Plan, np.ndarray]:
    """The plan by the rows before ``cut``, and the origins of training windows: no target of theirs is at ``cut`` or after it.

    absolute: values have no unit but one.
    """
    train = rows.until(cut, 0)
    seasons = seasons_of(train.values) if season is None else tuple(sorted({int(m) for m in np.atleast_1d(season)}))
    context = min(context or min(max(2 * max(seasons), horizon, 16), 96), max(1, cut - horizon - 1))
    methods = methods_for(cut, seasons, horizon, context)
    origins = np.arange(methods.reach, cut - horizon)
    unit = np.ones(train.values.shape[1]) if absolute else _or_one(np.abs(train.values).max(0))
    values = train.values / unit
    size = np.maximum(changes_within(values, horizon), 1e-9 * _or_one(np.abs(values).max(0)))
    weights, left = combine(methods, History(values), train.there, origins, leads, size)
    standards = lambda of: np.stack([of.mean(0), _or_one(of.std(0))])
    plan = Plan(
        horizon=horizon,
        context=context,
        methods=methods,
        weights=weights,
        unit=unit,
        size=size,
        left=np.maximum(left, 1e-6) * size,
        centre=values.mean(0),
        known=standards(rows.known[:cut]),
        past=standards(train.past),
    )
    return plan, origins


def changes_within(values: np.ndarray, horizon: int) -> np.ndarray:
    """The root mean square of the changes over 1, 2, ... ``horizon`` rows, ``[S]``."""
    leads = np.unique(np.linspace(1, min(horizon, len(values) - 1), 12).astype(int))
    return np.sqrt(np.mean([np.mean((values[lead:] - values[:-lead]) ** 2, 0) for lead in leads], 0))


def _or_one(a: np.ndarray) -> np.ndarray:
    return np.where(a > 0, a, 1.0)
