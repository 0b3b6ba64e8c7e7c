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
    known, past, static: mean and deviation of each covariate, ``[2, S', K]``, ``[2, S', P]``, ``[2, F]``.
    tick ``[S']``: the median step of uneven rows, else ``[1]``. gaps: of the model. timed: its cell is told how long each step is.
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
    static: np.ndarray
    tick: np.ndarray
    gaps: str
    timed: bool

    def history(self, rows: Rows) -> History:
        """The series in units, their times in steps."""
        return History(rows.values / self.unit, None if rows.times is None else rows.times / self.tick)

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


def make_plan(model: Any, rows: Rows, cut: int, timed: bool) -> tuple[Plan, np.ndarray]:
    """The plan of a `Forecaster` by the rows before ``cut``, and the origins of training windows: no target of theirs is at
    ``cut`` or after it. timed: as of `Plan`."""
    train, horizon = rows.until(cut, 0), model.horizon
    began = train.began
    seasons = _seasons(model.season, train)
    context = min(model.context or min(max(2 * max(seasons), horizon, 16), 96), max(1, cut - horizon - 1))
    methods = methods_for(cut, seasons, horizon, context)
    origins = np.arange(methods.reach, cut - horizon)
    absolute = model.law.absolute  # values have no unit but one
    unit = np.ones(train.values.shape[1]) if absolute else _or_one(np.abs(train.values).max(0))
    tick = np.ones(1) if train.times is None else np.median(np.diff(train.times, axis=0), 0)
    values = train.values / unit
    size = np.maximum(changes_within(values, horizon, began), 1e-9 * _or_one(np.abs(values).max(0)))
    history = History(values, None if train.times is None else train.times / tick)
    leads = 1 if model.mode == "recursive" else horizon
    weights, left = combine(methods, history, train.there, origins, leads, size)
    plan = Plan(
        horizon=horizon,
        context=context,
        methods=methods,
        weights=weights,
        unit=unit,
        size=size,
        left=np.maximum(left, 1e-6) * size,
        centre=np.asarray(_since(began, values).mean(0)),
        known=_standards(rows.known[:cut], began),
        past=_standards(train.past, began),
        static=_standards(train.static),
        tick=tick,
        gaps=model.gaps,
        timed=timed,
    )
    return plan, origins


def changes_within(values: np.ndarray, horizon: int, began: np.ndarray) -> np.ndarray:
    """The root mean square of the changes over 1, 2, ... ``horizon`` rows from row ``began`` of each series on, ``[S]``."""
    leads = np.unique(np.linspace(1, min(horizon, len(values) - 1), 12).astype(int))
    squares = [np.asarray(_since(began, (values[lead:] - values[:-lead]) ** 2).mean(0)) for lead in leads]
    return np.sqrt(np.mean(squares, 0))


def _seasons(given: Any, train: Rows) -> tuple[int, ...]:
    """Those that were given, or those of the series; none is looked for in rows that are not even."""
    if given is not None:
        return tuple(sorted({int(m) for m in np.atleast_1d(given)}))
    if train.times is not None:
        return (1,)
    from_row = int(np.median(train.began))  # what stands before the first value of a series would hide a season
    values = train.values[from_row:] if len(train.values) > from_row + 8 else train.values
    return seasons_of(values / _or_one(np.abs(values).max(0)) if values.shape[1] > 1 else values)


def _since(began: np.ndarray, values: np.ndarray) -> Any:
    """``values [T, S, ...]`` from row ``began [S]`` of each series on, as a masked array; all where nothing would be left."""
    before = np.arange(len(values))[:, None] < np.where(began < len(values), began, 0)
    before = before.reshape(before.shape + (1,) * (values.ndim - 2))
    return np.ma.array(values, mask=np.broadcast_to(before, values.shape))


def _standards(of: np.ndarray, began: np.ndarray | None = None) -> np.ndarray:
    """Mean and deviation over rows; where each series has its own, from row ``began`` of it on."""
    if began is not None and of.shape[1] == len(began) and of.shape[2]:
        of = _since(began, of)
    return np.stack([np.asarray(of.mean(0)), _or_one(np.asarray(of.std(0)))])


def _or_one(a: np.ndarray) -> np.ndarray:
    return np.where(a > 0, a, 1.0)
