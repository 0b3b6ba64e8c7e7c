"""Question: how good are forecasts of the next 24 hours, and how long do they take, beside statsforecast and neuralforecast?

The windows of the recipes energy, traffic and weather: a forecast each midnight of the last 12 weeks, chosen on the 8 before. That all
sides see the same windows is asserted first, by the seasonal naive method. Sides that are not installed are left out.

    python benchmarks/forecasting.py [--quick] [--series energy]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import arguments, installed, machine_line, save

import rnnjax as rj
from rnnjax.bench import print_rows
from rnnjax.data.hourly import hourly
from rnnjax.tasks import Setting, named
from rnnjax.tasks import hourly as recipes
from rnnjax.tasks.run import train

SERIES = {"energy": "electricity", "traffic": "traffic", "weather": "weather"}
HOURS, TEST, VALID = recipes.HOURS, recipes.TEST, recipes.VALID
STEPS, HISTORY = 1500, 8 * 168  # of the networks; rows that a statistical model is fitted to, each midnight


def frame_of(name: str, days: int) -> Any:
    """The series as both libraries take it, gaps filled by the last value, up to ``days`` days of the test weeks."""
    import pandas as pd

    data = hourly(SERIES[name])
    end = len(data.values) - HOURS * (TEST - days)
    values = pd.Series(data.values[:end]).ffill()
    return pd.DataFrame({"unique_id": name, "ds": pd.DatetimeIndex(data.dates[:end]), "y": values.astype(np.float32)})


def error(said: Any, column: str, name: str) -> float:
    """The mean absolute error where a value was noted."""
    data = hourly(SERIES[name])
    noted = dict(zip(data.dates.astype("datetime64[ns]").tolist(), data.values))
    came = np.array([noted[date] for date in said["ds"].to_numpy("datetime64[ns]").tolist()])
    return float(np.nanmean(np.abs(came - said[column].to_numpy(float))))


def ours(name: str, days: int, quick: bool) -> dict[str, float]:
    """The recipe, as ``rnnjax train --task`` runs it."""
    began = time.perf_counter()
    recipe = named(name)
    problem = recipe.make(Setting(small=quick))
    params = train(recipe, problem, 0, progress=False).params
    return {"rnnjax, GRU": problem.score(params, "test").value, "seconds": time.perf_counter() - began}


def by_statsforecast(name: str, days: int, quick: bool) -> dict[str, Any]:
    """Decomposition by day and week with exponential smoothing of the rest; and what repeats, to compare the windows."""
    from statsforecast import StatsForecast
    from statsforecast.models import MSTL, AutoETS, SeasonalNaive

    frame, found = frame_of(name, days), {}
    for what, model in {
        "yesterday": SeasonalNaive(24),
        "statsforecast, MSTL + ETS": MSTL(season_length=[24, 168], trend_forecaster=AutoETS(model="ZZN")),
    }.items():
        began = time.perf_counter()
        side = StatsForecast(models=[model], freq="h", n_jobs=1)
        said = side.cross_validation(df=frame, h=HOURS, step_size=HOURS, n_windows=days, input_size=HISTORY)
        column = next(c for c in said.columns if c not in ("unique_id", "ds", "cutoff", "y"))
        found[what] = (error(said, column, name), time.perf_counter() - began)
    return found


def by_neuralforecast(name: str, days: int, quick: bool) -> dict[str, Any]:
    """Its LSTM and GRU, as many features, steps, windows a step and hours of context as ours; else as they come."""
    from neuralforecast import NeuralForecast
    from neuralforecast.models import GRU, LSTM

    frame, found = frame_of(name, days), {}
    size = {
        "encoder_hidden_size": 4 if quick else 64,
        "max_steps": 4 if quick else STEPS,
        "input_size": 30 if quick else 96,
        "windows_batch_size": 32,
    }
    for kind in (LSTM, GRU):
        began = time.perf_counter()
        model = kind(h=HOURS, scaler_type="robust", random_seed=0, enable_progress_bar=False, logger=False, **size)
        side = NeuralForecast(models=[model], freq="h")
        said = side.cross_validation(df=frame, n_windows=days, step_size=HOURS, val_size=HOURS * VALID)
        found[f"neuralforecast, {kind.__name__}"] = (error(said, kind.__name__, name), time.perf_counter() - began)
    return found


SIDES: dict[str, Callable[[str, int, bool], dict[str, Any]]] = {
    "statsforecast": by_statsforecast,
    "neuralforecast": by_neuralforecast,
}


def yesterday(name: str, days: int) -> float:
    """The floor of the recipe, by hand, on the days that are measured."""
    values = hourly(SERIES[name]).values
    filled = frame_of(name, TEST)["y"].to_numpy(float)
    at = np.arange(len(values) - HOURS * TEST, len(values) - HOURS * (TEST - days))
    return float(np.nanmean(np.abs(values[at] - filled[at - HOURS])))


def measure(name: str, quick: bool) -> list[dict[str, Any]]:
    """A row for each side: mean absolute error and seconds, of which training is nearly all."""
    days = 4 if quick else TEST
    found = ours(name, days, quick)
    rows = [{"series": name, "side": "rnnjax, GRU", "mae": found["rnnjax, GRU"], "seconds": found["seconds"]}]
    for library, side in SIDES.items():
        if not installed(library):
            print(f"{library} is not installed: left out")
            continue
        said = side(name, days, quick)
        if "yesterday" in said:
            np.testing.assert_allclose(said.pop("yesterday")[0], yesterday(name, days), rtol=1e-4)
        rows += [
            {"series": name, "side": what, "mae": mae, "seconds": seconds} for what, (mae, seconds) in said.items()
        ]
    return rows


def main() -> None:
    options = arguments(__doc__, lambda parser: parser.add_argument("--series", default="", help="only this recipe"))
    print(machine_line())
    rows: list[dict[str, Any]] = []
    for name in SERIES:
        if options.series in ("", name):
            rows += measure(name, options.quick)
            save("forecasting", rows, options)  # what is measured is kept, whatever comes after
    print_rows(
        rows, ("series", "side", "mae", "seconds"), f"24 hours ahead, mean absolute error; rnnjax {rj.__version__}"
    )


if __name__ == "__main__":
    main()
