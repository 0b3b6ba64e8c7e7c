"""What a forecaster is given, checked: series, what is missing in them, and what is known beside them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Rows(NamedTuple):
    """Series as they came and as they are read.

    values: float64 ``[T, S]``, the last value that was there in place of what is missing (the first there is before that).
    there: bool ``[T, S]``. known: float64 ``[T + horizon, K]``. past: float64 ``[T, P]``. K and P may be 0.
    """

    values: np.ndarray
    there: np.ndarray
    known: np.ndarray
    past: np.ndarray

    @property
    def began(self) -> np.ndarray:
        """int ``[S]``: the first row of each series that is there."""
        return np.argmax(self.there, 0)

    def until(self, row: int, horizon: int) -> Rows:
        """What is known at the end of row ``row - 1``: nothing of the series after it."""
        return Rows(self.values[:row], self.there[:row], self.known[: row + horizon], self.past[:row])


def read_rows(
    who: str,
    series: Any,
    horizon: int,
    *,
    known: Any = None,
    past: Any = None,
    mask: Any = None,
    width: int | None = None,
) -> Rows:
    """Checks shapes and values. width: the number of series there must be, if it is known.

    Raises: ValueError, a sentence, on a wrong shape, infinite values, a series of which nothing is there, or covariates with gaps.
    """
    values = _numbers(who, "series", series)
    if values.ndim != 2:
        hint = "; one series alone is series[:, None]" if values.ndim == 1 else ""
        raise ValueError(f"{who}: series must be [T, S], time by series, got the shape {values.shape}{hint}")
    rows, many = values.shape
    if not many or not rows:
        raise ValueError(f"{who}: series must have a row and a column at least, got the shape {values.shape}")
    if width is not None and many != width:
        raise ValueError(f"{who}: was fitted to {width} series, got {many}; give the same columns in the same order")
    there = np.isfinite(values) if mask is None else ~np.isnan(values) & _mask(who, mask, values.shape)
    if np.isinf(values[there]).any() or (mask is None and np.isinf(values).any()):
        raise ValueError(
            f"{who}: series must be finite where they are not missing (NaN, or False in mask), got infinity"
        )
    if not there.any(0).all():
        raise ValueError(f"{who}: all values of series {int(np.argmin(there.any(0)))} are missing; leave it out")
    found = {
        "known": _covariates(who, "known", known, rows + horizon, f"T + horizon = {rows} + {horizon}"),
        "past": _covariates(who, "past", past, rows, f"T = {rows}"),
    }
    return Rows(carried(np.where(there, values, 0.0), there), there, **found)


def carried(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """The last value that was there in place of what is missing; the first there is where none was before.

    >>> carried(np.array([[5.0], [1.0], [9.0], [2.0]]), np.array([[False], [True], [False], [True]])).ravel().tolist()
    [1.0, 1.0, 1.0, 2.0]
    """
    at = np.where(there, np.arange(len(values))[:, None], -1)
    last = np.maximum.accumulate(at, 0)
    return np.take_along_axis(values, np.where(last < 0, np.argmax(there, 0), last), 0)


def _numbers(who: str, name: str, given: Any) -> np.ndarray:
    try:
        return np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"{who}: {name} must be numbers, got {type(given).__name__}; NaN stands for what is missing"
        ) from None


def _mask(who: str, mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.asarray(mask)
    if mask.shape != shape or mask.dtype != bool:
        raise ValueError(
            f"{who}: mask must be bool {shape}, True where a value is there, got {mask.dtype} {mask.shape}"
        )
    return mask


def _covariates(who: str, name: str, given: Any, rows: int, told: str) -> np.ndarray:
    if given is None:
        return np.zeros((rows, 0))
    found = _numbers(who, name, given)
    if found.ndim != 2 or len(found) != rows:
        raise ValueError(f"{who}: {name} must be [{told}, features], got the shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(
            f"{who}: {name} must be finite, row {int(np.argmin(np.isfinite(found).all(1)))} is not; fill its gaps"
        )
    return found
