"""Recursive forecasts: paths drawn a row at a time, each value fed back as the network would have seen it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from rnnjax.forecast.laws import Law
from rnnjax.forecast.plan import Plan
from rnnjax.forecast.rows import Rows
from rnnjax.forecast.windows import Windows
from rnnjax.sequence import unroll


def draw(
    network: Any, params: Any, law: Law, plan: Plan, rows: Rows, paths: int, seed: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """``[paths, horizon, S]``, what may come after ``rows`` in units of the plan; outputs, start and scale of the first row."""
    series, tail = rows.values.shape[1], _tail(rows, plan)
    windows = _many(tail, plan, law, paths)
    column = np.arange(series * paths)  # path p of series s stands at s * paths + p
    origin = np.full(len(column), len(tail.values) - 1)
    carry, out = _read(network, params, Windows(tail, plan, taught=True, absolute=law.absolute), paths)
    rng, first, last = np.random.default_rng(seed), origin[0] + 1, origin[0] + plan.horizon
    first_law: list[np.ndarray] = []
    for at in range(first, last + 1):
        start = windows.plan.start_of(windows.history, np.full_like(origin, at - 1), np.ones_like(origin), column)
        law_of_row = (np.asarray(out, np.float64), *start)
        first_law = first_law or [a[None, ::paths] for a in law_of_row]
        windows.history.put(at, law.ppf(*law_of_row, rng.random(len(column))))
        if at < last:
            x = windows.steps(origin, np.full((1, len(column)), at + 1), column)[0]
            carry, out = _step(network, params, carry, x)
    return windows.values[-plan.horizon :].reshape(plan.horizon, series, paths).transpose(2, 0, 1), first_law


@partial(jax.jit, static_argnums=0)
def _step(network: Any, params: Any, carry: Any, x: Any) -> tuple[Any, jax.Array]:
    return network(params, carry, x)


def _read(network: Any, params: Any, windows: Windows, paths: int) -> tuple[Any, Any]:
    """Carry and output after the context, ``paths`` times for each series."""
    rows, series = windows.there.shape
    at = rows - 1 + np.arange(2 - windows.plan.context, 2)[:, None] + np.zeros((1, series), int)
    inputs = windows.steps(np.full(series, rows - 1), at, np.arange(series))
    return _context(network, params, np.repeat(inputs, paths, 1))


@partial(jax.jit, static_argnums=0)
def _context(network: Any, params: Any, inputs: Any) -> tuple[Any, jax.Array]:
    carry, out = unroll(network, params, inputs)
    return carry, out[-1]


def _tail(rows: Rows, plan: Plan) -> Rows:
    """The rows that a forecast can depend on; those before them, back to the last value that was there, are filled already."""
    return rows.since(max(0, len(rows.values) - plan.reach - plan.context))


def _many(rows: Rows, plan: Plan, law: Law, paths: int) -> Windows:
    """Windows of ``paths`` columns for each series, with room for the rows to come, which count as there."""
    wide = lambda a: np.repeat(a, paths, -1)
    each = lambda a: a if a.shape[1] == 1 else np.repeat(a, paths, 1)  # of covariates, which series may share
    grown = lambda a, fill: np.concatenate([a, np.full((plan.horizon, *a.shape[1:]), fill, a.dtype)])
    many = Rows(
        values=wide(grown(rows.values, 0.0)),
        there=wide(grown(rows.there, True)),
        known=each(rows.known),
        past=each(grown(rows.past, 0.0)),
        static=np.repeat(rows.static, paths, 0),
        times=None if rows.times is None else each(rows.times),
    )
    wider = {name: wide(getattr(plan, name)) for name in ("weights", "unit", "size", "left", "centre")}
    wider |= {name: each(getattr(plan, name)) for name in ("known", "past")}
    tick = plan.tick if len(plan.tick) == 1 else np.repeat(plan.tick, paths)
    return Windows(many, replace(plan, **wider, tick=tick), taught=True, absolute=law.absolute)
