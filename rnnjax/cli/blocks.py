"""What a forecast is made from: the rows of one series, or of all columns that share their dates, and what newer rows add to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rnnjax.cli.errors import BadInput
from rnnjax.data.dates import Step, calendar, following
from rnnjax.forecast.long import aligned, times_of


@dataclass(frozen=True)
class Block:
    """Rows that share their dates: t that have been, and after them those to come, as far as the file tells of them.

    name: of the series, "" where columns are the series. values ``[t, C]`` of the targets, NaN where missing. past ``[t, P]``, without
    gaps. known ``[t + a, K]``, dates ``[t + a]`` or None, of the rows to come too. static ``[F]``. rows_before: rows that were let go.
    """

    name: str
    values: np.ndarray
    past: np.ndarray
    known: np.ndarray
    static: np.ndarray
    dates: np.ndarray | None
    rows_before: int = 0

    @property
    def been(self) -> np.ndarray:
        """The dates of the rows that have been."""
        assert self.dates is not None
        return self.dates[: len(self.values)]

    def last(self, rows: int) -> Block:
        """The last rows that have been, and those to come."""
        left = max(0, len(self.values) - rows)
        part = {name: getattr(self, name)[left:] for name in ("values", "past", "known")}
        dates = None if self.dates is None else self.dates[left:]
        return replace(self, **part, dates=dates, rows_before=self.rows_before + left)


@dataclass(frozen=True)
class Sheet:
    """Blocks, and what their columns are: targets with how the file writes each, columns read beside them, those known in advance.

    series: the column that tells the series apart, or None. date, step: of the column of dates, or None. span: of `calendar`, in the
    rows that a run is trained on. zone: what is written after each date, see `rnnjax.data.dates.in_zone`.
    """

    targets: list[str]
    forms: list[str]
    beside: list[str]
    known: list[str]
    series: str | None
    date: str | None
    step: Step | None
    blocks: tuple[Block, ...]
    span: int | None = None
    static: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    zone: str = ""

    @property
    def names(self) -> list[str]:
        """Of all S series, block by block."""
        if self.series is None:
            return self.targets
        of = lambda block, target: block.name if len(self.targets) == 1 else f"{block.name} {target}"
        return [of(block, target) for block in self.blocks for target in self.targets]

    @property
    def values(self) -> np.ndarray:
        """``[T, S]``, all ending with the last row; NaN where nothing is."""
        found = aligned([block.values for block in self.blocks], np.nan)
        return found.reshape(len(found), -1)

    def last(self, rows: int) -> Sheet:
        """The last rows alone."""
        return replace(self, blocks=tuple(block.last(rows) for block in self.blocks))

    def ahead(self, block: Block, horizon: int) -> np.ndarray:
        """The dates to come, or the numbers of the rows."""
        count = len(block.values)
        if block.dates is None or self.step is None:
            return block.rows_before + count + np.arange(1, horizon + 1)
        told = block.dates[count : count + horizon]
        so_far = block.dates[: count + len(told)]
        return np.concatenate([told, following(so_far, self.step, horizon - len(told))])

    def beside_series(self, horizon: int, training: bool) -> dict[str, Any]:
        """What `rnnjax.forecast.rows.read_rows` takes beside the values. training: nothing to come need be known.

        Raises: BadInput where what is known in advance is not known far enough.
        """
        known = [self._known(block, horizon, training) for block in self.blocks]
        of_each = lambda parts: np.repeat(aligned(parts), 1 if len(parts) == 1 else len(self.targets), 1)
        found: dict[str, Any] = {"past": of_each([block.past for block in self.blocks])} if self.beside else {}
        found |= {"known": of_each(known)} if known[0].shape[1] else {}
        static = np.repeat(np.stack([block.static for block in self.blocks]), len(self.targets), 0)
        found |= {"static": static} if static.shape[1] else {}
        if self.step is not None and self.step.uneven:
            dates = [np.concatenate([block.been, self.ahead(block, horizon)]) for block in self.blocks]
            times = times_of(dates)
            found["times"] = np.repeat(times, 1 if len(dates) == 1 else len(self.targets), 1)
        return found

    def _known(self, block: Block, horizon: int, training: bool) -> np.ndarray:
        """What is known of the rows that have been and of those to come, ``[t + horizon, K]``: the calendar, and columns."""
        rows = len(block.values) + horizon
        short = rows - len(block.known)
        if self.known and short > 0 and not training:
            first, last = written_dates(self.ahead(block, horizon)[[horizon - short, horizon - 1]], self.zone)
            of = f" of {self.series} {block.name!r}" if block.name else ""
            raise BadInput(
                f"{' and '.join(map(repr, self.known))} (--known) must be known{of} from {first} to {last}; give a file with these rows, "
                f"{' and '.join(map(repr, self.targets))} left empty, by --data FILE"
            )
        told = np.concatenate([block.known[:rows], np.repeat(block.known[-1:], max(short, 0), 0)])
        if block.dates is None or self.step is None:
            return told
        dates = np.concatenate([block.been, self.ahead(block, horizon)])
        return np.concatenate([calendar(dates, self.step, self.span), told], 1)


def written_dates(dates: np.ndarray, zone: str = "") -> list[str]:
    """As ISO 8601 has them, a zone after each; without a time where all are midnight and there is none; numbers as they are.

    >>> written_dates(np.array(["2024-01-01T10:00:00.5"], "datetime64[ns]"), "+01:00")
    ['2024-01-01 10:00:00.500+01:00']
    """
    if not np.issubdtype(dates.dtype, np.datetime64):
        return [str(n) for n in dates]
    units = ("s", "ms", "us", "ns") if zone else ("D", "s", "ms", "us", "ns")
    unit = next(unit for unit in units if (dates == dates.astype(f"datetime64[{unit}]")).all())
    return [str(date).replace("T", " ") + zone for date in dates.astype(f"datetime64[{unit}]")]


# -- newer rows --------------------------------------------------------------------------------------------------------


def joined(before: Sheet, newer: Sheet, file: str) -> Sheet:
    """The rows of a run and newer ones after them; where both have a date, the newer file is believed.

    Raises: BadInput where it does not follow on, or has a series that the run does not know.
    """
    if before.step and newer.step and newer.step != before.step and not before.step.uneven:
        raise BadInput(
            f"{file}: its rows are {newer.step} apart, those of the run {before.step}; give rows of one step"
        )
    found = {block.name: block for block in newer.blocks}
    names = [block.name for block in before.blocks]
    unknown = next((name for name in found if name not in names), None)
    if unknown is not None:
        few = ", ".join(names[:8]) + ", ..." * (len(names) > 8)
        raise BadInput(f"{file}: the run knows no series {unknown!r} of column {before.series!r}; it knows {few}")
    blocks = [joined_block(before, b, found[b.name], file) if b.name in found else b for b in before.blocks]
    return replace(before, blocks=tuple(blocks))


def joined_block(sheet: Sheet, before: Block, newer: Block, file: str) -> Block:
    """`joined` for one block."""
    kept = len(before.values)
    later = before.known[len(before.known) :]
    dates = None
    if before.dates is not None:
        if not len(newer.values) or newer.been[-1] < before.been[-1]:
            newer = _to_come(newer, before.been[-1])
        _check_follows(sheet, before, newer, file)
        assert newer.dates is not None
        kept = int(np.searchsorted(before.been, newer.dates[0]))
        after = int(np.searchsorted(before.dates, newer.dates[-1], "right"))
        later = before.known[max(after, kept) :]  # what an older file told of rows that are still to come
        dates = np.concatenate([before.dates[:kept], newer.dates, before.dates[max(after, kept) :]])
    join = lambda name: np.concatenate([getattr(before, name)[:kept], getattr(newer, name)])
    return replace(
        before,
        values=join("values"),
        past=join("past"),
        known=np.concatenate([join("known"), later]),
        dates=dates,
    )


def _to_come(block: Block, last: np.datetime64) -> Block:
    """Of rows that end before ``last`` with their values, those after it: they tell what is to come."""
    assert block.dates is not None
    first = int(np.searchsorted(block.dates, last, "right"))
    if first == len(block.dates):  # nothing of it is: it does not follow on
        return block
    return replace(
        block, values=block.values[:0], past=block.past[:0], known=block.known[first:], dates=block.dates[first:]
    )


def _check_follows(sheet: Sheet, before: Block, newer: Block, file: str) -> None:
    """Raises: BadInput."""
    assert newer.dates is not None and sheet.step is not None
    expected, last = sheet.ahead(replace(before, dates=before.been), 1)[0], before.been[-1]
    of = f" in {sheet.series} {before.name!r}" if before.name else ""
    gap = newer.dates[0] > expected and not sheet.step.uneven
    if gap or newer.dates[-1] < last:
        first, end, next_one = written_dates(np.array([newer.dates[0], newer.dates[-1], expected]), sheet.zone)
        raise BadInput(
            f"{file} does not follow on{of}: it goes from {first} to {end}, where rows from {next_one} on (or earlier) are needed; "
            "give the rows in between too"
        )
    if newer.dates[0] <= last and last not in newer.dates and not sheet.step.uneven:
        raise BadInput(
            f"{file} does not follow on{of}: its dates lie between those of the run; give rows of the same dates"
        )
