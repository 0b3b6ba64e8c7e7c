"""The forecaster of the columns of a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.cli.settings import Settings, build
from rnnjax.cli.work import Task, batches_of, last_part, mean_loss, validation
from rnnjax.data import DataError, Table, read_csv, season_of

FAR = 1e15  # standard deviations: further than that a squared error is no number of float32


class Scaled(NamedTuple):
    """A table as the network sees it; everything is measured on the training rows.

    level: ``[T, C]`` standardised, the row before where a value is missing. change: to it from the row before, in units of
    ``step [C]``, the root mean square of the changes. missing: bool ``[T, C]``. mean, deviation: ``[C]``.
    """

    level: np.ndarray
    change: np.ndarray
    missing: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    step: np.ndarray

    @property
    def inputs(self) -> np.ndarray:
        """Float32 ``[T, F]``: level (0 where missing) and change of each column, and which are missing if any is."""
        parts = [np.where(self.missing, 0.0, self.level), self.change]
        return np.concatenate(parts + [self.missing] * bool(self.missing.any()), 1).astype(np.float32)


def scaled(table: Table, first: int) -> Scaled:
    """Scales a table by its rows before ``first``. A column that is constant there keeps a scale of its own size.

    Raises: DataError if a later value lies so far out that its error is no number.
    """
    unit, largest, mean, deviation = standards(table.values, ~table.missing, first)
    level = carried((unit - mean) / deviation, table.missing)
    far = ~(np.abs(level).max(0) < FAR)
    if far.any():
        name = table.names[int(np.argmax(far))]
        raise DataError(
            f"column {name!r} ends with values of another size than it begins with; scale it, or leave it out"
        )
    change = np.diff(level, axis=0, prepend=level[:1])
    step = np.sqrt(np.mean(change[:first] ** 2, 0))
    usual = float(np.sqrt(np.mean(step[step > 0] ** 2))) if (step > 0).any() else 1.0
    step = np.where(step > 0, step, usual)  # larger, what is said of a constant column would be most of the loss
    return Scaled(level, change / step, table.missing, mean * largest, deviation * largest, step)


def standards(values: np.ndarray, seen: np.ndarray, first: int) -> tuple[np.ndarray, ...]:
    """The values in units of the largest of each column, so that no square overflows; these, the means and the deviations."""
    most = np.max(np.abs(values[:first]), 0)
    largest = np.where(most > 0, most, 1.0)
    with np.errstate(over="ignore"):  # found as too far out
        unit = values / largest
    known, seen = unit[:first], seen[:first]
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, known, 0.0).sum(0) / count
    low, high = np.min(np.where(seen, known, np.inf), 0), np.max(np.where(seen, known, -np.inf), 0)
    deviation = np.sqrt(np.where(seen, (known - mean) ** 2, 0.0).sum(0) / count)
    varies = (low < high) & (deviation > 1e-12)
    mean = np.where((low == high) & seen.any(0), low, mean)  # exactly, where all are one
    return unit, largest, mean, np.where(varies, deviation, 1.0)


def carried(level: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The last value that was there in place of what is missing; 0, the mean, before the first.

    >>> carried(np.array([[5.0], [1.0], [9.0], [2.0]]), np.array([[True], [False], [True], [False]])).ravel().tolist()
    [0.0, 1.0, 1.0, 2.0]
    """
    rows = np.where(missing, -1, np.arange(len(level))[:, None])
    last = np.maximum.accumulate(rows, 0)
    return np.where(last >= 0, np.take_along_axis(level, np.maximum(last, 0), 0), 0.0)


def read_table(settings: Settings) -> Table:
    """The table of a run."""
    names = ("sep", "encoding", "header", "thousands", "percent", "currency")
    return read_csv(settings.file, **{name: getattr(settings, name) for name in names})


def table_task(settings: Settings) -> Task:
    """Predict the next row; the last rows are held out.

    The network predicts the change from the row before, in units of the usual change: one that says nothing is persistence.
    Loss: squared error of the standardised columns, averaged over what is not missing, in units of the mean squared change.
    """
    table = read_table(settings)
    first = len(table.values) - max(1, int(len(table.values) * settings.held_out))
    series = scaled(table, first)
    scale, inputs = float(np.mean(series.step**2)), series.inputs
    cell = build(settings, len(table.names))
    example = jax.ShapeDtypeStruct((settings.batch, inputs.shape[1]), jnp.float32)
    per_step = squares_of(cell, series, settings)
    batches, time = batches_of(inputs[:first], settings)
    held = len(inputs) - first
    return Task(
        title=table.summary(),
        unit="mse",
        cell=cell,
        example=example,
        time=time,
        loss_fn=mean_loss(cell, per_step, example),
        batches=batches,
        validate=validation(cell, per_step, inputs, first, batch=1 if held <= 2048 else 16, example=example),
        derive=lambda loss: {"mse": loss * scale},
        baselines=lambda: table_baselines(series.level, series.missing, first),
        memory=remembered(table, series, inputs),
        held=last_part(settings.held_out),
        fingerprint=table.fingerprint,
        remarks=table.remarks,
    )


def squares_of(cell: Any, series: Scaled, settings: Settings) -> Callable[..., Any]:
    """``(params, carry, window [T + 1, B, F], key) -> carry, squared errors [T, B], the share that is there``, that None where all is."""
    columns, masked = len(series.step), bool(series.missing.any())
    weight = series.step**2 / np.mean(series.step**2)

    def per_step(params, carry, window, key=None):
        carry, change = rj.unroll(cell, params, window[:-1], carry=carry, key=key, **settings.precision)
        squares = (change - window[1:, ..., columns : 2 * columns]) ** 2 * jnp.asarray(weight, jnp.float32)
        if not masked:
            return carry, jnp.mean(squares, -1), None
        there = 1.0 - window[1:, ..., 2 * columns :]
        return carry, jnp.mean(squares * there, -1), jnp.mean(there, -1)

    return per_step


def remembered(table: Table, series: Scaled, inputs: np.ndarray) -> dict[str, Any]:
    """What a forecast needs of the table: how columns were read and scaled, and its last rows."""
    return {
        "columns": list(table.names),
        "forms": list(table.forms),
        "inputs": inputs.shape[1],
        "mean": series.mean.tolist(),
        "deviation": series.deviation.tolist(),
        "step": series.step.tolist(),
        "recent": inputs[-512:].tolist(),
        "last": series.level[-1].tolist(),
    }


def table_baselines(level: np.ndarray, missing: np.ndarray, first: int) -> dict[str, float]:
    """Mean squared error on the held-out rows of repeating the last row, and the row one season before.

    The season is the lag at which the training rows repeat themselves, see `rnnjax.data.season_of`.
    """
    season, there = season_of(level[:first]), ~missing[first:]
    error = lambda lag: float(np.mean((level[first:] - level[first - lag : len(level) - lag])[there] ** 2))
    return {"persistence": error(1), f"seasonal naive (season {season}, chosen on the training rows)": error(season)}
