"""The table of a forecast: which columns are forecast, which are read beside them, and where its rows stand in time."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from rnnjax.cli.blocks import Block, Sheet
from rnnjax.cli.errors import BadInput
from rnnjax.cli.settings import Settings, cell_type
from rnnjax.data import DataError, Table, read_csv
from rnnjax.data.dates import Step, dates_of, in_zone, span_of, step_of
from rnnjax.data.labelled import groups
from rnnjax.data.numbers import MISSING, Style
from rnnjax.data.table import Grid, read_grid

FLAGS = ("sep", "encoding", "header", "thousands", "percent", "currency")


@dataclass(frozen=True)
class Read:
    """A file as it is read: numbers and words, the rows of each series in them, the column of dates and their zone."""

    file: str
    table: Table
    grid: Grid
    names: list[str]
    rows: list[np.ndarray]
    date: str | None
    dates: Any
    zone: str

    @property
    def columns(self) -> list[str]:
        return [*self.table.names, *self.table.left_out]

    def numbers(self, names: list[str]) -> np.ndarray:
        """``[N, C]``, NaN where missing; a column that is not there is missing all along."""
        values = np.where(self.table.missing, np.nan, self.table.values)
        one = lambda name: (
            values[:, self.table.names.index(name)] if name in self.table.names else values[:, 0] * np.nan
        )
        return np.stack([one(name) for name in names], 1) if names else values[:, :0]

    def words(self, name: str) -> list[str]:
        """The cells of a column, "" where missing."""
        cells = [" ".join(cell.split()) for cell in self.grid.cells.iloc[:, self.grid.names.index(name)]]
        return ["" if cell in MISSING else cell for cell in cells]


def read_sheet(settings: Settings, file: str, before: Sheet | None = None) -> Sheet:
    """Reads ``file`` as a run's settings say. before: what the run was trained on, whose columns are wanted.

    Raises: DataError, BadInput: a sentence on columns that are not there, and on dates that are not a step apart.
    """
    if before is not None and before.date is not None:
        settings = replace(settings, date=before.date)
    read = read_file(settings, file, before)
    targets, known, static, beside = columns_of(settings, read) if before is None else columns_again(read, before)
    step = step_in(settings, read, None if before is None else before.step)
    parts = {name: read.numbers(of) for name, of in {"values": targets, "known": known, "past": beside}.items()}
    check_known(read, known, parts["known"])
    still = statics(read, static) if before is None else np.zeros((len(read.names), 0))
    ahead = bool(known) or (step is not None and step.uneven)
    blocks = [block(name, rows, parts, s, read.dates, ahead) for name, rows, s in zip(read.names, read.rows, still)]
    if before is None:
        check_begun(file, blocks)
    forms = dict(zip(read.table.names, read.table.forms))
    no_dates = "no column of dates: rows are numbered, and nothing is known of a calendar"
    return Sheet(
        targets=targets,
        forms=[forms[name] for name in targets] if before is None else before.forms,
        beside=beside,
        known=known,
        series=settings.series,
        date=read.date,
        step=step,
        blocks=tuple(blocks),
        span=None if read.dates is None else max([span_of(of.been) for of in blocks if len(of.values)], default=0),
        static=tuple(static),
        remarks=(*read.table.remarks, *[no_dates] * (read.dates is None)),
        zone=read.zone,
    )


def check_begun(file: str, blocks: list[Block]) -> None:
    """Raises: BadInput where a series has no row that has been."""
    empty = next((of.name for of in blocks if not len(of.values)), None)
    if empty is not None:
        raise BadInput(f"{file}: {'series ' + repr(empty) if empty else 'the target'} has no value; leave it out")


def read_file(settings: Settings, file: str, before: Sheet | None = None) -> Read:
    """The file, and where its series and dates stand; of dates that can be read in two ways, those that go on from the run's."""
    options = {name: getattr(settings, name) for name in FLAGS}
    table = read_csv(file, **options, fewest=1)
    style = Style(settings.thousands, settings.percent, settings.currency)
    grid = read_grid(file, style, **{name: options[name] for name in FLAGS[:3]})
    names, rows = [""], [np.arange(len(grid.cells))]
    if settings.series is not None:
        column(file, "--series", settings.series, grid.names)
        names, rows = groups(file, grid, grid.names.index(settings.series))
    better = None if before is None else lambda dates: goes_on(before, dates, rows)
    date, dates = dates_in(settings, file, grid, [*table.names, *table.left_out], rows, better)
    zone = ""
    if date is not None:
        try:
            words = grid.cells.iloc[:, grid.names.index(date)]
            dates, zone = in_zone(words, dates, rows, None if before is None else before.zone)
        except DataError as error:
            raise BadInput(f"{file}, column {date!r}: {error}") from None
    return Read(file, table, grid, names, rows, date, dates, zone)


def goes_on(before: Sheet, dates: np.ndarray, rows: list[np.ndarray]) -> bool:
    """Whether dates come after those of a run, its step apart."""
    if before.step is None or np.isnat(dates).any():
        return False
    try:
        steps = {step_of(dates[at], uneven=before.step.uneven) for at in rows if len(at) > 1}
    except DataError:
        return False
    ends, expected = zip(*((block.been[-1], before.ahead(block, 1)[0]) for block in before.blocks))
    alike = before.step.uneven or steps <= {before.step}
    alone = not steps and not before.step.uneven  # a single row tells by where it is
    return bool(alike and dates.max() >= min(ends) and (not alone or dates.min() <= max(expected)))


def dates_in(
    settings: Settings, file: str, grid: Grid, named: list[str], rows: Any, better: Any = None
) -> tuple[str | None, Any]:
    """The column of dates, that of ``--date`` or the first there is."""
    cells = lambda name: grid.cells.iloc[:, grid.names.index(name)]
    if settings.date is not None:
        column(file, "--date", settings.date, grid.names)
        found = dates_of(cells(settings.date), rows, better)
        if found is None:
            raise BadInput(
                f"{file}, column {settings.date!r}: holds no dates in one form from 1678 to 2261; write them as 2024-12-31"
            )
        return settings.date, found
    numbers = lambda name: cells(name).str.fullmatch(r"\s*[-+]?[\d.,]*\s*").all()
    words = [name for name in grid.names if name in named and name != settings.series and not numbers(name)]
    found = ((name, dates_of(cells(name), rows, better)) for name in words)
    return next(((name, dates) for name, dates in found if dates is not None), (None, None))


# -- columns -----------------------------------------------------------------------------------------------------------


def columns_of(settings: Settings, read: Read) -> tuple[list[str], list[str], list[str], list[str]]:
    """The names of targets, of columns known in advance, of those constant along a series, and of what is read beside."""
    numeric = [name for name in read.table.names if name not in (read.date, settings.series)]
    asked: dict[str, list[str]] = {
        flag: list(getattr(settings, flag) or ()) for flag in ("drop", "known", "static", "target")
    }
    for flag, names in asked.items():
        for name in names:
            column(read.file, f"--{flag}", name, read.columns, numeric if flag in ("known", "target") else None)
    twice = [name for name in asked["known"] + asked["static"] if name in asked["target"] or name in asked["drop"]]
    if twice:
        raise BadInput(
            f"{read.file}: column {twice[0]!r} is given twice, for what exclude each other; drop one of the flags"
        )
    if asked["static"] and settings.series is None:
        raise BadInput(
            "--static is for several series below one another: --series COLUMN says to which each row belongs"
        )
    static = asked["static"] + [name for name in constant(settings, read) if name not in sum(asked.values(), [])]
    free = [name for name in numeric if name not in [*asked["drop"], *asked["known"], *static]]
    targets: list[str] = asked["target"] or free
    if not targets:
        raise BadInput(f"{read.file} has no column of numbers left to forecast; name it by --target")
    return targets, asked["known"], static, [name for name in free if name not in targets]


def columns_again(read: Read, before: Sheet) -> tuple[list[str], list[str], list[str], list[str]]:
    """Those of a run; where something is known in advance, a file may tell of that alone."""
    numeric = [name for name in read.table.names if name != read.date]
    alone = bool(before.known) and not any(name in read.columns for name in before.targets)
    lax = alone or (before.known and all(not any(read.words(name)) for name in before.targets if name in read.columns))
    for flag, names in {
        "--target": before.targets,
        "beside the target": before.beside,
        "--known": before.known,
    }.items():
        for name in names if flag == "--known" or not lax else []:
            column(read.file, flag, name, read.columns, numeric)
    return before.targets, before.known, list(before.static), before.beside


def column(file: str, flag: str, name: str, names: list[str], numeric: list[str] | None = None) -> None:
    """Raises: BadInput if there is no such column, with the nearest that there is, or if it holds no numbers."""
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"its columns are {', '.join(names)}"
        raise BadInput(f"{file} has no column {name!r} ({flag}); {hint}")
    if numeric is not None and name not in numeric:
        raise BadInput(f"{file}, column {name!r} ({flag}) holds no numbers: its cells are words, dates, or all missing")


def constant(settings: Settings, read: Read) -> list[str]:
    """Columns that have one value along each series and are not the same for all; of words, those that some series share."""
    if settings.series is None or len(read.names) < 2:
        return []
    found = []
    for name in read.columns:
        words = [] if name in (read.date, settings.series) else read.words(name)
        levels = [set(words[i] for i in rows) - {""} for rows in read.rows] if words else []
        one_each = all(len(level) == 1 for level in levels)
        kinds = len(set().union(*levels)) if levels else 0
        if one_each and kinds > 1 and (name in read.table.names or kinds < len(read.names)):
            found.append(name)
    return found


def statics(read: Read, names: list[str]) -> np.ndarray:
    """``[S, F]``: numbers as they are, words as a feature for each. Raises: BadInput where one is missing or changes."""
    found = [np.zeros((len(read.names), 0))]
    for name in names:
        words = read.words(name)
        each = [list(dict.fromkeys(words[i] for i in rows if words[i])) for rows in read.rows]
        wrong = next((i for i, level in enumerate(each) if len(level) != 1), None)
        if wrong is not None:
            what = f"is {each[wrong][0]!r} and {each[wrong][1]!r}" if each[wrong] else "is missing"
            raise BadInput(
                f"{read.file}: column {name!r} (--static) {what} in series {read.names[wrong]!r}; it must have one value along each"
            )
        if name in read.table.names:
            values = read.numbers([name])
            found.append(np.stack([np.nanmax(values[rows], 0) for rows in read.rows]))
        else:
            levels = sorted({level for (level,) in each})
            found.append(np.array([[float(level == of) for of in levels] for (level,) in each]))
    return np.concatenate(found, 1)


def check_known(read: Read, names: list[str], values: np.ndarray) -> None:
    """Raises: BadInput where something known in advance has a gap."""
    gone = np.isnan(values)
    if gone.any():
        row, at = np.argwhere(gone)[0]
        raise BadInput(
            f"{read.file}, line {read.grid.lines[row]}: column {names[at]!r} (--known) is missing; what is known in advance has no gaps"
        )


# -- rows --------------------------------------------------------------------------------------------------------------


def block(name: str, rows: np.ndarray, parts: dict[str, np.ndarray], static: Any, dates: Any, ahead: bool) -> Block:
    """The rows of one series. ahead: those at its end without a value of the target are to come."""
    values = parts["values"][rows]
    there = np.flatnonzero(~np.isnan(values).all(1))
    count = (int(there[-1]) + 1 if len(there) else 0) if ahead else len(rows)
    return Block(
        name=name,
        values=values[:count],
        past=filled(parts["past"][rows][:count]),
        known=parts["known"][rows],
        static=static,
        dates=None if dates is None else dates[rows],
    )


def step_in(settings: Settings, read: Read, before: Step | None) -> Step | None:
    """The step between rows, the same in all series; that of a run where one row alone does not tell. Raises: DataError."""
    if read.dates is None:
        return None
    of = f"{read.file}, column {read.date!r}"
    steps = {
        name: step for name, rows in zip(read.names, read.rows) if (step := step_of_rows(settings, read, name, rows))
    }
    if any(step.uneven for step in steps.values()):
        apart = np.concatenate([np.diff(read.dates[rows]).astype(np.int64) for rows in read.rows])
        return Step(max(1, int(np.median(apart))), uneven=True)
    found = list(dict.fromkeys(steps.values()))
    if len(found) > 1:
        one, other = (next(name for name, step in steps.items() if step == wanted) for wanted in found[:2])
        raise DataError(
            f"{of}: rows of series {one!r} are {found[0]} apart, those of {other!r} {found[1]}; give rows of one step"
        )
    if not found and before is None:
        raise DataError(f"{of}: no series has two rows, which show how far rows are apart; give more rows")
    return found[0] if found else before


def step_of_rows(settings: Settings, read: Read, name: str, rows: np.ndarray) -> Step | None:
    """The step of one series, None of a single row. Raises: DataError."""
    dates, of = read.dates[rows], f"{read.file}, column {read.date!r}" + (f", series {name!r}" if name else "")
    if np.isnat(dates).any():
        raise DataError(f"{of} has no date in row {int(np.argmax(np.isnat(dates))) + 1}; fill it in")
    try:
        return step_of(dates, of, reads_uneven(settings)) if len(rows) > 1 else None
    except DataError as error:
        raise DataError(f"{error}{cure_of(settings, dates)}") from None


def cure_of(settings: Settings, dates: np.ndarray) -> str:
    """What else helps where dates are not a step apart."""
    if (np.diff(dates).astype(np.int64) > 0).all():
        return ", or have them read as they are by --gaps grud or --cell cfc"
    apart = "; where several series stand below one another, name the column that tells them apart: --series COLUMN"
    return apart if settings.series is None else ""


def reads_uneven(settings: Settings) -> bool:
    """Whether the network of a run is told how long each step is."""
    return settings.gaps == "grud" or is_told(cell_type(settings.cell))


def is_told(kind: Any) -> bool:
    """Whether cells of this kind can be told how long a step is, see `rnnjax.protocols.StepLength`."""
    return any(field.name == "elapsed" for field in fields(kind))


def filled(values: np.ndarray) -> np.ndarray:
    """The last value that was there in place of gaps; 0 before the first."""
    rows = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(rows, 0) if len(values) else rows
    return np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), 0), 0.0)
