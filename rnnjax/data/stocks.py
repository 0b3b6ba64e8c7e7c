"""Monthly prices of five stocks out of a published package."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from typing import NamedTuple

import numpy as np

from rnnjax.data.archives import members
from rnnjax.data.sources import Package, fetch

PACKAGE = Package(
    "vega-datasets",
    "vega_datasets-0.9.0-py3-none-any.whl",
    "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d",
)


class Stocks(NamedTuple):
    """A row for each month of each stock. symbols: of the N rows. dates: datetime64 ``[N]``. prices: float64 ``[N]``, in dollars."""

    symbols: np.ndarray
    dates: np.ndarray
    prices: np.ndarray


def stocks(*, offline: bool = False) -> Stocks:
    """Amazon, Apple, Google, IBM, Microsoft: January 2000 (Google: August 2004) to March 2010, out of vega_datasets 0.9.0 (MIT;
    its authors took the prices, adjusted for splits and dividends, from public listings), fetched once and kept.

    Raises: DataError where the package cannot be had.
    """
    return of_csv(members(fetch(PACKAGE, offline))["vega_datasets/_data/stocks.csv"].decode())


def of_csv(text: str) -> Stocks:
    """Columns symbol, date as ``Jan 1 2000``, price.

    >>> of_csv("symbol,date,price\\nIBM,Mar 1 2010,125.55\\n").dates.astype(str).tolist()
    ['2010-03-01']
    """
    rows = list(csv.DictReader(io.StringIO(text)))
    dates = [datetime.strptime(row["date"], "%b %d %Y").strftime("%Y-%m-%d") for row in rows]
    prices = np.array([float(row["price"]) for row in rows])
    return Stocks(np.array([row["symbol"] for row in rows]), np.array(dates, "datetime64[D]"), prices)
