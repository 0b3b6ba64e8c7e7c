"""`fan_chart`: a forecast as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.forecast.model import Forecast


def fan_chart(
    path: str | Path,
    forecast: Forecast,
    series: Any,
    *,
    came: Any = None,
    dates: Any = None,
    names: Any = None,
    last: int | None = None,
    most: int = 6,
) -> Path:
    """Saves a picture: the end of each series, the median after it, and the bands between quantiles that belong together.

    series ``[T, S]``: what the forecast was made from; its last rows are drawn, ``last`` of them (four horizons if None).
    came ``[horizon, S]``: what came, drawn too if it is known. dates ``[T + horizon]``: of all rows. names ``[S]``. At most ``most``.
    Raises: ImportError without matplotlib (extra ``plot``); ValueError where shapes do not fit; OSError if it cannot be written.
    """
    Figure = _figure()
    series = np.asarray(series, np.float64)
    horizon, many = forecast.mean.shape
    if series.ndim != 2 or series.shape[1] != many:
        raise ValueError(
            f"fan_chart: series must be [T, {many}] as the forecast has {many} series, got the shape {series.shape}"
        )
    last = max(1, min(len(series), 4 * horizon if last is None else last))
    at = np.arange(len(series) - last, len(series) + horizon) if dates is None else np.asarray(dates)[-last - horizon :]
    shown = min(many, most)
    figure = Figure(figsize=(8, 1 + 2.4 * shown), layout="constrained")
    for s, axes in enumerate(figure.subplots(shown, squeeze=False)[:, 0]):
        axes.plot(at[:last], series[len(series) - last :, s], color="black", linewidth=1.2, label="seen")
        joined = lambda after: np.concatenate([series[-1:, s], after[:, s]])  # lines go on from the last value seen
        _fan(axes, at[last:], forecast, s)
        axes.plot(at[last - 1 :], joined(forecast.median), color="C0", linewidth=1.6, label="median")
        if came is not None:
            shown_came = joined(np.asarray(came, np.float64))
            axes.plot(at[last - 1 :], shown_came, color="black", linewidth=1.2, linestyle=":", label="came")
        if dates is not None:
            axes.xaxis.set_major_formatter(_short_dates(axes))
        axes.set_title(f"series {s}" if names is None else str(names[s]), loc="left", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=120)
    return Path(path)


def _fan(axes: Any, at: np.ndarray, forecast: Forecast, s: int) -> None:
    """A band from each quantile below it to its fellow above, the widest palest."""
    pairs = len(forecast.levels) // 2
    for i in range(pairs):
        low, high = forecast.levels[i], forecast.levels[-1 - i]
        band = forecast.quantiles[i, :, s], forecast.quantiles[-1 - i, :, s]
        label = f"{100 * low:g} to {100 * high:g} %"
        axes.fill_between(at, *band, color="C0", alpha=0.2 + 0.3 * i / pairs, linewidth=0, label=label)


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure  # without pyplot: needs no display and leaves no global state
    except ImportError:
        raise ImportError(
            'pictures are drawn by matplotlib, which is not installed; pip install "rnnjax[plot]"'
        ) from None
    return Figure


def _short_dates(axes: Any) -> Any:
    """Dates that say what changes from one to the next alone."""
    from matplotlib.dates import ConciseDateFormatter

    return ConciseDateFormatter(axes.xaxis.get_major_locator())
