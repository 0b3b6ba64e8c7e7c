"""`backtest`: forecasts from rolling origins, measured beside the simple methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from rnnjax.data import season_of
from rnnjax.forecast.model import Fitted, Forecast, Forecaster
from rnnjax.forecast.rows import Rows, read_rows
from rnnjax.forecast.scores import Scores, crps_of, score, seasonal_naive, usual_error


@dataclass(frozen=True)
class Backtest:
    """What `backtest` found; printed, a table.

    model, persistence, seasonal_naive: `Scores`, each ``[horizon]``; those of the model also as ``mae``, ``mase``, ``pinball``,
    ``crps``, ``coverage``. nominal: the share that should be covered. season: of the seasonal naive method. origins ``[W]``: the last row
    that each forecast has seen. forecasts: one `Forecast` for each. came, there: ``[W, horizon, S]``.
    fitted: the last model that was trained.
    """

    model: Scores
    persistence: Scores
    seasonal_naive: Scores
    nominal: float
    season: int
    origins: np.ndarray
    forecasts: list[Forecast]
    came: np.ndarray
    there: np.ndarray
    fitted: Fitted

    mae = property(lambda self: self.model.mae)
    mase = property(lambda self: self.model.mase)
    pinball = property(lambda self: self.model.pinball)
    crps = property(lambda self: self.model.crps)
    coverage = property(lambda self: self.model.coverage)

    def __str__(self) -> str:
        return "\n".join(table(self))

    def __repr__(self) -> str:
        mae = self.model.mae.mean()
        return f"Backtest({len(self.origins)} windows, {len(self.model.mae)} rows ahead, mean absolute error {mae:.4g})"


def backtest(
    model: Forecaster | Fitted,
    series: Any,
    *,
    windows: int = 5,
    season: int | None = None,
    every: int | None = None,
    refit: bool = False,
    known: Any = None,
    past: Any = None,
    static: Any = None,
    times: Any = None,
    mask: Any = None,
    steps: int = 1000,
    paths: int = 200,
    seed: int = 0,
    key: jax.Array | None = None,
    **how: Any,
) -> Backtest:
    """Forecasts the last rows of a series from ``windows`` origins, each from what stood before it alone.

    model: a `Forecaster`, fitted once to the rows before the first origin (or before each with ``refit``), or a `Fitted` one that has
        seen no row after the first origin.
    series ``[T, S]``, known ``[T, K]`` or longer, past, static, times ``[T]`` or longer, mask: as for `Forecaster.fit`.
    windows: W. every: rows from one origin to the next; the horizon if None. The last forecast ends with the series.
    season: of the seasonal naive method and of MASE; None: that of `rnnjax.data.season_of` on the rows before the first origin, or 1
        where they are uneven.
    steps, how: of `Forecaster.fit`; key: of every fit; that of ``seed`` if None. paths: of recursive forecasts.
    Raises: ValueError where too few rows are left, or where a fitted model has seen what it would forecast.

    >>> import numpy as np, rnnjax as rj
    >>> t = np.arange(160.0)
    >>> model = rj.forecast.Forecaster(rj.GRU(4), horizon=4)
    >>> report = rj.forecast.backtest(model, t[:, None], windows=3, season=12, steps=2)
    >>> report.persistence.mae.tolist(), report.seasonal_naive.mae.tolist(), bool((report.mae < 0.1).all())
    ([1.0, 2.0, 3.0, 4.0], [12.0, 12.0, 12.0, 12.0], True)
    """
    forecaster = model.model if isinstance(model, Fitted) else model
    if not isinstance(forecaster, Forecaster):
        raise TypeError(f"backtest: takes a Forecaster, or what its fit returns, got {type(model).__name__}")
    horizon = forecaster.horizon
    within = dict(known=_shortened(known, series), past=past, static=static, times=_shortened(times, series), mask=mask)
    rows = read_rows("backtest", series, 0, **within)
    origins = _origins(len(rows.values), horizon, windows, every or horizon)
    first = int(origins[0]) + 1
    season = _season(rows.values[:first], 1 if season is None and rows.times is not None else season)
    key, how = jax.random.key(seed) if key is None else key, {"steps": steps, **how}
    if isinstance(model, Fitted):
        _check_unseen(model, first)
        fitted, refit = model, False
    else:
        fitted = forecaster.fit_rows(key, rows.until(first, horizon), **how)
    models = []
    for origin in origins:
        again = refit and models
        models.append(forecaster.fit_rows(key, rows.until(int(origin) + 1, horizon), **how) if again else fitted)
    return measured(models, rows, origins, season, paths, seed)


def measured(
    models: list[Fitted], rows: Rows, origins: np.ndarray, season: int, paths: int = 200, seed: int = 0
) -> Backtest:
    """One forecast from each origin, by the model for it, measured; what came before the first is what is usual."""
    levels, horizon, first = models[-1].model.quantiles, models[-1].model.horizon, int(origins[0]) + 1
    forecasts = [
        fitted.after(rows.until(int(origin) + 1, horizon), paths, seed) for fitted, origin in zip(models, origins)
    ]
    at = origins[:, None] + np.arange(1, horizon + 1)
    came, there = rows.values[at], rows.there[at] & (origins[:, None] >= rows.began)[:, None]
    usual = usual_error(rows.values[:first], rows.there[:first], season)
    against = lambda *found: score(came, there, usual, levels, *found)
    last = np.stack([np.repeat(rows.values[origin][None], horizon, 0) for origin in origins])
    naive = np.stack([seasonal_naive(rows.values[: origin + 1], horizon, season) for origin in origins])
    stacked = lambda name: np.stack([getattr(forecast, name) for forecast in forecasts])
    crps = np.stack([crps_of(forecast.ppf, of) for forecast, of in zip(forecasts, came)])
    return Backtest(
        model=against(stacked("median"), stacked("quantiles"), crps),
        persistence=against(last),
        seasonal_naive=against(naive),
        nominal=levels[-1] - levels[0],
        season=season,
        origins=origins,
        forecasts=forecasts,
        came=came,
        there=there,
        fitted=models[-1],
    )


def table(report: Backtest, most: int = 8) -> list[str]:
    """Lines: for rows ahead, up to ``most`` of them and their mean, the error of each method and what the model says of its own."""
    horizon = len(report.mae)
    rows = np.unique(np.linspace(0, horizon - 1, min(most, horizon)).astype(int))
    columns = {
        "MAE": report.mae,
        "persistence": report.persistence.mae,
        f"season {report.season}": report.seasonal_naive.mae,
        "MASE": report.mase,
        "pinball": report.pinball,
        "CRPS": report.crps,
        f"in {100 * report.nominal:.0f} %": 100 * report.coverage,
    }
    lines = ["rows ahead" + "".join(f"{name:>13}" for name in columns)]
    lines += [f"{row + 1:>10}" + "".join(f"{column[row]:>13.4g}" for column in columns.values()) for row in rows]
    return [*lines, f"{'mean':>10}" + "".join(f"{np.nanmean(column):>13.4g}" for column in columns.values())]


def _shortened(known: Any, series: Any) -> Any:
    """What is known of the rows of the series: a backtest needs none after them."""
    return known if known is None else np.asarray(known)[: len(series)]


def _origins(rows: int, horizon: int, windows: int, every: int) -> np.ndarray:
    """The last row seen by each forecast, the last forecast ending with the series."""
    for name, value in (("windows", windows), ("every", every)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"backtest: {name} must be a whole number, at least 1, got {value!r}")
    first = rows - 1 - horizon - (windows - 1) * every
    if first < 2 * horizon + 3:
        most = max((rows - 1 - horizon - 2 * horizon - 3) // every + 1, 0)
        cure = f"at most {most} windows can be had of them" if most else "give a shorter horizon, or more rows"
        raise ValueError(
            f"backtest: {windows} windows of {horizon} rows, {every} apart, leave {max(first + 1, 0)} of {rows} rows to train on, where "
            f"{2 * horizon + 4} are needed; {cure}"
        )
    return first + every * np.arange(windows)


def _season(values: np.ndarray, season: int | None) -> int:
    found = season_of(values) if season is None else season
    if isinstance(found, bool) or not isinstance(found, (int, np.integer)) or not 1 <= found < len(values):
        raise ValueError(f"backtest: season must be a whole number of rows from 1 to {len(values) - 1}, got {found!r}")
    return int(found)


def _check_unseen(fitted: Fitted, first: int) -> None:
    if len(fitted.rows.values) > first:
        raise ValueError(
            f"backtest: the model was fitted to {len(fitted.rows.values)} rows and the first forecast starts after {first}; it has seen "
            "what it would forecast: hand in the Forecaster, which is fitted to the rows before, or one fitted to fewer rows"
        )
