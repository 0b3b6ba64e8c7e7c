"""Forecasters from end to end: better than the simple methods, blind to the future, honest about what they do not know."""

import jax
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.forecast import Forecaster, backtest

RNG = np.random.default_rng(0)
T = np.arange(240)
LINE, SEASON = 1000.0 * T[:, None], (0.05 * T + np.sin(2 * np.pi * T / 12))[:, None]
WALK = RNG.normal(size=(120, 2)).cumsum(0) + 50
KNOWN, PAST = RNG.normal(size=(123, 1)), RNG.normal(size=(120, 2))
SMALL = Forecaster(rj.Elman(4), 3, season=5, context=8)
QUICK = dict(steps=4, batch=4, progress=False)


@pytest.fixture(scope="module")
def fitted():
    return SMALL.fit(jax.random.key(0), WALK[:100], known=KNOWN[:103], past=PAST[:100], **QUICK)


@pytest.mark.parametrize("name", ["line", "trend and season", pytest.param("both, noisy", marks=pytest.mark.slow)])
def test_better_than_the_simple_methods_at_every_horizon_up_to_a_season(name):
    noisy = np.concatenate([0.01 * LINE, 50 * SEASON], 1) + 5 * np.random.default_rng(1).normal(size=(240, 2))
    series = {"line": LINE, "trend and season": SEASON, "both, noisy": noisy}[name]
    report = backtest(Forecaster(rj.GRU(4), 12), series, windows=4, every=6, season=12, **QUICK)
    simple = np.minimum(report.persistence.mae, report.seasonal_naive.mae)
    assert (report.mae < simple * (0.95 if "noisy" in name else 0.02)).all(), (report.mae, simple)
    assert (np.diff([f.quantiles for f in report.forecasts], axis=1) >= 0).all()


@pytest.mark.parametrize("junk", [np.nan, 1e30])
def test_what_comes_later_changes_no_forecast(fitted, junk):
    """Each forecast of a backtest, and that of `predict`, with the rows after its origin replaced: bit for bit."""
    plain = backtest(fitted, WALK, windows=2, season=5, known=KNOWN, past=PAST)
    for i, origin in enumerate(plain.origins):
        series, past = WALK.copy(), PAST.copy()
        series[origin + 1 :], past[origin + 1 :] = junk, 1e30
        planted = backtest(fitted, series, windows=2, season=5, known=KNOWN, past=past)
        alone = fitted.predict(WALK[: origin + 1], known=KNOWN[: origin + 4], past=PAST[: origin + 1])
        for found in (planted.forecasts[i], alone):
            np.testing.assert_array_equal(found.quantiles, plain.forecasts[i].quantiles)
            np.testing.assert_array_equal(found.mean, plain.forecasts[i].mean)


def test_a_backtest_trains_on_what_comes_before_its_first_origin_alone():
    planted = WALK.copy()
    planted[117:] = 1e30
    one, two = (backtest(SMALL, series, windows=1, season=5, **QUICK) for series in (WALK, planted))
    np.testing.assert_array_equal(one.forecasts[0].quantiles, two.forecasts[0].quantiles)
    assert one.mae.max() < 100 < two.mae.min()


def test_a_backtest_by_a_plain_loop(fitted):
    report = backtest(fitted, WALK, windows=3, every=2, season=5, known=KNOWN, past=PAST)
    mae, covered, pinball, last, naive = (np.zeros(3) for _ in range(5))
    for origin in (112, 114, 116):
        ahead = fitted.predict(WALK[: origin + 1], known=KNOWN[: origin + 4], past=PAST[: origin + 1])
        for h in range(3):
            for s in range(2):
                y = WALK[origin + 1 + h, s]
                q = ahead.quantiles[:, h, s]
                mae[h] += abs(y - q[1]) / 6
                covered[h] += (q[0] <= y <= q[2]) / 6
                pinball[h] += np.mean([max(u * (y - v), (u - 1) * (y - v)) for u, v in zip((0.1, 0.5, 0.9), q)]) / 6
                last[h] += abs(y - WALK[origin, s]) / 6
                naive[h] += abs(y - WALK[origin + 1 + h - 5, s]) / 6
    usual = np.abs(WALK[5:113] - WALK[:108]).mean(0)
    np.testing.assert_allclose(report.mae, mae, rtol=1e-5)
    np.testing.assert_allclose(report.coverage, covered)
    np.testing.assert_allclose(report.pinball, pinball, rtol=1e-5)
    np.testing.assert_allclose(report.persistence.mae, last)
    np.testing.assert_allclose(report.seasonal_naive.mae, naive)
    errors = np.abs(report.came - np.stack([f.median for f in report.forecasts]))
    np.testing.assert_allclose(report.mase, (errors / usual).mean((0, 2)))
    assert "rows ahead" in str(report) and str(report).count("\n") == 4


def test_recursive_is_direct_for_one_row_ahead():
    found = []
    for mode in ("direct", "recursive"):
        model = Forecaster(rj.Elman(4), 1, mode=mode, output="gaussian", season=5, context=8)
        ahead = model.fit(jax.random.key(0), WALK, past=PAST, **QUICK).predict()
        found.append((ahead.mean, ahead.quantiles))
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-6)
        assert a.shape[-2:] == (1, 2)


def test_recursive_forecasts_are_those_of_a_plain_loop():
    """One path of quantiles of a single row, each value fed back, by `predict` one row at a time from a longer series."""
    model = Forecaster(rj.Elman(4), 4, mode="recursive", quantiles=(0.5,), season=5, context=8)
    fitted = model.fit(jax.random.key(0), WALK, **QUICK)
    path, series = fitted.predict(paths=1), WALK
    assert path.paths.shape == (1, 4, 2)
    np.testing.assert_allclose(path.mean[1:], path.paths[0, 1:])
    first = fitted.predict(series, paths=3, seed=5).mean[0]
    np.testing.assert_allclose(path.mean[0], first, rtol=1e-12)
    # One quantile leaves nothing to chance, so that the second row follows from the first; its anchor is the last row seen.
    from rnnjax.forecast.rows import read_rows
    from rnnjax.forecast.windows import Windows

    longer = read_rows("test", np.concatenate([series, path.paths[0]]), 0)
    windows = Windows(longer, fitted.plan, taught=True, absolute=False)
    column = np.arange(2)
    made = windows(np.full(2, 119), column)
    _, out = rj.unroll(fitted.network, fitted.params, made["inputs"])
    want = (made["base"] + made["scale"] * out[-4:, :, 0]) * fitted.plan.unit
    np.testing.assert_allclose(path.paths[0], want, rtol=1e-5)


def test_what_stands_in_place_of_a_missing_value_changes_nothing():
    gone = RNG.random(WALK.shape) < 0.15
    gone[:3, 0] = True
    found = []
    for junk in (np.nan, 1e12, -7.0):
        fitted = SMALL.fit(jax.random.key(0), np.where(gone, junk, WALK), mask=~gone, **QUICK)
        found.append(fitted.predict().quantiles)
    assert np.isfinite(found[0]).all()
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(
        found[0], SMALL.fit(jax.random.key(0), np.where(gone, np.nan, WALK), **QUICK).predict().quantiles
    )


def test_constant_huge_and_tiny_series_together():
    series = np.stack([np.full(60, 5.0), np.zeros(60), 1e300 * (1 + np.sin(T[:60])), 1e-300 * T[:60], WALK[:60, 0]], 1)
    ahead = SMALL.fit(jax.random.key(0), series, **QUICK).predict()
    assert np.isfinite(ahead.quantiles).all() and (np.diff(ahead.quantiles, axis=0) >= 0).all()
    np.testing.assert_allclose(ahead.quantiles[:, :, 0], 5.0, atol=1e-4)
    np.testing.assert_allclose(ahead.mean[:, 1], 0.0, atol=1e-4)
    np.testing.assert_allclose(ahead.mean[:, 3], 1e-300 * np.array([60, 61, 62]), rtol=1e-3)


@pytest.mark.parametrize("output", ["quantiles", pytest.param("gaussian", marks=pytest.mark.slow)])
def test_coverage_is_within_binomial_error_on_data_of_known_law(output):
    """Independent values, N(0, 1) and N(20, 9): 80 % between the quantiles, three standard errors, and widths of the law itself."""
    rng = np.random.default_rng(3)
    series = np.concatenate([rng.normal(size=(500, 3)), rng.normal(20, 3, size=(500, 3))], 1)
    model = Forecaster(rj.Elman(4), 2, output=output, season=7, context=16)
    report = backtest(model, series, windows=60, steps=40, batch=32, progress=False)
    values = report.there.sum()
    covered = (report.coverage * report.there.sum((0, 2))).sum() / values
    assert abs(covered - 0.8) < 3 * np.sqrt(0.8 * 0.2 / values), covered
    width = np.mean([f.quantiles[2] - f.quantiles[0] for f in report.forecasts], (0, 1))
    np.testing.assert_allclose(width, 2 * 1.2816 * np.repeat([1.0, 3.0], 3), rtol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["direct", "recursive"])
@pytest.mark.parametrize("output", ["student_t", "negative_binomial", "bernoulli"])
def test_every_output_learns_and_forecasts(mode, output):
    """Mean and quantiles near those of the law that the values are drawn from."""
    if mode == "recursive" and output == "bernoulli":
        output = "gaussian"
    rng = np.random.default_rng(1)
    drawn = {
        "gaussian": rng.normal(4, 1, (300, 3)),
        "student_t": rng.standard_t(4, (300, 3)) + 4,
        "negative_binomial": rng.negative_binomial(4, 0.5, (300, 3)),
        "bernoulli": rng.random((300, 3)) < 0.7,
    }[output].astype(float)
    model = Forecaster(rj.Elman(3), 2, mode=mode, output=output, season=7, context=16)
    ahead = model.fit(jax.random.key(0), drawn, steps=40, progress=False).predict(paths=300)
    spread = drawn.std()
    np.testing.assert_allclose(ahead.mean, drawn.mean(), atol=0.6 * spread)
    assert ahead.mean.shape == (2, 3) and ahead.quantiles.shape == (3, 2, 3)
    assert (np.diff(ahead.quantiles, axis=0) >= 0).all()
    np.testing.assert_allclose(ahead.quantiles.mean((1, 2)), np.quantile(drawn, model.quantiles), atol=0.8 * spread)
    if output != "gaussian" and output != "student_t":
        assert np.array_equal(ahead.quantiles[:, 0], np.round(ahead.quantiles[:, 0])) and ahead.quantiles.min() >= 0


@pytest.mark.slow
def test_what_is_known_in_advance_is_used():
    """y_t = 3 known_t + noise of 0.1: without it the error is four times larger at least."""
    rng = np.random.default_rng(5)
    known = rng.normal(size=(404, 1))
    series = 3 * known[:400] + 0.1 * rng.normal(size=(400, 1))
    error = {}
    for name, given in {"with": known, "without": None}.items():
        model = Forecaster(rj.GRU(8), 4, season=7, context=8)
        error[name] = backtest(model, series, windows=8, known=given, steps=600, rate=1e-2, progress=False).mae.mean()
    assert error["with"] < 0.6 and error["without"] > 2.0


def test_a_picture(fitted, tmp_path):
    pytest.importorskip("matplotlib")
    ahead = fitted.predict()
    path = rj.forecast.fan_chart(tmp_path / "fan.png", ahead, WALK[:100], came=WALK[100:103], names=["a", "b"])
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
    with pytest.raises(ValueError, match=r"series must be \[T, 2\]"):
        rj.forecast.fan_chart(path, ahead, WALK[:, :1])


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(horizon=0), "horizon must be a whole number of rows, at least 1, got 0"),
        (dict(horizon=2.5), "horizon must be a whole number"),
        (dict(mode="both"), "mode must be one of direct, recursive, got 'both'"),
        (dict(output="normal"), "output must be one of quantiles, gaussian"),
        (dict(quantiles=(0.9, 0.1)), "increasing, got"),
        (dict(quantiles=()), "quantiles must be shares"),
        (dict(season=0), "season must be a whole number"),
        (dict(context=-1), "context must be a whole number"),
    ],
)
def test_settings_that_make_no_sense(options, said):
    with pytest.raises(ValueError, match=said):
        Forecaster(rj.Elman(3), **{"horizon": 3, **options})


@pytest.mark.parametrize(
    ("series", "options", "said"),
    [
        (
            WALK[:, 0],
            {},
            r"series must be \[T, S\], time by series, got the shape \(120,\); one series alone is series\[:, None\]",
        ),
        (WALK[:8], {}, "a horizon of 3 needs at least 10 rows, got 8; at most 2 can be had of them"),
        (WALK[:3], {}, "needs at least 10 rows, got 3; give more rows"),
        (np.where([True, False], np.nan, WALK), {}, "all values of series 0 are missing; leave it out"),
        (WALK, dict(mask=np.zeros((120, 2), bool)), "all values of series 0 are missing"),
        (np.where(T[:120, None] < 115, np.nan, WALK), {}, "series 0 has no value in the first 108 rows"),
        (np.where(T[:120, None] == 7, np.inf, WALK), {}, "must be finite where they are not missing"),
        (WALK, dict(mask=np.ones(120, bool)), r"mask must be bool \(120, 2\)"),
        (
            WALK,
            dict(known=np.ones((120, 1))),
            r"known must be \[T \+ horizon = 120 \+ 3, features\], got the shape \(120, 1\)",
        ),
        (WALK, dict(past=np.full((120, 1), np.nan)), "past must be finite, row 0 is not"),
        ([["a"]], {}, "series must be numbers"),
        (WALK * 1j, {}, "series must be numbers"),
    ],
)
def test_data_that_cannot_be_fitted(series, options, said):
    with pytest.raises(ValueError, match=said):
        SMALL.fit(jax.random.key(0), series, **options, **QUICK)


def test_data_that_cannot_be_forecast_from(fitted):
    given = dict(known=KNOWN[:103], past=PAST[:100])
    for call, said in [
        (lambda: fitted.predict(WALK[:100, :1], **given), "was fitted to 2 series, got 1"),
        (lambda: fitted.predict(WALK[:100], past=PAST[:100]), "known must have the 1 features of fit, got 0"),
        (lambda: fitted.predict(WALK[:4], known=KNOWN[:7], past=PAST[:4]), "looks back over 31 rows, got 4"),
        (lambda: fitted.predict(known=KNOWN), "covariates and masks go with a series"),
        (lambda: backtest(fitted, WALK, windows=9, known=KNOWN, past=PAST), "has seen what it would forecast"),
        (lambda: backtest(SMALL, WALK, windows=60), "at most 3[0-9] windows can be had"),
        (lambda: backtest(SMALL, WALK, windows=0), "windows must be a whole number"),
        (lambda: backtest(SMALL, WALK, season=200), "season must be a whole number of rows from 1 to"),
    ]:
        with pytest.raises(ValueError, match=said):
            call()
    with pytest.raises(TypeError, match="takes a Forecaster"):
        backtest(rj.GRU(3), WALK)
