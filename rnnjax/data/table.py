"""CSV files as sequences of numbers."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rnnjax.data.errors import DataError
from rnnjax.data.text import decode

DECIMAL_COMMA = re.compile(r"\s*[-+]?\d*,\d+([eE][-+]?\d+)?\s*")
THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2},\d{3}\s*")


@dataclass(frozen=True)
class Table:
    """names: of the C numeric columns. values: float64 ``[T, C]``. left_out: names of the columns that hold no numbers."""

    names: tuple[str, ...]
    values: np.ndarray
    left_out: tuple[str, ...]


def read_csv(path: str | Path, fewest: int = 30) -> Table:
    """The numeric columns of a CSV file, one row a time step; separated by comma, semicolon or tab, with a header or not.

    Numbers have a decimal point; where commas separate nothing, a decimal comma serves as well. In quotes between separating
    commas ``"1,234"`` may be a thousand and more: it is no number.

    A column without a single number (dates, names) is left out.
    Raises: DataError if the file cannot be read, a row has another number of fields, a numeric column has a text or a
    blank in some row, no column is numeric, or there are fewer than ``fewest`` rows.
    """
    header, rows = _split(path)
    columns = list(zip(*(row for _, row in rows), strict=True))
    numeric = [i for i, column in enumerate(columns) if any(_number(cell) is not None for cell in column)]
    if not numeric:
        raise DataError(f"{path} has no numeric column; its columns are {', '.join(header)}")
    for line, row in rows:
        for i in numeric:
            if _number(row[i]) is None:
                what = "blank" if not row[i].strip() else f"{row[i]!r}, which is not a finite number"
                raise DataError(
                    f"{path}, line {line}: column {header[i]!r} is {what}; fill it in or leave the column out"
                )
    if len(rows) < fewest:
        raise DataError(
            f"{path} is too short: it has {len(rows)} row{'s'[: len(rows) > 1]} of numbers, at least {fewest} are needed"
        )
    values = np.array([[float(row[i]) for i in numeric] for _, row in rows], np.float64)
    left_out = tuple(name for i, name in enumerate(header) if i not in numeric)
    return Table(tuple(header[i] for i in numeric), values, left_out)


def season_of(values: np.ndarray, longest: int | None = None) -> int:
    """The lag of at least 2 rows at which ``values [T, C]`` repeat themselves best (smallest mean squared difference).

    Lags up to ``longest``, a third of the rows if None and at most 1000; the smallest of equally good ones.

    >>> season_of(np.sin(2 * np.pi * np.arange(100) / 12)[:, None], longest=20)
    12
    """
    longest = min(len(values) // 3, 1000) if longest is None else longest
    error = {lag: float(np.mean((values[lag:] - values[:-lag]) ** 2)) for lag in range(2, max(longest, 2) + 1)}
    return min(error, key=lambda lag: (round(error[lag], 12), lag))


def _split(path: str | Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header (made up where there is none) and the rows with their line numbers."""
    text = decode(path, "CSV")
    first = text.lstrip().split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    rows = ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))
    lines = [(line, [_point(cell, separator) for cell in row]) for line, row in rows]
    if not lines:
        raise DataError(f"{path} is empty; a CSV file with rows of numbers is needed")
    header = [cell.strip() for cell in lines[0][1]]
    for line, row in lines:
        if len(row) != len(header):
            raise DataError(f"{path}, line {line}: has {len(row)} fields where the first line has {len(header)}")
    if any(_number(cell) is not None for cell in header):
        return [f"column {i + 1}" for i in range(len(header))], lines
    if len(lines) == 1:
        raise DataError(f"{path} has a header and no rows; rows of numbers are needed")
    return header, lines[1:]


def _point(cell: str, separator: str) -> str:
    """``0,5`` as ``0.5``: a comma within a field separates none, so it is a decimal one, unless it may mark thousands."""
    thousands = separator == "," and THOUSANDS.fullmatch(cell)
    return cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) and not thousands else cell


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
