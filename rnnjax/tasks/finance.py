"""`finance`: what will a stock be worth in the next three months, and how far will it move? Each month, five stocks at once.

The logarithm of a price is close to a random walk, so that its last value is hard to beat; how far it moves is not.
"""

from __future__ import annotations

import jax
import numpy as np

import rnnjax as rj
from rnnjax.data.stocks import stocks
from rnnjax.forecast.long import from_long
from rnnjax.forecast.problem import outputs
from rnnjax.forecast.rows import Rows, read_rows
from rnnjax.forecast.windows import Windows
from rnnjax.tasks.recipe import Params, Problem, Recipe, Score, Setting, cosine

MONTHS, TEST, VALID = 3, 24, 18  # ahead; at the end, to test and before them to choose by


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps = setting.length(300, full=1500)
    rows, many = series()
    last = len(rows.values) - TEST
    model = rj.forecast.Forecaster(rj.GRU(setting.pick(8, small=3)), MONTHS, season=1, context=12)
    learned = rows.until(last, MONTHS)
    problem = model.problem(learned, batch=32, seed=setting.seed, held_out=VALID / last)
    params = problem.network.init(jax.random.key(setting.seed), np.zeros(problem.example.shape, np.float32))
    origins = {"valid": np.arange(last - VALID, last - MONTHS + 1) - 1}
    origins["test"] = np.arange(last, len(rows.values) - MONTHS + 1) - 1

    def forecasts(params: Params, split: str) -> np.ndarray:
        """The medians ``[W, 3, S]``; windows of a split are made of what came before each origin."""
        windows = Windows(rows if split == "test" else learned, problem.plan, taught=False, absolute=False)
        origin, column = (a.ravel() for a in np.meshgrid(origins[split], np.arange(2 * many), indexing="ij"))
        out = np.asarray(outputs(problem.network, params, windows.inputs(origin, column), MONTHS), np.float64)
        base = problem.plan.start_of(windows.history, origin, np.arange(1, MONTHS + 1)[:, None], column)
        found = model.law.ppf(out, *base, 0.5) * problem.plan.unit[column]
        return found.reshape(MONTHS, -1, 2 * many).transpose(1, 0, 2)

    def score(params: Params, split: str) -> Score:
        found = forecasts(params, split)
        price, move = (error(found, rows, origins[split], part) for part in (slice(many), slice(many, None)))
        return Score(price, {"how far it moves": move, **moves(rows, origins[split], many)})

    floors = {"the last price again": lambda: error(again(rows, origins["test"]), rows, origins["test"], slice(many))}
    loss = lambda params, carry, window, key: (carry, problem.loss(params, window, key))
    return Problem(params, loss, problem.batches, score, floors, cosine(2e-3, steps), steps)


def series() -> tuple[Rows, int]:
    """``[T, 2 S]``: the logarithms of S prices, then the sizes of their changes; each sees the other, and which of them it is."""
    found = stocks()
    price = from_long(found.symbols, np.log(found.prices), horizon=MONTHS).series
    move = np.abs(np.diff(price, axis=0))
    price, many = price[1:], price.shape[1]
    price = np.where(np.isnan(move), np.nan, price)  # both begin with the second month of a stock
    which = np.repeat([[1.0], [0.0]], many, 0)
    rows = read_rows("finance", np.concatenate([price, move], 1), MONTHS, static=which)
    return rows._replace(past=np.roll(rows.values, many, 1)[..., None]), many


def ahead(rows: Rows, origins: np.ndarray) -> np.ndarray:
    """What came, ``[W, 3, 2 S]``."""
    return rows.values[origins[:, None] + np.arange(1, MONTHS + 1)]


def again(rows: Rows, origins: np.ndarray) -> np.ndarray:
    """The last value for all months."""
    return np.repeat(rows.values[origins][:, None], MONTHS, 1)


def error(forecast: np.ndarray, rows: Rows, origins: np.ndarray, part: slice) -> float:
    """The mean absolute error; of logarithms of prices that is about the share by which a price is missed."""
    return float(np.abs(forecast - ahead(rows, origins))[..., part].mean())


def moves(rows: Rows, origins: np.ndarray, many: int) -> dict[str, float]:
    """The errors of what needs no network, of how far a price moves."""
    year = np.stack([rows.values[origin - 11 : origin + 1].mean(0) for origin in origins])
    found = {"as last month": again(rows, origins), "as in the last year": np.repeat(year[:, None], MONTHS, 1)}
    return {f"how far it moves, {name}": error(of, rows, origins, slice(many, None)) for name, of in found.items()}


RECIPE = Recipe(
    "finance",
    set="monthly prices of five stocks, 2000 to 2010 (vega_datasets), their logarithms; the last 24 months to test, three ahead from each",
    metric="mae",
    better="lower",
    floor="the last price again",
    make=make,
)
