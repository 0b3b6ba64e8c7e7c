"""Columns of dates, in the forms that people write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rnnjax.data.errors import DataError
from rnnjax.wording import counted

FORMS = [
    "ISO8601",
    "%d.%m.%Y",
    "%d.%m.%y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%Y/%m/%d",
    "%d-%m-%Y",
    "%d %b %Y",
]
ZONE = r"\d{2}:?\d{2}[\d:.,]*\s*(Z|z|[+-]\d{2}(?::?\d{2})?)$"  # after a time, not the end of a date
TIMES = ["", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p"]


def dates_of(cells: Any, parts: Any = (slice(None),), better: Any = None) -> np.ndarray | None:
    """A pandas Series of strings as ``datetime64[ns] [T]``, NaT where blank; None where it is no column of dates.

    Where both 3/4 of May and of April fit, the one that goes on in time is taken, month first if both or neither do. parts: the rows of
    each series where several stand below one another, in each of which time goes on. better: ``better(dates)`` says that it is this one.
    Times with a zone are given in UTC, see `in_zone`; dates before 1678 or after 2261 are none.
    """
    words = cells.str.strip()
    known = words[words != ""]
    if not len(known) or not known.iloc[0][-1:].isalnum():
        return None
    fits = [form for form in _forms() if _parsed(known[:100], form) is not None]
    whole = [found for form in fits if (found := _parsed(words, form)) is not None]
    goes_on = [dates for dates in whole if all(_ordered(dates[rows]) for rows in parts)]
    best = (dates for dates in goes_on if better is not None and better(dates))
    return next(best, (goes_on or whole or [None])[0])


def _ordered(dates: np.ndarray) -> bool:
    """Whether time goes on from row to row; rows without a date say nothing."""
    known = dates[~np.isnat(dates)]
    return bool((known[1:] >= known[:-1]).all())


def _forms() -> list[str]:
    return FORMS[:1] + [day + time for day in FORMS[1:] for time in TIMES]


def _parsed(words: Any, form: str) -> np.ndarray | None:
    """None unless every word that is not blank is a date of this form."""
    import pandas as pd

    found = pd.to_datetime(words.where(words != ""), format=form, errors="coerce", utc=True)
    if not (found.notna() | (words == "")).all():
        return None
    try:
        return found.dt.tz_localize(None).dt.as_unit("ns").to_numpy("datetime64[ns]")
    except (OverflowError, pd.errors.OutOfBoundsDatetime):  # nanoseconds reach from 1678 to 2261
        return None


def in_zone(
    cells: Any, dates: np.ndarray, parts: Sequence[Any] = (slice(None),), zone: str | None = None
) -> tuple[np.ndarray, str]:
    """Dates of `dates_of` as the clock shows them that wrote ``cells``, and what is written after them: "", or a zone like "+01:00".

    Where summer and winter differ they stay in UTC, "+00:00", if rows are a step apart there, as hours are; if they are a step apart
    by that clock alone, as days are, they are its times without a zone. parts: as for `dates_of`. zone: of the rows before these, which
    they follow. Raises: DataError where those had a zone and these have none, or some have one and some not.
    """
    words = cells.str.strip()
    found = words.str.extract(ZONE, expand=False)
    if found.isna().all():
        if zone:
            raise DataError(f"times without a zone follow on times in {zone}; write the zone after each")
        return dates, ""
    bare = (found.isna() & (words != "")).to_numpy()
    if bare.any():
        raise DataError(f"row {int(bare.argmax()) + 1} has no zone, where others have; write it after each")
    offsets = np.array([_minutes(word) if isinstance(word, str) else 0 for word in found], "timedelta64[m]")
    here = dates + offsets
    if zone is None:
        each = {_minutes(word) for word in found.dropna()}
        summers = len(each) > 1
        zone = _written_zone(0 if summers else each.pop())
        if summers and not _even(dates, parts) and _even(here, parts):
            zone = ""
    return (dates + np.timedelta64(_minutes(zone), "m"), zone) if zone else (here, "")


def _minutes(zone: str) -> int:
    """Of a zone from UTC.

    >>> _minutes("+05:30"), _minutes("-08"), _minutes("Z")
    (330, -480, 0)
    """
    if zone in "Zz":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (int(digits[:2]) * 60 + int(digits[2:])) * (-1 if zone[0] == "-" else 1)


def _written_zone(minutes: int) -> str:
    hours, rest = divmod(abs(minutes), 60)
    return f"{'-' if minutes < 0 else '+'}{hours:02}:{rest:02}"


def _even(dates: np.ndarray, parts: Sequence[Any]) -> bool:
    """Whether the rows of each part are one step apart."""
    try:
        return all(step_of(dates[rows]) is not None for rows in parts if len(dates[rows]) > 1)
    except DataError:
        return False


# -- dates a fixed step apart ------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """From one row to the next: calendar months, or working days, or else a time in nanoseconds; uneven: that is the median."""

    nanoseconds: int = 0
    months: int = 0
    working_days: bool = False
    uneven: bool = False

    def __str__(self) -> str:
        if self.uneven:
            return f"unevenly, {_duration(self.nanoseconds)} in the median,"
        if self.months:
            years, months = divmod(self.months, 12)
            return counted(years, "year") if not months else counted(self.months, "month")
        if self.working_days:
            return "1 working day"
        return _duration(self.nanoseconds)


DAY = 86_400 * 10**9
UNITS = {"week": 7 * DAY, "day": DAY, "hour": DAY // 24, "minute": DAY // 1440, "second": 10**9}


def step_of(dates: np.ndarray, name: str = "the column of dates", uneven: bool = False) -> Step:
    """The step between dates ``datetime64 [T]``, which must be the same all along, unless it may be ``uneven``.

    Raises: DataError, a sentence that names the first row where dates are missing, go back, repeat, leave a gap or change their step.

    >>> str(step_of(np.array(["2024-01-31", "2024-02-29", "2024-03-31"], "datetime64[D]")))
    '1 month'
    >>> str(step_of(np.array(["2024-01-05", "2024-01-08", "2024-01-09"], "datetime64[D]")))
    '1 working day'
    """
    dates = np.asarray(dates, "datetime64[ns]")
    at = lambda row: f"row {row + 1} ({_shown(dates[row])})"
    if np.isnat(dates).any():
        raise DataError(f"{name} has no date in row {int(np.argmax(np.isnat(dates))) + 1}; fill it in")
    if len(dates) < 2:
        raise DataError(f"{name} has {counted(len(dates), 'date')}; two at least show how far rows are apart")
    apart = np.diff(dates).astype(np.int64)
    if (apart <= 0).any():
        row = int(np.argmax(apart <= 0)) + 1
        cure = "keep one row for each date" if apart[row - 1] == 0 else "sort the rows by their date"
        what = "repeats the date of the row before" if apart[row - 1] == 0 else "is earlier than the row before it"
        raise DataError(f"{name}: {at(row)} {what}; {cure}")
    if (apart == apart[0]).all() and not _whole_months(dates[:2]):
        return Step(int(apart[0]))
    found = _calendar_step(dates)
    if found is not None:
        return found
    if uneven:
        return Step(max(1, int(np.median(apart))), uneven=True)
    usual = int(np.bincount(np.unique(apart, return_inverse=True)[1]).argmax())
    usual = int(np.unique(apart)[usual])
    row = int(np.argmax(apart != usual)) + 1
    gap = apart[row - 1] > usual and apart[row - 1] % usual == 0
    cure = "put in the rows that are missing, their cells left empty" if gap else "bring the rows to one step"
    raise DataError(
        f"{name}: {at(row)} comes {_duration(int(apart[row - 1]))} after the row before it, where rows are {_duration(usual)} apart; {cure}"
    )


def following(dates: np.ndarray, step: Step, count: int) -> np.ndarray:
    """The ``count`` dates after ``dates [T]``, of which the last is gone on from; ends of months stay ends of months.

    >>> following(np.array(["2023-12-31", "2024-01-31"], "datetime64[D]"), Step(months=1), 2).astype("datetime64[D]").tolist()
    [datetime.date(2024, 2, 29), datetime.date(2024, 3, 31)]
    """
    dates = np.asarray(dates, "datetime64[ns]")
    try:
        found = _following(dates, step, count)
    except OverflowError:  # NumPy before 2.5 wraps round
        found = dates[-1:]
    if (found <= np.concatenate([dates[-1:], found[:-1]])).any():  # nanoseconds end in 2262
        raise DataError(f"{count} rows of {step} after {_shown(dates[-1])} go beyond the year 2261; ask for fewer")
    return found


def _following(dates: np.ndarray, step: Step, count: int) -> np.ndarray:
    last, ahead = dates[-1], np.arange(1, count + 1)
    if step.working_days:
        day = last.astype("datetime64[D]")
        return np.busday_offset(day, ahead, roll="forward").astype("datetime64[ns]") + (last - day)
    if not step.months:
        return last + (ahead * step.nanoseconds).astype("timedelta64[ns]")
    return _months_on(last, ahead * step.months, int(_day_of_month(dates).max()), bool(_ends_month(dates).all()))


def calendar(dates: np.ndarray, step: Step, span: int | None = None) -> np.ndarray:
    """Where dates stand in the day, the week and the year, ``[T, K]`` in [-1, 1]; only what the step can tell apart.

    Day and year by sine and cosine of one and two turns, the week by a column for each day. span: nanoseconds that the rows learned
    from go over; of a year, week or day of which they do not see the whole nothing can be learned, and nothing is said of it.
    """
    whole = lambda length: span is None or span >= length
    dates = np.asarray(dates, "datetime64[ns]")
    day, found = dates.astype("datetime64[D]"), []
    length = step.nanoseconds or (DAY if step.working_days else 28 * DAY * step.months)
    if length < DAY and whole(DAY):
        found += _turns((dates - day).astype(np.int64) / DAY)
    if length <= DAY and whole(7 * DAY):
        weekday = (day.astype(np.int64) + 3) % 7  # the first of January 1970 was a Thursday; 0 is Monday
        found += [(weekday == i).astype(float) for i in range(7)]
    if length < 300 * DAY and whole(365 * DAY):
        year = dates.astype("datetime64[Y]")
        found += _turns((dates - year.astype("datetime64[ns]")).astype(np.int64) / (365.2425 * DAY))
    return np.stack(found, 1) if found else np.zeros((len(dates), 0))


def span_of(dates: np.ndarray) -> int:
    """Nanoseconds from the first to the last."""
    first, last = (int(date) for date in np.asarray(dates[[0, -1]], "datetime64[ns]").astype(np.int64))
    return last - first  # of integers: more than 292 years are no timedelta64


def seconds(dates: np.ndarray) -> np.ndarray:
    """Since the first of them, NaN where there is none.

    >>> seconds(np.array(["1700-01-01", "2100-01-01"], "datetime64[ns]")).tolist()
    [0.0, 12622780800.0]
    """
    whole = dates.astype("datetime64[s]")  # apart from the rest: more than 292 years are no timedelta64 in nanoseconds
    rest, first = (dates - whole) / np.timedelta64(1, "s"), whole.reshape(-1)[0]
    return np.where(np.isnat(dates), np.nan, (whole - first) / np.timedelta64(1, "s") + rest - rest.reshape(-1)[0])


def _turns(share: np.ndarray) -> list[np.ndarray]:
    return [wave(2 * np.pi * n * share) for n in (1, 2) for wave in (np.sin, np.cos)]


def _calendar_step(dates: np.ndarray) -> Step | None:
    """Months or working days, if it is one of them all along."""
    for months in np.unique(np.diff(dates.astype("datetime64[M]")).astype(np.int64)).tolist()[:1]:
        step = Step(months=int(months))
        expected = np.concatenate([dates[:1], _months_on(dates[0], np.arange(1, len(dates)) * months, *_kind(dates))])
        if months > 0 and np.array_equal(expected, dates):
            return step
    day = dates.astype("datetime64[D]")
    times = np.unique((dates - day).astype(np.int64))
    if len(times) == 1 and np.is_busday(day).all() and (np.busday_count(day[:-1], day[1:]) == 1).all():
        return Step(working_days=True)
    return None


def _kind(dates: np.ndarray) -> tuple[int, bool]:
    return int(_day_of_month(dates).max()), bool(_ends_month(dates).all())


def _whole_months(pair: np.ndarray) -> bool:
    """Whether two dates stand a month or more apart, on the same day of it or at its end."""
    months = np.diff(pair.astype("datetime64[M]")).astype(np.int64)[0]
    return bool(months > 0 and (_months_on(pair[0], np.array([months]), *_kind(pair)) == pair[1]).all())


def _months_on(first: np.datetime64, months: np.ndarray, day: int, end: bool) -> np.ndarray:
    """The same day of later months, or their last one."""
    month = first.astype("datetime64[M]") + months.astype("timedelta64[M]")
    begins = month.astype("datetime64[D]")
    length = ((month + np.timedelta64(1, "M")).astype("datetime64[D]") - begins).astype(np.int64)
    further = ((length if end else np.minimum(day, length)) - 1).astype("timedelta64[D]")
    return (begins + further).astype("datetime64[ns]") + (first - first.astype("datetime64[D]"))


def _day_of_month(dates: np.ndarray) -> np.ndarray:
    day = dates.astype("datetime64[D]")
    return (day - day.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1


def _ends_month(dates: np.ndarray) -> np.ndarray:
    return _day_of_month(dates.astype("datetime64[D]") + np.timedelta64(1, "D")) == 1


def _shown(date: Any) -> str:
    """A date without the parts that are zero."""
    text = str(np.datetime64(date, "s")).replace("T", " ")
    return text.removesuffix(" 00:00:00")


def _duration(nanoseconds: int) -> str:
    """A time in the largest unit that it is a whole number of."""
    unit, size = next(((unit, size) for unit, size in UNITS.items() if nanoseconds % size == 0), ("second", 10**9))
    return counted(nanoseconds // size if nanoseconds % size == 0 else nanoseconds / size, unit)
