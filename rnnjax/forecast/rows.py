"""What a forecaster is given, checked: series, what is missing in them, and what is known beside them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from rnnjax.data.dates import seconds


class Rows(NamedTuple):
    """Series as they came and as they are read.

    values: float64 ``[T, S]``, the last value that was there in place of what is missing (the first there is before that).
    there: bool ``[T, S]``. known: float64 ``[T + horizon, S', K]``. past: float64 ``[T, S', P]``. S' is S, or 1 where all series
    share them. static: float64 ``[S, F]``. K, P and F may be 0. times: float64 ``[T + horizon, S']`` of uneven rows, else None.
    """

    values: np.ndarray
    there: np.ndarray
    known: np.ndarray
    past: np.ndarray
    static: np.ndarray
    times: np.ndarray | None = None

    @property
    def began(self) -> np.ndarray:
        """int ``[S]``: the first row of each series that is there."""
        return np.argmax(self.there, 0)

    def until(self, row: int, horizon: int) -> Rows:
        """What is known at the end of row ``row - 1``: nothing of the series after it."""
        return self._part(slice(row), slice(row + horizon))

    def since(self, row: int) -> Rows:
        """Row ``row`` and all after it."""
        return self._part(slice(row, None), slice(row, None))

    def _part(self, seen: slice, ahead: slice) -> Rows:
        times = None if self.times is None else self.times[ahead]
        return Rows(self.values[seen], self.there[seen], self.known[ahead], self.past[seen], self.static, times)


def read_rows(
    who: str,
    series: Any,
    horizon: int,
    *,
    known: Any = None,
    past: Any = None,
    static: Any = None,
    times: Any = None,
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
    return Rows(
        values=carried(np.where(there, values, 0.0), there),
        there=there,
        known=_covariates(who, "known", known, (rows + horizon, many), f"T + horizon = {rows} + {horizon}"),
        past=_covariates(who, "past", past, (rows, many), f"T = {rows}"),
        static=_static(who, static, many),
        times=_times(who, times, (rows, many), horizon),
    )


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
        found = np.asarray(given)
        if np.iscomplexobj(found):
            raise TypeError  # a cast would drop half of it
        return found.astype(np.float64)
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


def _covariates(who: str, name: str, given: Any, shape: tuple[int, int], told: str) -> np.ndarray:
    rows, many = shape
    if given is None:
        return np.zeros((rows, 1, 0))
    found = _numbers(who, name, given)
    if found.ndim not in (2, 3) or len(found) != rows or (found.ndim == 3 and found.shape[1] not in (1, many)):
        own = f" ([{rows}, {many}, features] where each series has its own)" if many > 1 else ""
        raise ValueError(f"{who}: {name} must be [{told}, features], got the shape {found.shape}{own}")
    if not np.isfinite(found).all():
        row = int(np.argmin(np.isfinite(found).reshape(rows, -1).all(1)))
        raise ValueError(f"{who}: {name} must be finite, row {row} is not; fill its gaps")
    return found[:, None] if found.ndim == 2 else found


def _static(who: str, given: Any, many: int) -> np.ndarray:
    if given is None:
        return np.zeros((many, 0))
    found = _numbers(who, "static", given)
    if found.ndim != 2 or len(found) != many or not np.isfinite(found).all():
        what = f"the shape {found.shape}" if found.ndim != 2 or len(found) != many else "what is not finite"
        raise ValueError(f"{who}: static must be [S = {many}, features], finite, a row for each series, got {what}")
    return found


def _times(who: str, given: Any, shape: tuple[int, int], horizon: int) -> np.ndarray | None:
    """``[T + horizon, S']``; where the rows ahead are not given they follow one another by the median step."""
    if given is None:
        return None
    rows, many = shape
    found = np.asarray(given)
    if np.issubdtype(found.dtype, np.datetime64):
        found = seconds(found)
    found = _numbers(who, "times", found)
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or len(found) not in (rows, rows + horizon) or found.shape[1] not in (1, many):
        raise ValueError(
            f"{who}: times must be [{rows}] as the series, or [{rows} + {horizon}] with those ahead, got {np.shape(given)}"
        )
    if not np.isfinite(found).all() or not (np.diff(found, axis=0) > 0).all():
        raise ValueError(f"{who}: times must be finite and increase from row to row; sort the rows, one for each time")
    if len(found) < rows + horizon:
        step = np.median(np.diff(found, axis=0), 0) if rows > 1 else np.ones(found.shape[1])
        found = np.concatenate([found, found[-1] + np.arange(1, horizon + 1)[:, None] * step])
    return found
