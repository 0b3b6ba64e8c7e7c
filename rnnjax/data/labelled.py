"""Tables of labelled sequences: a text in each row, or the steps of a numeric sequence in several."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rnnjax.data.errors import DataError
from rnnjax.data.files import called
from rnnjax.data.numbers import MISSING, Style, read_column
from rnnjax.data.table import Grid, check_cells, is_numeric, none_numeric, read_columns, read_grid
from rnnjax.wording import counted


@dataclass(frozen=True)
class Labelled:
    """What `read_texts` and `read_series` read: N sequences, each with its label.

    sequences: strings, or float64 ``[T, C]`` with NaN where a value is missing. labels: strings, "" where there is none.
    ids: how each sequence is called in the file. columns: names of the C columns; () for texts.
    left_out: names of other columns. remarks: sentences on what was left out.
    """

    sequences: list[Any]
    labels: list[str]
    ids: list[str]
    columns: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that a network sees of it."""
        seen = hashlib.sha256("\0".join([*self.columns, *self.labels]).encode())
        for sequence in self.sequences:
            seen.update(content(sequence))
        return seen.hexdigest()

    def known(self) -> Labelled:
        """Those that have a label and a step or a letter; a remark counts the others."""
        kept = [i for i, label in enumerate(self.labels) if label and _any(self.sequences[i])]
        part = lambda things: [things[i] for i in kept]
        gone = len(self.labels) - len(kept)
        remark = (f"{gone} left out, having no label or nothing in {'it' if gone == 1 else 'them'}",) * bool(gone)
        return replace(
            self,
            sequences=part(self.sequences),
            labels=part(self.labels),
            ids=part(self.ids),
            remarks=self.remarks + remark,
        )


def content(sequence: Any) -> bytes:
    """A sequence as bytes, ended by a mark, so that two in a row are not one."""
    return (sequence.encode() if isinstance(sequence, str) else sequence.tobytes()) + b"\0\xff"


def _any(sequence: Any) -> bool:
    return bool(sequence.strip()) if isinstance(sequence, str) else bool(np.isfinite(sequence).any())


def read_texts(path: str | Path, text: str, label: str | None = None, **layout: Any) -> Labelled:
    """One sequence a row: column ``text`` holds it, column ``label`` its class (None: there is none).

    layout: ``sep``, ``encoding``, ``header`` as for `rnnjax.data.read_csv`. A line that starts with ``#`` is a row like others.
    Raises: DataError if the file cannot be read or has no such column (the nearest is named), or if the text is numbers.
    """
    grid = read_grid(path, Style(), comments=False, **layout)
    path = called(path)
    at = column(path, grid.names, text)
    read = read_column(grid.cells[at], Style(), grid.separator)
    if is_numeric(read, grid.cells[at], grid.separator):
        shown = grid.cells.iloc[int(np.argmax(~read.missing)), at]
        raise DataError(
            f"{path}: column {text!r} holds numbers ({shown!r}), no text; sequences of numbers are given one step a row, "
            "and --series names the column that says to which sequence a row belongs"
        )
    labels = labels_of(path, grid, label, text)
    used = {at} | ({column(path, grid.names, label)} if label is not None else set())
    left = tuple(name for i, name in enumerate(grid.names) if i not in used)
    remarks = missing_remark(grid, label)
    return Labelled(list(grid.cells[at]), labels, [f"line {line}" for line in grid.lines], (), left, remarks)


def read_series(
    path: str | Path,
    series: str,
    label: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    thousands: str | None = None,
    percent: bool = False,
    currency: bool = False,
    **layout: Any,
) -> Labelled:
    """One step a row: column ``series`` says of which sequence, ``label`` its class; rows of a sequence stand in order of time.

    columns: those that are read; None: all others that are numeric, as `rnnjax.data.read_csv` finds them, whose options these are.
    Raises: DataError as there, if there is no such column (the nearest is named), or if one sequence has two labels.
    """
    style = Style(thousands, percent, currency).check()
    grid = read_grid(path, style, **layout)
    path = called(path)
    at = column(path, grid.names, series)
    labels = labels_of(path, grid, label, series)
    reserved = {at} | ({column(path, grid.names, label)} if label is not None else set())
    others = [i for i in range(len(grid.names)) if i not in reserved]
    read = dict(zip(others, read_columns(grid.cells[others], style, grid.separator)))
    if columns is None:
        numeric = [i for i in others if is_numeric(read[i], grid.cells[i], grid.separator)]
    else:
        numeric = [column(path, grid.names, name) for name in columns]
    if not numeric:
        found = none_numeric(grid.names, grid.cells, read, grid.separator)
        raise DataError(f"{path} has no numeric column beside {series!r}; {found}")
    check_cells(path, grid.names, grid.cells, grid.lines, [(i, read[i]) for i in numeric], grid.separator)
    values = np.stack([np.where(read[i].missing, np.nan, read[i].values) for i in numeric], 1)
    ids, rows = groups(path, grid, at)
    return Labelled(
        [values[r] for r in rows],
        [one_label(path, name, [labels[i] for i in r]) for name, r in zip(ids, rows)],
        ids,
        tuple(grid.names[i] for i in numeric),
        tuple(grid.names[i] for i in others if i not in numeric),
        missing_remark(grid, label),
    )


def column(path: str | Path, names: list[str], wanted: str) -> int:
    """The place of a column. Raises: DataError that names the nearest."""
    if wanted in names:
        return names.index(wanted)
    lower = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(wanted.lower(), lower, n=1)
    hint = f"did you mean {lower[near[0]]!r}? It has" if near else "it has"
    raise DataError(f"{path} has no column {wanted!r}; {hint} {', '.join(names)}")


def missing_remark(grid: Grid, label: str | None) -> tuple[str, ...]:
    """A word that stands for a missing label, which may have been meant as a class."""
    words = [] if label is None else grid.cells.iloc[:, grid.names.index(label)].str.strip()
    word = next((word for word in words if word and word in MISSING), None)
    return (
        ()
        if word is None
        else (f"{word!r} in column {label!r} stands for a missing label; write the class in another word",)
    )


def labels_of(path: str | Path, grid: Grid, label: str | None, other: str) -> list[str]:
    """The label of each row, "" where it is missing. Raises: DataError if it is the column of the sequences too."""
    if label is None:
        return [""] * len(grid.cells)
    if label == other:
        raise DataError(f"--label is {label!r}, as the column of the sequences; give the column of their classes")
    words = [" ".join(cell.split()) for cell in grid.cells[column(path, grid.names, label)]]
    return ["" if word in MISSING else word for word in words]


def groups(path: str | Path, grid: Grid, at: int) -> tuple[list[str], list[np.ndarray]]:
    """The names of the sequences, in the order in which they begin, and the rows of each. Raises: DataError at a blank name."""
    names = grid.cells[at].str.strip()
    blank = np.flatnonzero((names == "").to_numpy(bool))
    if len(blank):
        raise DataError(
            f"{path}, line {grid.lines[blank[0]]}: column {grid.names[at]!r} is blank, so nobody can tell to which sequence "
            "the row belongs; fill it in, or leave the row out"
        )
    codes, found = names.factorize()
    order = np.argsort(codes, kind="stable")
    return list(found), np.split(order, np.cumsum(np.bincount(codes))[:-1])


def one_label(path: str | Path, name: str, labels: list[str]) -> str:
    """The label of a sequence, which its rows repeat or leave blank after the first. Raises: DataError if they disagree."""
    found = list(dict.fromkeys(label for label in labels if label))
    if len(found) > 1:
        raise DataError(
            f"{path}: sequence {name!r} has the labels {found[0]!r} and {found[1]!r}; a sequence has one label, the same in "
            "all of its rows"
        )
    return found[0] if found else ""


def classes_of(path: str | Path, label: str, labels: list[str], fewest: int = 20) -> list[str]:
    """The classes in order, numbers by size. Raises: DataError unless there are two or more, each of them seen again.

    >>> classes_of("x.csv", "age", ["10", "9"] * 10)
    ['9', '10']
    """
    found = sorted(set(labels))
    if len(labels) < fewest:
        raise DataError(
            f"{path} is too short: it has {counted(len(labels), 'labelled sequence')}, at least {fewest} are needed"
        )
    if len(found) == 1:
        raise DataError(f"{path}: column {label!r} has one class, {found[0]!r}; there is nothing to tell apart")
    if len(found) > len(labels) // 2:
        raise DataError(
            f"{path}: column {label!r} has {len(found)} classes in {len(labels)} sequences, so most are seen once; give a column "
            "whose classes repeat"
        )
    return sorted(found, key=_by_size)


def _by_size(word: str) -> tuple[float, str]:
    try:
        return float(word), word
    except ValueError:
        return float("inf"), word


def set_apart(sequences: list[Any], labels: list[str], part: float) -> np.ndarray:
    """Which sequences are held out: bool ``[N]``, this share of each class, by a hash of what is in them.

    Equal sequences of one class are on one side; it depends on nothing but the sequences.

    >>> held = set_apart([f"text {i}" for i in range(40)], ["a", "b"] * 20, 0.1)
    >>> int(held.sum()), int(held[::2].sum())
    (4, 2)
    """
    marks = np.array([hashlib.sha256(content(sequence)).hexdigest() for sequence in sequences])
    held, classes = np.zeros(len(sequences), bool), np.array(labels)
    for label in sorted(set(labels)):
        of_class = np.flatnonzero(classes == label)
        order = np.sort(marks[of_class])
        few = min(max(1, round(part * len(order))), len(order) - 1)
        first = marks[of_class] == order[0]
        below = marks[of_class] < order[few]
        held[of_class] = (
            below if below.any() else first & ~first.all()
        )  # one that is repeated more often than the share
    return held
