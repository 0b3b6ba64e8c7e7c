"""Several series below one another: of different length, each with its own covariates and its own scale; against plain loops and pandas."""

import jax
import numpy as np
import pandas as pd
import pytest

import rnnjax as rj
from rnnjax.data import DataError
from rnnjax.data.dates import Step, calendar
from rnnjax.forecast import Forecaster, from_long
from rnnjax.forecast.rows import read_rows
from rnnjax.forecast.windows import Windows

RNG = np.random.default_rng(0)
LENGTHS, H = {"x": 80, "y": 50, "z": 66}, 4
FRAME = pd.concat(
    pd.DataFrame(
        {
            "id": name,
            "ds": pd.date_range("2024-03-01", periods=rows + H, freq="D") + pd.Timedelta(days=3 * i),
            "value": np.append(RNG.normal(size=rows).cumsum() + 10.0**i, np.full(H, np.nan)),
            "price": RNG.normal(size=rows + H) + i,
            "seen": RNG.normal(size=rows + H),
            "size": float(i),
        }
    )
    for i, (name, rows) in enumerate(LENGTHS.items())
).reset_index(drop=True)
MIXED = FRAME.sample(frac=1, random_state=0).sort_values("ds", kind="stable")  # rows of the series between one another
COLUMNS = dict(known=MIXED[["price"]], past=MIXED[["seen"]], static=MIXED[["size"]])
TABLE = from_long(MIXED["id"], MIXED["value"], dates=MIXED["ds"], horizon=H, **COLUMNS)
SMALL = Forecaster(rj.Elman(4), H, season=5, context=6)
QUICK = dict(steps=4, batch=4, progress=False)


def rows_of(table=TABLE, **other):
    return read_rows("test", table.series, H, **(table.beside | other))


def own(name, column, ahead=False):
    values = FRAME[FRAME.id == name][column].to_numpy()
    return values if ahead else values[:-H]


def test_series_end_with_the_last_row_and_what_is_beside_them_with_them():
    assert sorted(TABLE.names) == ["x", "y", "z"] and TABLE.series.shape == (80, 3)
    for s, name in enumerate(TABLE.names):
        rows = LENGTHS[name]
        np.testing.assert_array_equal(TABLE.series[80 - rows :, s], own(name, "value"))
        assert np.isnan(TABLE.series[: 80 - rows, s]).all()
        dates = own(name, "ds", ahead=True)
        np.testing.assert_array_equal(TABLE.beside["known"][80 - rows :, s, -1], own(name, "price", ahead=True))
        np.testing.assert_array_equal(
            TABLE.beside["known"][80 - rows :, s, :7], np.eye(7)[pd.DatetimeIndex(dates).day_of_week]
        )
        np.testing.assert_array_equal(TABLE.beside["past"][80 - rows :, s, 0], own(name, "seen"))
        assert TABLE.beside["static"][s] == own(name, "size")[0]


@pytest.mark.parametrize("taught", [False, True])
def test_windows_of_several_series_by_a_plain_loop(taught):
    """Value, covariates of the series itself, scaled by its own training rows, static ones by those of all."""
    rows = rows_of()
    problem = Forecaster(rj.Elman(3), H, season=5, context=6, mode="recursive" if taught else "direct").problem(rows)
    windows, cut = Windows(rows, problem.plan, taught=taught, absolute=False), 80 - 8
    origin, column = np.array([60, 50, 75]), np.array([0, 1, 2])
    inputs = windows.inputs(origin, column)
    sizes = np.array([own(name, "size")[0] for name in TABLE.names])
    for b, (o, s) in enumerate(zip(origin, column)):
        name = TABLE.names[s]
        gone = 80 - LENGTHS[name]
        y, price, seen = (own(name, c, ahead=c == "price") for c in ("value", "price", "seen"))
        of = lambda a, at: (a[at - gone] - a[: cut - gone].mean()) / a[: cut - gone].std()
        unit = np.abs(y[: cut - gone]).max()
        for i, at in enumerate(range(o - 4, o + H + 1)):
            fed = taught or at - 1 <= o
            value = (
                (y[at - 1 - gone] - y[o - gone]) / unit / problem.plan.size[s]
                if fed and at - 1 - gone < len(y)
                else 0.0
            )
            np.testing.assert_allclose(inputs[i, b, 0], value, rtol=1e-4, atol=1e-5)
            last = [of(price, at), of(seen, at - 1) if at - 1 <= o else 0.0, (sizes[s] - sizes.mean()) / sizes.std()]
            np.testing.assert_allclose(inputs[i, b, -3:], last, rtol=1e-4, atol=1e-5)


def test_no_window_crosses_an_end_or_a_series():
    """A series that counts says which rows of which series a window holds: a thousand apart, from its first row on."""
    counting = np.where(np.isnan(TABLE.series), np.nan, np.arange(80.0)[:, None] + 1000 * np.arange(3))
    rows = read_rows("test", counting, H)
    problem = SMALL.problem(rows, batch=64)
    plan, began = problem.plan, [80 - LENGTHS[name] for name in TABLE.names]
    whose = set()
    for step in range(10):
        batch = problem.batches(step)
        column = np.argmin(
            np.abs(batch["scale"][0][:, None] - plan.left[0]), 1
        )  # the series by the scale of its windows
        ahead = (batch["base"] + batch["target"] * batch["scale"]) * plan.unit[column] - 1000 * column
        np.testing.assert_allclose(np.diff(ahead, axis=0), 1.0, atol=0.02)
        assert (ahead[0] - 1 >= np.array(began)[column] - 0.1).all() and ahead.max() < 72.1
        whose |= set(column.tolist())
    assert len(set(plan.left[0])) == 3 and whose == {0, 1, 2}


@pytest.mark.parametrize("junk", [np.nan, 1e30])
def test_training_on_several_series_sees_nothing_of_the_rows_held_out(junk):
    series, past = TABLE.series.copy(), TABLE.beside["past"].copy()
    series[72:], past[72:] = junk, 1e30
    one, two = (SMALL.problem(rows, batch=8) for rows in (rows_of(), rows_of(TABLE._replace(series=series), past=past)))
    for name in ("weights", "unit", "size", "left", "centre", "past", "known"):
        np.testing.assert_array_equal(getattr(one.plan, name), getattr(two.plan, name))
    for name, a in one.batches(0).items():
        np.testing.assert_array_equal(a, two.batches(0)[name])


def test_each_series_is_scaled_by_itself():
    """A series and its covariates in other units: the network reads and learns the same, its forecasts start in these units."""
    factor = np.array([1.0, 1024.0, 1.0])
    scaled = TABLE._replace(series=TABLE.series * factor)
    other = {name: TABLE.beside[name] * factor[:, None] for name in ("known", "past")}
    one, two = (SMALL.problem(rows, batch=64) for rows in (rows_of(), rows_of(scaled, **other)))
    np.testing.assert_allclose(two.plan.unit, one.plan.unit * factor, rtol=1e-12)
    for name, a in one.batches(0).items():
        np.testing.assert_allclose(two.batches(0)[name], a, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_static_and_known_values_are_used_and_each_series_has_its_own():
    """y_t = a_s x_t + noise of 0.1, a_s = 1 or -1 said by the static column alone: without it nothing can be known of the sign."""
    rng, rows, many = np.random.default_rng(2), 200, 8
    sign = np.where(np.arange(many) % 2, 1.0, -1.0)
    known = rng.normal(size=(rows + H, many, 1))
    series = sign * known[:rows, :, 0] + 0.1 * rng.normal(size=(rows, many))
    flat = np.zeros((rows + H, many, 0))
    found = {}
    for name, beside in {
        "both": dict(known=known, static=sign[:, None]),
        "known": dict(known=known),
        "none": dict(known=flat),
    }.items():
        model = Forecaster(rj.GRU(8), H, season=5, context=2)  # two rows hardly tell the sign
        report = rj.forecast.backtest(model, series, windows=5, steps=500, rate=1e-2, progress=False, **beside)
        found[name] = report.mae.mean()
    assert found["both"] < 0.3 < 0.5 < found["known"] and found["both"] < 0.4 * found["none"], found


@pytest.mark.slow
@pytest.mark.parametrize("gaps", ["grud", pytest.param("masked", marks=pytest.mark.long)])
def test_recursive_forecasts_of_several_series_are_those_of_a_plain_loop(gaps):
    """One quantile leaves nothing to chance: each path is what the network says of the row after, fed back."""
    model = Forecaster(
        rj.CfC(4, backbone=5, elapsed=True), H, mode="recursive", quantiles=(0.5,), season=5, context=6, gaps=gaps
    )
    times = np.cumsum(RNG.uniform(0.5, 3, size=(80 + H, 3)), 0)
    beside = TABLE.beside | {"times": times}
    fitted = model.fit(jax.random.key(0), TABLE.series, **beside, **QUICK)
    path = fitted.predict(paths=1).paths[0]
    longer = read_rows(
        "test",
        np.concatenate([TABLE.series, path]),
        0,
        **(beside | {"past": np.pad(beside["past"], [(0, H), (0, 0), (0, 0)])}),
    )
    made = Windows(longer, fitted.plan, taught=True, absolute=False)(np.full(3, 79), np.arange(3))
    _, out = rj.unroll(fitted.network, fitted.params, made["inputs"])
    np.testing.assert_allclose(path, (made["base"] + made["scale"] * out[-H:, :, 0]) * fitted.plan.unit, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.long
def test_recursive_is_direct_for_one_row_ahead_with_all_that_can_be_beside():
    beside = {name: a[: 80 + 1] if name == "known" else a for name, a in TABLE.beside.items()}
    times = np.cumsum(RNG.uniform(0.5, 3, size=81))
    found = []
    for mode in ("direct", "recursive"):
        model = Forecaster(rj.Elman(4), 1, mode=mode, output="gaussian", season=5, context=8, gaps="grud")
        found.append(model.fit(jax.random.key(0), TABLE.series, **beside, times=times, **QUICK).predict().quantiles)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(values=[1.0]), r"values must be \[N = 208\] as series, got \(1,\)"),
        (dict(static=np.arange(208.0)[:, None]), "static changes along series '.'; what does is known or past"),
        (dict(horizon=60), "series 'y' has no rows before the 60 to come"),
        (dict(dates=FRAME["ds"].iloc[::-1]), "is earlier than the row before it"),
        (dict(dates=["2024-01-01"] * 208), "repeats the date of the row before"),
    ],
)
def test_long_tables_that_make_no_sense(change, said):
    given = dict(values=FRAME["value"], horizon=H, dates=FRAME["ds"], known=FRAME[["price"]]) | change
    with pytest.raises((ValueError, DataError), match=said):
        from_long(FRAME["id"], given.pop("values"), **given)


def test_two_frequencies_are_refused_and_uneven_dates_handed_on():
    weekly = FRAME.assign(ds=np.where(FRAME.id == "y", FRAME.ds + (FRAME.ds - FRAME.ds.min()) * 6, FRAME.ds))
    with pytest.raises(DataError, match="1 day or 1 week apart"):
        from_long(weekly["id"], weekly["value"], dates=weekly["ds"], horizon=H)
    gappy = FRAME.drop(index=FRAME.index[7])
    table = from_long(gappy["id"], gappy["value"], dates=gappy["ds"], known=gappy[["price"]], horizon=H)
    days = np.diff(table.beside["times"], axis=0) / 86400
    assert days.shape == (78 + H, 3) and np.argwhere(days != 1).tolist() == [[6, 0]] and days[6, 0] == 2
    with pytest.raises(ValueError, match="all steps for equally long, and times are given"):
        SMALL.fit(jax.random.key(0), table.series, **table.beside, **QUICK)


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (
            dict(static=np.ones((2, 1))),
            r"static must be \[S = 3, features\], finite, a row for each series, got the shape \(2, 1\)",
        ),
        (dict(static=np.full((3, 1), np.nan)), "got what is not finite"),
        (
            dict(known=np.ones((84, 2, 1))),
            r"got the shape \(84, 2, 1\) \(\[84, 3, features\] where each series has its own\)",
        ),
        (dict(times=np.arange(7)), r"times must be \[80\] as the series, or \[80 \+ 4\] with those ahead, got \(7,\)"),
        (dict(times=np.zeros(80)), "times must be finite and increase from row to row"),
    ],
)
def test_covariates_that_do_not_fit(beside, said):
    with pytest.raises(ValueError, match=said):
        SMALL.fit(jax.random.key(0), TABLE.series, **beside, **QUICK)


def test_calendars_say_nothing_of_what_the_rows_do_not_see_whole():
    dates, hour = np.datetime64("2024-01-01T00", "ns") + np.arange(40) * np.timedelta64(1, "h"), Step(3600 * 10**9)
    day = 86400 * 10**9
    assert [calendar(dates, hour, span).shape[1] for span in (None, day // 2, day, 7 * day, 366 * day)] == [
        15,
        0,
        4,
        11,
        15,
    ]
