"""The table of a forecast: which columns are forecast, which are read beside them, and where its rows stand in time."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

import numpy as np

from rnnjax.cli.errors import BadInput
from rnnjax.cli.settings import Settings
from rnnjax.data import read_csv
from rnnjax.data.dates import Step, calendar, dates_of, following, step_of
from rnnjax.data.numbers import Style
from rnnjax.data.table import read_grid

FLAGS = ("sep", "encoding", "header", "thousands", "percent", "currency")


@dataclass(frozen=True)
class Sheet:
    """values ``[T, S]`` of the targets, NaN where missing, and how the file writes each. past ``[T, P]``, without gaps.

    date: the name of the column of dates, with dates ``[T]`` and their step; all None where there is none.
    """

    targets: list[str]
    values: np.ndarray
    forms: list[str]
    beside: list[str]
    past: np.ndarray
    date: str | None
    dates: np.ndarray | None
    step: Step | None
    remarks: tuple[str, ...] = ()
    rows_before: int = 0

    def last(self, rows: int) -> Sheet:
        """The last rows alone."""
        left = max(0, len(self.values) - rows)
        dates = None if self.dates is None else self.dates[left:]
        return replace(
            self, values=self.values[left:], past=self.past[left:], dates=dates, rows_before=self.rows_before + left
        )

    def known(self, horizon: int) -> np.ndarray | None:
        """What the calendar says of all rows and those to come, ``[T + horizon, K]``."""
        if self.dates is None or self.step is None:
            return None
        found = calendar(np.concatenate([self.dates, self.ahead(horizon)]), self.step)
        return found if found.shape[1] else None

    def ahead(self, horizon: int) -> np.ndarray:
        """The dates to come, or the numbers of the rows."""
        if self.dates is None or self.step is None:
            return self.rows_before + len(self.values) + np.arange(1, horizon + 1)
        return following(self.dates, self.step, horizon)


def read_sheet(
    settings: Settings,
    file: str,
    targets: list[str] | None = None,
    beside: list[str] | None = None,
    one_row: Step | None = None,
) -> Sheet:
    """Reads ``file`` as a run's settings say.

    targets, beside: the columns of a run that there is already; one_row: its step, which one row alone does not tell.
    Raises: DataError, BadInput: a sentence on columns that are not there, and on dates that are not a step apart.
    """
    options = {name: getattr(settings, name) for name in FLAGS}
    table = read_csv(file, **options, fewest=1)
    named = [*table.names, *table.left_out]
    date, dates = dates_in(settings, file, named)
    numeric = [name for name in table.names if name != date]
    drop = list(settings.drop or ())
    for name in drop:
        column(file, "--drop", name, named)
    asked: list[str] = list(targets or settings.target or [name for name in numeric if name not in drop])
    for name in asked:
        column(file, "--target", name, named, numeric)
    rest = [name for name in numeric if name not in asked and name not in drop] if beside is None else beside
    for name in rest:
        column(file, "beside the target", name, named, numeric)
    values = np.where(table.missing, np.nan, table.values)
    at = lambda names: [table.names.index(name) for name in names]
    remark = () if dates is not None else ("no column of dates: rows are numbered, and nothing is known of a calendar",)
    return Sheet(
        targets=asked,
        values=values[:, at(asked)],
        forms=[table.forms[i] for i in at(asked)],
        beside=rest,
        past=filled(values[:, at(rest)]),
        date=date,
        dates=dates,
        step=None
        if dates is None
        else one_row
        if one_row and len(dates) == 1
        else step_of(dates, f"{file}, column {date!r}"),
        remarks=(*table.remarks, *remark),
    )


def dates_in(settings: Settings, file: str, named: list[str]) -> tuple[str | None, np.ndarray | None]:
    """The column of dates, that of ``--date`` or the first there is."""
    style = Style(settings.thousands, settings.percent, settings.currency)
    grid = read_grid(file, style, **{name: getattr(settings, name) for name in FLAGS[:3]})
    if settings.date is not None:
        column(file, "--date", settings.date, grid.names)
        found = dates_of(grid.cells.iloc[:, grid.names.index(settings.date)])
        if found is None:
            raise BadInput(f"{file}, column {settings.date!r}: holds no dates in one form; write them as 2024-12-31")
        return settings.date, found
    words = [name for name in grid.names if name in named]
    numbers = lambda i: grid.cells.iloc[:, i].str.fullmatch(r"\s*[-+]?[\d.,]*\s*").all()
    each = ((name, grid.names.index(name)) for name in words)
    found = ((name, dates_of(grid.cells.iloc[:, i])) for name, i in each if not numbers(i))
    return next(((name, dates) for name, dates in found if dates is not None), (None, None))


def column(file: str, flag: str, name: str, names: list[str], numeric: list[str] | None = None) -> None:
    """Raises: BadInput if there is no such column, with the nearest that there is, or if it holds no numbers."""
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"its columns are {', '.join(names)}"
        raise BadInput(f"{file} has no column {name!r} ({flag}); {hint}")
    if numeric is not None and name not in numeric:
        raise BadInput(f"{file}, column {name!r} ({flag}) holds no numbers: its cells are words, dates, or all missing")


def filled(values: np.ndarray) -> np.ndarray:
    """The last value that was there in place of gaps; 0 before the first."""
    rows = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(rows, 0) if len(values) else rows
    return np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), 0), 0.0)


def written_dates(dates: np.ndarray) -> list[str]:
    """As ISO 8601 has them, without a time where all are midnight; numbers as they are."""
    if not np.issubdtype(dates.dtype, np.datetime64):
        return [str(n) for n in dates]
    midnight = (dates == dates.astype("datetime64[D]")).all()
    return [str(date).replace("T", " ") for date in dates.astype("datetime64[D]" if midnight else "datetime64[s]")]


def joined(before: Sheet, newer: Sheet, file: str) -> Sheet:
    """The rows of a run and newer ones after them; where both have a date, the newer file is believed.

    Raises: BadInput where it does not follow on.
    """
    kept = len(before.values)
    if before.dates is not None:
        assert newer.dates is not None and before.step is not None
        if newer.step is not None and newer.step != before.step:
            raise BadInput(
                f"{file}: its rows are {newer.step} apart, those of the run {before.step}; give rows of one step"
            )
        expected = before.ahead(1)[0]
        if newer.dates[0] > expected or newer.dates[-1] < before.dates[-1]:
            first, last, next_one = written_dates(np.array([newer.dates[0], newer.dates[-1], expected]))
            raise BadInput(
                f"{file} does not follow on: it goes from {first} to {last}, where rows from {next_one} on (or earlier) are needed; "
                "give the rows in between too"
            )
        kept = int(np.searchsorted(before.dates, newer.dates[0]))
        if newer.dates[0] <= before.dates[-1] and before.dates[-1] not in newer.dates:
            raise BadInput(
                f"{file} does not follow on: its dates lie between those of the run; give rows of the same dates"
            )
    join = lambda name: np.concatenate([getattr(before, name)[:kept], getattr(newer, name)])
    dates = None if before.dates is None else join("dates")
    return replace(before, values=join("values"), past=join("past"), dates=dates)
