"""Series that stand below one another in a table, and of different length: all end with the last row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnjax.data import DataError
from rnnjax.data.dates import calendar, following, seconds, span_of, step_of


class Long(NamedTuple):
    """What `from_long` makes. names: of the S series. series ``[T, S]``, each ending with the last row, NaN before its first.

    beside: what goes with them, by the names of `Forecaster.fit`: known, past, static, times, those that there are.
    """

    names: tuple[str, ...]
    series: np.ndarray
    beside: dict[str, np.ndarray]


def from_long(
    series: Any,
    values: Any,
    *,
    horizon: int,
    dates: Any = None,
    known: Any = None,
    past: Any = None,
    static: Any = None,
) -> Long:
    """Series from the N rows of a long table, where those of one series stand in order of time, for a model of this ``horizon``.

    series ``[N]``: to which each row belongs. values ``[N]``, NaN where missing. dates ``[N]``: the calendar is then known in advance
    too; where they are not a step apart they are handed on as ``times``. past ``[N, P]``. static ``[N, F]``, the same all along a
    series. known ``[N, K]``: with it, the last ``horizon`` rows of each series are those to come, whose values are not read.
    Raises: ValueError where lengths differ or a series has no rows; DataError, a sentence, on dates that go back or repeat.

    >>> import numpy as np
    >>> table = from_long(["a", "b", "a", "a", "b"], [1.0, 10.0, 2.0, 3.0, 20.0], static=np.array([[0, 1, 0, 0, 1]]).T, horizon=2)
    >>> table.names, table.series.tolist(), table.beside["static"].ravel().tolist()
    (('a', 'b'), [[1.0, nan], [2.0, 10.0], [3.0, 20.0]], [0.0, 1.0])
    """
    ids, given = np.asarray(series), {"values": values, "dates": dates, "known": known, "past": past, "static": static}
    table = {name: np.asarray(a) for name, a in given.items() if a is not None}
    for name, a in table.items():
        wide = name in ("known", "past", "static")
        if a.ndim != 1 + wide or len(a) != len(ids):
            raise ValueError(
                f"from_long: {name} must be [N = {len(ids)}{', features' * wide}] as series, got {a.shape}"
            )
    names, rows = apart(ids)
    seen = [at[: max(0, len(at) - horizon)] for at in rows] if known is not None else rows
    for name, at in zip(names, seen):
        if not len(at):
            raise ValueError(f"from_long: series {name!r} has no rows before the {horizon} to come")
    beside = {}
    if dates is not None:
        told_until = rows if known is not None else seen
        been, ahead = ([table["dates"][at] for at in part] for part in (seen, told_until))
        beside |= of_dates(names, been, ahead, horizon)
    if known is not None:
        told = aligned([table["known"][at] for at in rows])
        beside["known"] = np.concatenate([beside["known"], told], 2) if "known" in beside else told
    if past is not None:
        beside["past"] = aligned([table["past"][at] for at in seen])
    if static is not None:
        beside["static"] = np.stack([_the_one(name, table["static"][at]) for name, at in zip(names, rows)])
    empty = aligned([np.asarray(table["values"][at], np.float64) for at in seen], np.nan)
    return Long(tuple(names), empty, beside)


def apart(ids: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """The names, in the order in which they begin, and the rows of each."""
    found, first, codes = np.unique(ids.astype(str), return_index=True, return_inverse=True)
    return [str(found[i]) for i in np.argsort(first)], [np.flatnonzero(codes == i) for i in np.argsort(first)]


def aligned(parts: Sequence[np.ndarray], fill: float | None = None) -> np.ndarray:
    """Parts ``[t, ...]`` side by side ``[T, S, ...]``, all ending with the last row; before its first a part has ``fill``, or its first.

    >>> aligned([np.array([1.0, 2.0]), np.array([3.0])]).tolist()
    [[1.0, 3.0], [2.0, 3.0]]
    """
    longest = max(map(len, parts))
    first = lambda part: part[:1] if fill is None else np.full_like(part[:1], fill)
    return np.stack([np.concatenate([np.repeat(first(p), longest - len(p), 0), p]) for p in parts], 1)


def times_of(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Times ``[t]`` or dates of each series as ``[T, S]``, seconds of dates; before the first of a series its median step goes back."""
    since = [seconds(p) if np.issubdtype(p.dtype, np.datetime64) else p for p in parts]
    found, longest = [], max(map(len, parts))
    for of in since:
        step = np.median(np.diff(of)) if len(of) > 1 else 1.0
        found.append(np.concatenate([of[0] - step * np.arange(longest - len(of), 0, -1), of]))
    return np.stack(found, 1)


def of_dates(names: Any, dates: Sequence[Any], ahead: Sequence[Any], horizon: int) -> dict[str, np.ndarray]:
    """The calendar of rows that are a step apart, those to come included; the times of others.

    ahead: as dates, with those to come where they are known.
    """
    dates, ahead = ([np.asarray(a, "datetime64[ns]") for a in which] for which in (dates, ahead))
    steps = [step_of(of, f"the dates of series {name!r}", uneven=True) for name, of in zip(names, dates) if len(of) > 1]
    if any(step.uneven for step in steps):
        return {"times": times_of(ahead)}
    if not steps:
        raise DataError("no series has two dates, which show how far rows are apart; give more rows")
    if len(set(steps)) > 1:
        raise DataError(
            f"the dates of the series are {' or '.join(sorted(set(map(str, steps))))} apart; give those of one step"
        )
    span = max(map(span_of, dates))
    with_ahead = [np.concatenate([of, following(of, steps[0], horizon)]) for of in dates]
    return {"known": aligned([calendar(of, steps[0], span) for of in with_ahead])}


def _the_one(name: str, rows: np.ndarray) -> np.ndarray:
    if (rows != rows[0]).any():
        raise ValueError(f"from_long: static changes along series {name!r}; what does is known or past")
    return rows[0].astype(np.float64)
