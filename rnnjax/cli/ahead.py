"""The forecaster of several rows of a table, with quantiles."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.cli import folder as folders
from rnnjax.cli.errors import BadInput
from rnnjax.cli.series import Sheet, joined, read_sheet
from rnnjax.cli.settings import Settings, cell_type
from rnnjax.cli.work import Task, last_part
from rnnjax.data import season_of
from rnnjax.data.dates import Step
from rnnjax.forecast import Fitted, Forecaster
from rnnjax.forecast.backtest import Backtest, measured, table
from rnnjax.forecast.network import Correction
from rnnjax.forecast.plan import Plan
from rnnjax.forecast.problem import Problem
from rnnjax.forecast.rows import Rows, read_rows
from rnnjax.forecast.simple import Methods

FORECASTS = 60  # that a run is measured by, at most


def forecaster(settings: Settings) -> Forecaster:
    """The model of a run."""
    layer = cell_type(settings.cell)(settings.hidden)
    layer = rj.Dropout(layer, settings.dropout) if settings.dropout else layer
    cell = layer if settings.layers == 1 else rj.Stack(*[layer] * settings.layers)
    options = {name: getattr(settings, name) for name in ("mode", "output", "season")}
    return Forecaster(cell, settings.horizon or 1, quantiles=tuple(settings.quantiles), **options)


def rows_of(sheet: Sheet, horizon: int) -> Rows:
    """The table as the model reads it. Raises: BadInput."""
    past = sheet.past if sheet.beside else None
    try:
        return read_rows("forecast", sheet.values, horizon, known=sheet.known(horizon), past=past)
    except ValueError as error:
        raise BadInput(plainly(error, sheet.targets)) from None


def plainly(error: ValueError, targets: list[str]) -> str:
    """The sentence of the library, in the words of a table."""
    text = str(error).split(": ", 1)[-1]
    for i, name in enumerate(targets):
        text = text.replace(f"series {i} ", f"column {name!r} ")
    return text


def ahead_task(settings: Settings) -> Task:
    """Forecast the next rows; the last rows, a horizon at least, are held out.

    Loss: of the law, in units of what the linear start of a forecast misses as a rule, which is the baseline.
    """
    sheet, model = read_sheet(settings, settings.file), forecaster(settings)
    rows = rows_of(sheet, model.horizon)
    try:
        problem = model.problem(rows, batch=settings.batch, seed=settings.seed, held_out=settings.held_out)
    except ValueError as error:
        raise BadInput(f"{settings.file}: {plainly(error, sheet.targets)}") from None
    unit = "pinball" if settings.output == "quantiles" else "nats"
    example = jnp.zeros(problem.example.shape, problem.example.dtype)
    return Task(
        title=title(sheet, model, problem),
        unit=unit,
        cell=problem.network,
        example=problem.example,
        time=problem.plan.context,
        loss_fn=lambda params, carry, batch, key: (carry, problem.loss(params, batch["window"], key)),
        batches=lambda step: {"window": problem.batches(step), "fresh": np.ones(settings.batch, bool)},
        validate=problem.validate,
        derive=lambda loss: {unit: loss},
        baselines=lambda: {
            "its linear start alone": problem.validate(problem.network.init(jax.random.key(0), example))
        },
        memory=memory_of(sheet, problem.plan, problem.example.shape[1]),
        fingerprint=fingerprint(sheet),
        remarks=sheet.remarks,
        each=f"{settings.batch} windows of {problem.plan.context} rows and the {model.horizon} after them",
        held=last_part(settings.held_out),
        told=lambda params, out: told(Fitted(model, problem.plan, params, rows), problem, settings, sheet, out),
    )


def title(sheet: Sheet, model: Forecaster, problem: Problem) -> str:
    """What is forecast, from what."""
    gaps = int(np.isnan(sheet.values).sum())
    seasons = " and ".join(str(m) for m, _ in problem.plan.methods.seasons) or "none that fits"
    parts = [f"{len(sheet.values)} rows of {', '.join(sheet.targets)}, {model.horizon} ahead, season {seasons}"]
    parts += [f"{sheet.step} apart by {sheet.date}"] if sheet.step else []
    parts += [f"beside {', '.join(sheet.beside)}"] if sheet.beside else []
    return ", ".join(parts + ([f"{gaps} missing values masked"] if gaps else []))


def told(fitted: Fitted, problem: Problem, settings: Settings, sheet: Sheet, out: Path | None) -> str:
    """The table of a backtest over the rows held out, with the number of its forecasts; and a picture of the last one."""
    held, horizon = problem.origins[1], fitted.model.horizon
    origins = held[::-1][::horizon][::-1][-FORECASTS:]
    season = settings.season or season_of(fitted.rows.values[: origins[0] + 1])
    report = measured([fitted] * len(origins), fitted.rows, origins, season)
    drawn = out is not None and draw(report, sheet, out / folders.FAN)
    picture = f"; the last of them is drawn in {folders.FAN}" if drawn else ""
    head = f"{len(origins)} forecasts of the rows held out (on which the best step was chosen){picture}:"
    return "\n".join([head, "", *(f"  {line}" for line in table(report))])


def draw(report: Backtest, sheet: Sheet, path: Path) -> bool:
    """False, and nothing drawn, without matplotlib."""
    seen = int(report.origins[-1]) + 1
    dates = None if sheet.dates is None else sheet.dates[: seen + len(report.mae)]
    came = np.where(report.there[-1], report.came[-1], np.nan)
    try:
        rj.forecast.fan_chart(
            path, report.forecasts[-1], sheet.values[:seen], came=came, dates=dates, names=sheet.targets
        )
    except ImportError:
        return False
    return True


# -- what is kept, and read back ---------------------------------------------------------------------------------------


def fingerprint(sheet: Sheet) -> str:
    """SHA-256 of all that the network sees."""
    seen = hashlib.sha256("\0".join([*sheet.targets, "\0", *sheet.beside]).encode())
    for a in (sheet.values, sheet.past, np.zeros(0) if sheet.dates is None else sheet.dates.astype(np.int64)):
        seen.update(np.ascontiguousarray(a).tobytes())
    return seen.hexdigest()


def memory_of(sheet: Sheet, plan: Plan, inputs: int) -> dict[str, Any]:
    """All that a forecast needs beside the parameters."""
    recent = sheet.last(plan.reach + plan.context)
    gaps = lambda rows: [[None if np.isnan(v) else float(v) for v in row] for row in rows]
    listed = lambda value: value.tolist() if isinstance(value, np.ndarray) else value
    return {
        "plan": {name: listed(value) for name, value in asdict(plan).items() if name != "methods"}
        | {"methods": [[list(season) for season in plan.methods.seasons], plan.methods.window, plan.methods.long]},
        "inputs": inputs,
        "columns": sheet.targets,
        "forms": sheet.forms,
        "beside": sheet.beside,
        "date": sheet.date,
        "step": None if sheet.step is None else list(sheet.step),
        "recent": gaps(recent.values),
        "recent_past": recent.past.tolist(),
        "recent_dates": None if recent.dates is None else recent.dates.astype(np.int64).tolist(),
        "rows_before": recent.rows_before,
    }


def network_of(settings: Settings, memory: dict[str, Any]) -> tuple[Correction, jax.ShapeDtypeStruct]:
    """The network of a run, and the shape of one step's input."""
    model = forecaster(settings)
    return Correction(model.cell, model.law.start), jax.ShapeDtypeStruct((1, memory["inputs"]), jnp.float32)


def plan_of(memory: dict[str, Any]) -> Plan:
    """The plan that a run was trained by."""
    found = dict(memory["plan"])
    seasons, window, long = found.pop("methods")
    arrays: dict[str, Any] = {
        name: np.array(value) if isinstance(value, list) else value for name, value in found.items()
    }
    return Plan(**arrays, methods=Methods(tuple((m, n) for m, n in seasons), window, long))


def sheet_of(memory: dict[str, Any]) -> Sheet:
    """The last rows that a run was trained on."""
    numbers = lambda name, width: np.array(memory[name], np.float64).reshape(-1, width)
    dates = memory["recent_dates"]
    return Sheet(
        targets=memory["columns"],
        values=numbers("recent", len(memory["columns"])),
        forms=memory["forms"],
        beside=memory["beside"],
        past=np.array(memory["recent_past"], np.float64).reshape(len(memory["recent"]), len(memory["beside"])),
        date=memory["date"],
        dates=None if dates is None else np.array(dates, np.int64).astype("datetime64[ns]"),
        step=None if memory["step"] is None else Step(*memory["step"]),
        rows_before=memory["rows_before"],
    )


def with_newer(before: Sheet, settings: Settings, file: str) -> Sheet:
    """The rows of a run with those of a newer file after them. Raises: BadInput, DataError."""
    return joined(before, read_sheet(settings, file, before.targets, before.beside, one_row=before.step), file)
