"""Forecasts of hourly series: floors against plain loops, a test split that training does not see, and the grid of hours."""

import numpy as np
import pandas as pd
import pytest

from rnnjax.data.dates import DAY
from rnnjax.data.hourly import Hourly, on_grid
from rnnjax.tasks import Setting, hourly, run

DAYS = 84 + 56 + 40


@pytest.fixture
def made_up(monkeypatch):
    """A day, a week, a slow walk and gaps in place of what would be fetched."""
    rng = np.random.default_rng(0)
    t = np.arange(24 * DAYS)
    values = 100 + 20 * np.sin(2 * np.pi * t / 24) + 10 * (t // 24 % 7 > 4) + 0.3 * rng.normal(size=len(t)).cumsum()
    values[rng.random(len(t)) < 0.02] = np.nan
    data = Hourly(np.datetime64("2020-01-01", "ns") + t.astype("timedelta64[h]"), values)
    monkeypatch.setattr(hourly, "hourly", lambda name: data)
    return data


def test_the_floors_by_a_loop(made_up):
    problem = hourly.ENERGY.make(Setting(small=True))
    filled = pd.Series(made_up.values).ffill().to_numpy()
    for name, back in hourly.BACK.items():
        errors = []
        for midnight in range(24 * (DAYS - 84), 24 * DAYS, 24):
            for hour in range(24):
                at = midnight + hour
                said = filled[midnight - 1] if back == 1 else filled[at - back]
                errors += [] if np.isnan(made_up.values[at]) else [abs(said - made_up.values[at])]
        assert problem.floors[name]() == pytest.approx(np.mean(errors))


def test_training_and_validation_see_nothing_of_the_test_days(made_up, monkeypatch):
    whole = hourly.ENERGY.make(Setting(small=True))
    junk = made_up.values.copy()
    junk[-24 * 84 :] = 1e30
    monkeypatch.setattr(hourly, "hourly", lambda name: made_up._replace(values=junk))
    planted = hourly.ENERGY.make(Setting(small=True))
    assert whole.score(whole.params, "valid") == planted.score(planted.params, "valid")
    for name, a in whole.batches(3).items():
        np.testing.assert_array_equal(a, planted.batches(3)[name])


@pytest.mark.slow
def test_a_run_beats_the_simple_methods(made_up):
    result = run(hourly.ENERGY, setting=Setting(small=True), progress=False)
    assert result.beaten and 0.2 < result.parts["share in the 80 % interval"] < 0.95  # four steps know little


def test_one_row_for_each_hour():
    rng = np.random.default_rng(1)
    at = np.sort(rng.integers(0, 200, 150))
    hours = np.datetime64("2020-01-01T00", "h") + at.astype("timedelta64[h]")
    values = rng.normal(size=150)
    found = on_grid(zip(hours.astype(str), values.astype(str)))
    series = pd.Series(values, index=pd.DatetimeIndex(hours.astype("datetime64[ns]")))
    want = series[~series.index.duplicated()].resample("h").asfreq()
    np.testing.assert_array_equal(found.values, want.to_numpy())
    np.testing.assert_array_equal(found.dates.astype("datetime64[ns]"), want.index.to_numpy("datetime64[ns]"))
    assert hourly.STEP.nanoseconds == DAY // 24
