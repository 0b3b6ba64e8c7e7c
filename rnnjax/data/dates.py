"""Columns of dates, in the forms that people write."""

from __future__ import annotations

from typing import Any

import numpy as np

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
TIMES = ["", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p"]


def dates_of(cells: Any) -> np.ndarray | None:
    """A pandas Series of strings as ``datetime64[ns] [T]``, NaT where blank; None where it is no column of dates.

    Where both 3/4 of May and of April fit, the one that goes on in time is taken, month first if both or neither do.
    Times with a zone are given in UTC.
    """
    words = cells.str.strip()
    known = words[words != ""]
    if not len(known) or not known.iloc[0][-1:].isalnum():
        return None
    fits = [form for form in _forms() if _parsed(known[:100], form) is not None]
    whole = [found for form in fits if (found := _parsed(words, form)) is not None]
    ordered = lambda dates: bool((np.diff(dates[~np.isnat(dates)].astype(np.int64)) >= 0).all())
    return next((dates for dates in whole if ordered(dates)), whole[0] if whole else None)


def _forms() -> list[str]:
    return FORMS[:1] + [day + time for day in FORMS[1:] for time in TIMES]


def _parsed(words: Any, form: str) -> np.ndarray | None:
    """None unless every word that is not blank is a date of this form."""
    import pandas as pd

    found = pd.to_datetime(words.where(words != ""), format=form, errors="coerce", utc=True)
    good = (found.notna() | (words == "")).all()
    return found.dt.tz_localize(None).to_numpy("datetime64[ns]") if good else None
