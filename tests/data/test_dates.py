"""Dates a fixed step apart, against pandas; and the sentences where they are not."""

import numpy as np
import pandas as pd
import pytest

from rnnjax.data import DataError
from rnnjax.data.dates import calendar, following, step_of

STEPS = {
    "h": "1 hour",
    "D": "1 day",
    "W": "1 week",
    "MS": "1 month",
    "ME": "1 month",
    "QE": "3 months",
    "QS": "3 months",
    "YS": "1 year",
    "YE": "1 year",
    "B": "1 working day",
    "15min": "15 minutes",
    "90min": "90 minutes",
    "2D": "2 days",
    "12h": "12 hours",
}


@pytest.mark.parametrize("often", STEPS)
def test_steps_are_found_and_gone_on_with_as_pandas_does(often):
    for start in ("2023-11-15", "2024-02-29 06:00", "2019-12-31"):
        dates = pd.date_range(start, periods=36, freq=often).to_numpy("datetime64[ns]")
        step = step_of(dates[:30])
        assert str(step) == STEPS[often]
        np.testing.assert_array_equal(following(dates[:30], step, 6), dates[30:])


def test_the_same_day_of_the_month_where_months_are_too_short():
    dates = np.array(["2023-11-30", "2023-12-30", "2024-01-30", "2024-02-29", "2024-03-30"], "datetime64[ns]")
    assert str(step_of(dates)) == "1 month"
    want = ["2024-04-30", "2024-05-30"]
    assert following(dates, step_of(dates), 2).astype("datetime64[D]").astype(str).tolist() == want


def test_calendar_against_pandas():
    dates = pd.date_range("2023-12-28", periods=200, freq="h")
    found = calendar(dates.to_numpy(), step_of(dates.to_numpy()))
    day = 2 * np.pi * dates.hour / 24
    year = 2 * np.pi * ((dates.day_of_year - 1) + dates.hour / 24) / 365.2425
    turns = lambda angle: [f(n * angle) for n in (1, 2) for f in (np.sin, np.cos)]
    week = [dates.day_of_week == i for i in range(7)]
    np.testing.assert_allclose(found, np.stack([*turns(day), *week, *turns(year)], 1), atol=1e-9)
    for often, width in [("D", 11), ("W", 4), ("MS", 4), ("YS", 0)]:
        dates = pd.date_range("2020-01-01", periods=20, freq=often).to_numpy()
        assert calendar(dates, step_of(dates)).shape == (20, width)


DAYS = np.arange("2024-01-01", "2024-02-10", dtype="datetime64[D]")


@pytest.mark.parametrize(
    ("dates", "said"),
    [
        (
            np.delete(DAYS, 5),
            r"row 6 \(2024-01-07\) comes 2 days after the row before it, where rows are 1 day apart; put in",
        ),
        (np.insert(DAYS, 5, DAYS[4]), r"row 6 \(2024-01-05\) repeats the date of the row before"),
        (DAYS[::-1], r"row 2 \(2024-02-08\) is earlier than the row before it; sort the rows"),
        (
            np.concatenate([DAYS[:9], DAYS[9:30:7]]),
            "7 days after|1 week after the row before it, where rows are 1 day apart",
        ),
        (
            np.append(DAYS.astype("datetime64[h]"), [np.datetime64("2024-02-09T07")]),
            "comes 7 hours after .* bring the rows to one step",
        ),
        (np.append(DAYS, [np.datetime64("NaT", "D")]), "'ds' has no date in row 41; fill it in"),
        (DAYS[:1], "has 1 date; two at least"),
    ],
)
def test_dates_that_are_not_a_step_apart(dates, said):
    with pytest.raises(DataError, match=said):
        step_of(dates, "column 'ds'")
