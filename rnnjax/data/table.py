"""Files of rows as sequences of numbers."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnnjax.data.dates import dates_of
from rnnjax.data.errors import DataError
from rnnjax.data.files import called, decode
from rnnjax.data.layout import Layout, blank, lay_out
from rnnjax.data.numbers import POINT_GROUPS, Column, Style, hint, points_that_may_group, read_column
from rnnjax.wording import counted

ROW_NUMBERS = "row numbers"  # the name of a column without one that counts the rows


@dataclass(frozen=True)
class Table:
    """What `read_csv` reads.

    names: of the C numeric columns. values: float64 ``[T, C]``, all finite, 0 where missing. missing: bool ``[T, C]``.
    left_out: names of the columns that hold no numbers, or only count the rows.
    dates: datetime64 ``[T]`` of the first column of dates, or None. forms: per column the format with the file's digits.
    remarks: sentences on what may have been meant otherwise.
    """

    names: tuple[str, ...]
    values: np.ndarray
    missing: np.ndarray
    left_out: tuple[str, ...]
    dates: np.ndarray | None = None
    forms: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that a network sees of it."""
        seen = hashlib.sha256("\0".join(self.names).encode())
        seen.update(self.values.tobytes() + self.missing.tobytes())
        return seen.hexdigest()

    def summary(self) -> str:
        """``N rows of COLUMNS, left out as no numbers: NAMES, K missing values masked``, without the parts that are empty."""
        masked = int(self.missing.sum())
        parts = [f"{len(self.values)} rows of {', '.join(self.names)}"]
        parts += [f"left out as no numbers: {', '.join(self.left_out)}"] if self.left_out else []
        return ", ".join(parts + ([f"{masked} missing values masked"] if masked else []))


def written(names: Any, forms: Any, rows: Any) -> Iterator[str]:
    """``rows [N, C]`` as lines of comma-separated numbers in the form of each column, under their names.

    >>> list(written(["x", "a, b"], [".1f", ".0f"], [[0.25, 3.0]]))
    ['x,"a, b"', '0.2,3']
    """
    out = io.StringIO()
    write = csv.writer(out, lineterminator="").writerow
    for row in itertools.chain([names], ([number(v, form) for v, form in zip(row, forms)] for row in rows)):
        write(row)
        yield out.getvalue()
        out.seek(out.truncate(0))


def number(value: float, form: str) -> str:
    """A value by its column's form; a negative that rounds to zero is written as zero."""
    text = format(float(value), form)
    return text.removeprefix("-") if text.startswith("-") and not text.strip("-0.e+") else text


def read_csv(
    path: str | Path,
    *,
    sep: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    thousands: str | None = None,
    percent: bool = False,
    currency: bool = False,
    fewest: int = 30,
) -> Table:
    """The numeric columns of a table, one row a time step, read by pandas.

    sep: between cells; None: found among tab ``;`` ``|`` ``,``, or as a first line ``sep=;`` says. encoding: None is UTF-8, or
    UTF-16 by its mark; gzip is unpacked. header: None takes the first row as names if one of its cells is no number, or
    if all are distinct whole numbers from 1000 to 2999 (years) and no other row is like that.
    thousands: the mark between groups, ``"," "." " " "'"``; where it is a point, the decimal point is a comma.
    percent, currency: take off ``%``, and signs and codes of currencies, ``(5)`` being -5; ``12 %`` is 12.
    Lines that start with ``#`` are comments. Where commas separate nothing, a decimal comma serves as a point.

    A column is numeric if most of its cells that are not missing are numbers; in it, what is neither a number nor missing (as
    pandas has it: blank, NA, nan, null ...) is refused. Other columns are left out, and so is one without a name that
    counts the rows.

    Raises: DataError, a sentence, if the file cannot be read, two columns have one name, rows are of unequal length, a cell
    is refused, no column is numeric, or there are fewer than ``fewest`` rows; ImportError without pandas.
    """
    style = Style(thousands, percent, currency).check()
    grid = read_grid(path, style, sep=sep, encoding=encoding, header=header)
    names, cells, lines, separator, named, nameless = grid
    path = called(path)
    read = read_columns(cells, style, separator)
    numeric = [i for i, column in enumerate(read) if is_numeric(column, cells[i], separator)]
    if not numeric:
        raise DataError(f"{path} has no numeric column; {none_numeric(names, cells, dict(enumerate(read)), separator)}")
    check_cells(path, names, cells, lines, [(i, read[i]) for i in numeric], separator)
    if len(cells) < fewest:
        raise DataError(
            f"{path} is too short: it has {counted(len(cells), 'row')} of numbers, at least {fewest} are needed"
        )
    if nameless and numeric[0] == 0 and len(numeric) > 1 and _counts_rows(read[0]):
        names[0], numeric = ROW_NUMBERS, numeric[1:]
    others = [i for i in cells.columns if i not in numeric]
    dates = next((found for i in others if (found := dates_of(cells[i])) is not None), None)
    part = lambda name: [getattr(read[i], name) for i in numeric]
    return Table(
        names=tuple(names[i] for i in numeric),
        values=np.stack(part("values"), 1),
        missing=np.stack(part("missing"), 1),
        left_out=tuple(names[i] for i in others),
        dates=dates,
        forms=tuple(part("form")),
        remarks=(
            *_header_remark(named, header, names, numeric),
            *_left_remarks(names, cells, read, others, separator),
        ),
    )


class Grid(NamedTuple):
    """A table as it is written. names ``[C]``; cells: a DataFrame of strings ``[T, C]``; lines: where each row ends in the file.

    separator: between cells. named: whether the first row of the file gave the names; nameless: but none to the first column.
    """

    names: list[str]
    cells: Any
    lines: list[int]
    separator: str
    named: bool
    nameless: bool


def read_grid(
    path: str | Path,
    style: Style,
    *,
    sep: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    comments: bool = True,
) -> Grid:
    """The cells of a file with one row or more; options as for `read_csv`. comments: whether lines after ``#`` are left out.

    Raises: DataError, ImportError as `read_csv`.
    """
    _need_pandas()
    layout = lay_out(called(path), decode(path, "CSV", encoding), sep, comments)
    path = called(path)
    cells, lines = _cells(path, layout)
    named = header if header is not None else first_row_names(cells, style, layout.separator)
    names = header_names(path, cells.iloc[0]) if named else [f"column {i + 1}" for i in cells.columns]
    if len(cells) == named:
        raise DataError(f"{path} has a header and no rows; rows of numbers are needed")
    nameless = named and blank(cells.iloc[0, 0])
    return Grid(names, cells.iloc[int(named) :], lines[int(named) :], layout.separator, named, nameless)


def _need_pandas() -> None:
    try:
        import pandas  # noqa: F401
    except ImportError:
        raise ImportError('tables are read by pandas, which is not installed; pip install "rnnjax[data]"') from None


def _cells(path: str | Path, layout: Layout) -> tuple[Any, list[int]]:
    """All cells as strings, without blank columns at the end and blank rows at either end; the line of each row."""
    import pandas as pd

    try:
        cells = pd.read_csv(
            io.StringIO(layout.text),
            sep=layout.separator,
            header=None,
            names=range(layout.width + 1),
            index_col=False,
            dtype=str,
            na_filter=False,
            quoting=csv.QUOTE_MINIMAL if layout.quotes else csv.QUOTE_NONE,
        )
    except pd.errors.ParserError as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ")
        raise DataError(f"{path} cannot be read as a table: {reason}") from None
    lines = layout.lines if len(layout.lines) == len(cells) else list(range(1, len(cells) + 1))
    empty = lambda row: (cells.iloc[row].str.strip() == "").all()
    first = next((row for row in range(len(cells)) if not empty(row)), None)
    if first is None:
        raise DataError(f"{path} is empty; a CSV file with rows of numbers is needed")
    end = next(row for row in range(len(cells), 0, -1) if not empty(row - 1))
    cells, lines = cells.iloc[first:end], lines[first:end]
    while cells.shape[1] > 1 and (cells.iloc[:, -1].str.strip() == "").all():
        cells = cells.iloc[:, :-1]
    return cells.reset_index(drop=True), lines


def first_row_names(cells: Any, style: Style, separator: str) -> bool:
    """Whether the first row names the columns. Blanks say nothing."""
    first = read_column(cells.iloc[0], style, separator)
    if first.refused.any():
        return True
    return bool(first.found) and _like_years(cells.iloc[0]) and not any(map(_like_years, _yearly(cells.iloc[1:])))


def _yearly(rows: Any) -> Any:
    """The rows that start like a year, as Series."""
    column = next((rows[i] for i in rows.columns if (rows[i].str.strip() != "").any()), None)
    found = rows if column is None else rows[column.str.fullmatch(r"\s*(?:[12]\d{3})?\s*")]
    return (row for _, row in found.iterrows())


def _like_years(row: Any) -> bool:
    """Distinct whole numbers from 1000 to 2999."""
    words = [word.strip() for word in row if word.strip()]
    years = [word for word in words if len(word) == 4 and word.isascii() and word.isdigit() and word[0] in "12"]
    return len(years) == len(words) == len(set(words)) > 0


def header_names(path: str | Path, row: Any) -> list[str]:
    """Names as the first row has them, made up where it is blank. Raises: DataError if two are one."""
    names = [" ".join(cell.split()) for cell in row]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two columns named {twice!r}; rename one, so that each can be told from the others")
    return [name or made_up(f"column {i + 1}", names) for i, name in enumerate(names)]


def made_up(name: str, names: list[str]) -> str:
    """A name for a column without one, other than those that there are.

    >>> made_up("column 2", ["column 2", ""])
    'column 2 (no name)'
    """
    return name if name not in names else made_up(f"{name} (no name)", names)


def read_columns(cells: Any, style: Style, separator: str) -> list[Column]:
    """Every column of the DataFrame. Beside columns with decimal commas, ``1.234`` is refused: it may be a thousand."""
    read = [read_column(cells[i], style, separator) for i in cells.columns]
    if style.thousands or separator == "," or not any(column.commas and column.found for column in read):
        return read
    doubtful = lambda column, i: column.refused | points_that_may_group(cells[i])
    return [column if column.commas else column._replace(refused=doubtful(column, i)) for i, column in enumerate(read)]


def is_numeric(column: Column, cells: Any, separator: str) -> bool:
    """Most cells are numbers; or some are, and a flag would read those that are refused."""
    refused = int(column.refused.sum())
    if column.found > refused or not column.found:
        return column.found > 0
    return bool(hint(cells.iloc[int(np.argmax(column.refused))], separator))


def check_cells(path: Any, names: list[str], cells: Any, lines: list[int], columns: list, separator: str) -> None:
    """Raises: DataError at the first cell of a numeric column that is refused."""
    found = [(int(np.argmax(column.refused)), i) for i, column in columns if column.refused.any()]
    if found:
        row, i = min(found)
        cell = cells.iloc[row, i]
        raise DataError(
            f"{path}, line {lines[row]}: column {names[i]!r} is {cell!r}, which is not a finite number; fill it in or leave "
            f"the column out{hint(cell, separator)}"
        )


def none_numeric(names: list[str], cells: Any, read: dict[int, Column], separator: str) -> str:
    """What there is where no column of ``read`` has numbers, with a cell that was refused: one that a flag would read, if any."""
    refused = [(names[i], cells.iloc[int(np.argmax(c.refused)), i]) for i, c in read.items() if c.refused.any()]
    readable = [(name, cell) for name, cell in refused if hint(cell, separator)] or refused
    shown = (
        f"; {readable[0][1]!r} in column {readable[0][0]!r} is none"
        if readable
        else "; all cells are blank" * bool(read)
    )
    more = hint(readable[0][1], separator) if readable else ""
    return f"its columns are {', '.join(names)}{shown}{more}"


def _header_remark(named: bool, header: bool | None, names: list[str], numeric: list[int]) -> list[str]:
    """A number that was taken for a name, beside names that are words."""
    numbers = [names[i] for i in numeric if re.fullmatch(r"[-+]?\d*[.,]?\d+", names[i])]
    if not named or header is not None or not numbers or all(_like_years([name]) for name in numbers):
        return []
    return [f"the first row was read as names, though {numbers[0]!r} is a number; --no-header reads it as values"]


def _left_remarks(names: list[str], cells: Any, read: list[Column], others: list[int], separator: str) -> list[str]:
    """Columns that a flag would read."""
    found = []
    for i in others:
        if read[i].refused.any():
            cell = cells[i].iloc[int(np.argmax(read[i].refused))]
            if POINT_GROUPS.fullmatch(cell):
                doubt = "may be a thousand beside decimal commas; --thousands '.' reads it so"
                found.append(f"{cell!r} in column {names[i]!r} {doubt}")
            elif flag := hint(cell, separator):
                found.append(f"{cell!r} in column {names[i]!r} is no number as it stands{flag}")
    return found


def _counts_rows(column: Column) -> bool:
    """0, 1, 2 ... or 1, 2, 3 ..."""
    first = column.values[0]
    return (
        not column.missing.any()
        and first in (0, 1)
        and np.array_equal(column.values - first, np.arange(len(column.values)))
    )
