"""The forecaster of several rows of a table, with quantiles."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.cli import folder as folders
from rnnjax.cli.blocks import Block, Sheet
from rnnjax.cli.errors import BadInput
from rnnjax.cli.series import is_told, read_sheet
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


def forecaster(settings: Settings, step: Step | None) -> Forecaster:
    """The model of a run. step: of its rows; where they are uneven the first layer is told how long each is."""
    kind = cell_type(settings.cell)
    told = {"elapsed": True} if step is not None and step.uneven and is_told(kind) else {}
    layers = [kind(settings.hidden, **(told if i == 0 else {})) for i in range(settings.layers)]
    layers = [rj.Dropout(layer, settings.dropout) if settings.dropout else layer for layer in layers]
    cell = layers[0] if settings.layers == 1 else rj.Stack(*layers)
    options = {name: getattr(settings, name) for name in ("mode", "output", "season", "gaps")}
    return Forecaster(cell, settings.horizon or 1, quantiles=tuple(settings.quantiles), **options)


def rows_of(sheet: Sheet, horizon: int, training: bool = False) -> Rows:
    """The table as the model reads it. training: nothing to come need be known. Raises: BadInput."""
    beside = sheet.beside_series(horizon, training)
    try:
        return read_rows("forecast", sheet.values, horizon, **beside)
    except ValueError as error:
        raise BadInput(plainly(error, sheet)) from None


def plainly(error: ValueError, sheet: Sheet) -> str:
    """The sentence of the library, in the words of a table."""
    text = str(error).split(": ", 1)[-1]
    what = "column" if sheet.series is None else "series"
    return re.sub(r"series (\d+) ", lambda found: f"{what} {sheet.names[int(found[1])]!r} ", text)


def ahead_task(settings: Settings) -> Task:
    """Forecast the next rows; the last rows, a horizon at least, are held out.

    Loss: of the law, in units of what the linear start of a forecast misses as a rule, which is the baseline.
    """
    sheet = read_sheet(settings, settings.file)
    check_varies(settings, sheet)
    model = forecaster(settings, sheet.step)
    rows = rows_of(sheet, model.horizon, training=True)
    try:
        problem = model.problem(rows, batch=settings.batch, seed=settings.seed, held_out=settings.held_out)
    except ValueError as error:
        raise BadInput(f"{settings.file}: {plainly(error, sheet)}") from None
    unit = "pinball" if settings.output == "quantiles" else "nats"
    start = start_of(problem.network, problem.example)
    begun = problem.validate(start)
    better = lambda params: params if problem.validate(params) < begun else start
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
        baselines=lambda: {"its linear start alone": begun},
        memory=memory_of(sheet, problem.plan, problem.example.shape[1]) | {"start": begun},
        fingerprint=fingerprint(sheet),
        remarks=sheet.remarks,
        each=f"{settings.batch} windows of {problem.plan.context} rows and the {model.horizon} after them",
        held=last_part(settings.held_out),
        needs=needs(sheet, model.horizon),
        told=lambda params, out: told(Fitted(model, problem.plan, better(params), rows), problem, settings, sheet, out),
    )


def start_of(network: Any, example: jax.ShapeDtypeStruct) -> Any:
    """Params with which the network says nothing: forecasts are their linear start, see `rnnjax.forecast.network.Correction`."""
    return network.init(jax.random.key(0), jnp.zeros(example.shape, example.dtype))


def needs(sheet: Sheet, horizon: int) -> str:
    """The flag that tells a forecast what is known in advance, where the file does not go so far."""
    far = all(len(block.known) >= len(block.values) + horizon for block in sheet.blocks)
    return "" if far or not sheet.known else f" --data FILE  (rows to come, with {', '.join(sheet.known)})"


def check_varies(settings: Settings, sheet: Sheet) -> None:
    """Raises: BadInput where nothing varies, or a column that was asked for does not."""
    values = sheet.values
    flat = np.nanmin(values, 0, initial=np.inf) == np.nanmax(values, 0, initial=-np.inf)
    asked = flat if settings.target and sheet.series is None else np.zeros_like(flat)
    if flat.all() or asked.any():
        at = int(np.argmax(flat))
        what = f"all values of {'column' if sheet.series is None else 'series'} {sheet.names[at]!r}"
        raise BadInput(
            f"{settings.file}: {what} are {values[~np.isnan(values[:, at]), at][0]:g}; there is nothing to forecast, leave it out"
        )


def title(sheet: Sheet, model: Forecaster, problem: Problem) -> str:
    """What is forecast, from what."""
    gaps = sum(int(np.isnan(block.values).sum()) for block in sheet.blocks)
    seasons = " and ".join(str(m) for m, _ in problem.plan.methods.seasons) or "none that fits"
    rows = sum(len(block.values) for block in sheet.blocks)
    several = "" if sheet.series is None else f" in {len(sheet.blocks)} series by {sheet.series}"
    parts = [f"{rows} rows of {', '.join(sheet.targets)}{several}, {model.horizon} ahead, season {seasons}"]
    parts += [f"{sheet.step} apart by {sheet.date}"] if sheet.step else []
    parts += [f"beside {', '.join(sheet.beside)}"] if sheet.beside else []
    parts += [f"knowing {', '.join(sheet.known)} in advance"] if sheet.known else []
    parts += [f"of each series {', '.join(sheet.static)}"] if sheet.static else []
    how = "masked" if model.gaps == "masked" else "that fade (GRU-D)"
    return ", ".join(parts + ([f"{gaps} missing values {how}"] if gaps else []))


def told(fitted: Fitted, problem: Problem, settings: Settings, sheet: Sheet, out: Path | None) -> str:
    """The table of a backtest over the rows held out, with the number of its forecasts; and a picture of the last one."""
    held, horizon = problem.origins[1], fitted.model.horizon
    origins = held[::-1][::horizon][::-1][-FORECASTS:]
    usual = 1 if fitted.rows.times is not None else season_of(fitted.rows.values[: origins[0] + 1])
    season = settings.season or usual
    report = measured([fitted] * len(origins), fitted.rows, origins, season)
    drawn = out is not None and draw(report, sheet, out / folders.FAN)
    picture = f"; the last of them is drawn in {folders.FAN}" if drawn else ""
    head = f"{len(origins)} forecasts of the rows held out (on which the best step was chosen){picture}:"
    return "\n".join([head, "", *(f"  {line}" for line in table(report))])


def draw(report: Backtest, sheet: Sheet, path: Path) -> bool:
    """False, and nothing drawn, without matplotlib."""
    seen = int(report.origins[-1]) + 1
    alone = sheet.blocks[0].dates if len(sheet.blocks) == 1 else None  # several have dates of their own
    dates = None if alone is None else alone[: seen + len(report.mae)]
    came = np.where(report.there[-1], report.came[-1], np.nan)
    try:
        rj.forecast.fan_chart(
            path, report.forecasts[-1], sheet.values[:seen], came=came, dates=dates, names=sheet.names
        )
    except ImportError:
        return False
    return True


# -- what is kept, and read back ---------------------------------------------------------------------------------------


def fingerprint(sheet: Sheet) -> str:
    """SHA-256 of all that the network sees."""
    named = [*sheet.targets, "\0", *sheet.beside, "\0", *sheet.known, "\0", *(block.name for block in sheet.blocks)]
    seen = hashlib.sha256("\0".join(named).encode())
    for block in sheet.blocks:
        dates = np.zeros(0) if block.dates is None else block.dates.astype(np.int64)
        for a in (block.values, block.past, block.known, block.static, dates):
            seen.update(np.ascontiguousarray(a).tobytes())
    return seen.hexdigest()


def memory_of(sheet: Sheet, plan: Plan, inputs: int) -> dict[str, Any]:
    """All that a forecast needs beside the parameters."""
    recent = sheet.last(plan.reach + plan.context)
    listed = lambda value: value.tolist() if isinstance(value, np.ndarray) else value
    return {
        "plan": {name: listed(value) for name, value in asdict(plan).items() if name != "methods"}
        | {"methods": [[list(season) for season in plan.methods.seasons], plan.methods.window, plan.methods.long]},
        "inputs": inputs,
        "columns": sheet.targets,
        "forms": sheet.forms,
        "beside": sheet.beside,
        "known": sheet.known,
        "static": list(sheet.static),
        "series": sheet.series,
        "date": sheet.date,
        "step": None if sheet.step is None else list(sheet.step),
        "span": sheet.span,
        "zone": sheet.zone,
        "recent": [memory_of_block(block) for block in recent.blocks],
    }


def memory_of_block(block: Block) -> dict[str, Any]:
    """A block as JSON has it: None where a value is missing, dates in nanoseconds."""
    return {
        "name": block.name,
        "values": [[None if np.isnan(v) else float(v) for v in row] for row in block.values],
        "past": block.past.tolist(),
        "known": block.known.tolist(),
        "static": block.static.tolist(),
        "dates": None if block.dates is None else block.dates.astype(np.int64).tolist(),
        "rows_before": block.rows_before,
    }


def network_of(settings: Settings, memory: dict[str, Any]) -> tuple[Correction, jax.ShapeDtypeStruct]:
    """The network of a run, and the shape of one step's input."""
    step = None if memory["step"] is None else Step(*memory["step"])
    return forecaster(settings, step).network, jax.ShapeDtypeStruct((1, memory["inputs"]), jnp.float32)


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
    return Sheet(
        targets=memory["columns"],
        forms=memory["forms"],
        beside=memory["beside"],
        known=memory["known"],
        series=memory["series"],
        date=memory["date"],
        step=None if memory["step"] is None else Step(*memory["step"]),
        blocks=tuple(block_of(memory, of) for of in memory["recent"]),
        span=memory["span"],
        static=tuple(memory["static"]),
        zone=memory.get("zone", ""),  # runs from before zones were kept have none
    )


def block_of(memory: dict[str, Any], of: dict[str, Any]) -> Block:
    """The way back from `memory_of_block`."""
    numbers = lambda name, columns: np.array(of[name], np.float64).reshape(len(of[name]), len(memory[columns]))
    return Block(
        name=of["name"],
        values=numbers("values", "columns"),
        past=numbers("past", "beside"),
        known=numbers("known", "known"),
        static=np.array(of["static"], np.float64),
        dates=None if of["dates"] is None else np.array(of["dates"], np.int64).astype("datetime64[ns]"),
        rows_before=of["rows_before"],
    )
