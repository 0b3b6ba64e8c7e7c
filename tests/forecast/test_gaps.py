"""Missing values that fade as in GRU-D, and uneven rows, against the paper's equations in NumPy and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.forecast import Forecaster, backtest
from rnnjax.forecast.gaps import Decayed
from rnnjax.forecast.rows import read_rows
from rnnjax.forecast.windows import Windows

RNG = np.random.default_rng(0)
TIMES = np.cumsum(RNG.choice([1.0, 2.0, 5.0], size=94))
SERIES = np.where(RNG.random((90, 2)) < 0.3, np.nan, RNG.normal(size=(90, 2)).cumsum(0))
QUICK = dict(steps=4, batch=4, progress=False)
sigmoid = lambda z: 1 / (1 + np.exp(-z))


def grud_by_hand(params, xs):
    """Che et al. 2018, equations 10 to 14, with GRU's reset before its product as they have it, a step at a time in float64."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    (w_r, w_z, w_n), (u_r, u_z, u_n), (b_r, b_z, b_n) = (
        np.split(params["cell"][name], 3, -1) for name in ("input", "recurrent", "bias")
    )
    h, hs = np.zeros((2, 3)), []
    for x in xs:
        v, seen, d, mean = (x[:, i : i + 1] for i in range(4))
        gamma_x = np.exp(-np.maximum(0, params["input_decay"] * d + params["input_decay_bias"]))
        gamma_h = np.exp(-np.maximum(0, params["carry_decay"] * d + params["carry_decay_bias"]))
        x = np.concatenate([seen * v + (1 - seen) * (gamma_x * v + (1 - gamma_x) * mean), x[:, 1:]], 1)
        h = gamma_h * h
        r, z = sigmoid(x @ w_r + h @ u_r + b_r), sigmoid(x @ w_z + h @ u_z + b_z)
        h = z * h + (1 - z) * np.tanh(x @ w_n + (r * h) @ u_n + b_n)
        hs.append(h)
    return np.stack(hs)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "near"), [(jnp.float32, 2e-5), (jnp.float16, 5e-3), (jnp.bfloat16, 4e-2)])
def test_grud_is_that_of_the_paper(dtype, near):
    """Values, and the slope of their sum along a direction of all params by differences in float64."""
    rng = np.random.default_rng(0)
    cell = Decayed(rj.GRU(3, reset_after=False))
    of = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, dtype), tree)
    params = of(jax.tree.map(lambda a: a + 0.3 * rng.normal(size=a.shape), cell.init(jax.random.key(0), jnp.zeros(6))))
    m = (rng.random((7, 2, 1)) < 0.5).astype(float)
    xs = np.concatenate([rng.normal(size=(7, 2, 1)), m, rng.uniform(0.5, 4, (7, 2, 1)), rng.normal(size=(7, 2, 3))], -1)
    (_, found), slopes = jax.value_and_grad(
        lambda p: (lambda ys: (ys.astype(jnp.float32).sum(), ys))(rj.unroll(cell, p, of(xs))[1]), has_aux=True
    )(params)
    assert found.dtype == dtype and all(slope.dtype == dtype for slope in jax.tree.leaves(slopes))
    np.testing.assert_allclose(np.asarray(found, float), grud_by_hand(params, xs), atol=near)
    along = jax.tree.map(lambda a: rng.normal(size=a.shape), params)
    moved = lambda by: jax.tree.map(lambda a, d: np.asarray(a, float) + by * d, params, along)
    want = (grud_by_hand(moved(1e-6), xs).sum() - grud_by_hand(moved(-1e-6), xs).sum()) / 2e-6
    slope = sum(np.vdot(d, np.asarray(a, float)) for a, d in zip(jax.tree.leaves(slopes), jax.tree.leaves(along)))
    np.testing.assert_allclose(slope, want, rtol=5 * near)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("inner", [rj.LSTM(3), rj.Dropout(rj.GRU(3), 0.5)])
def test_decays_round_any_cell_keep_the_contract(inner):
    rj.testing.check_cell(Decayed(inner), jax.random.key(0), jnp.abs(jax.random.normal(jax.random.key(1), (2, 6))))


@pytest.mark.parametrize("taught", [False, True])
def test_what_grud_reads_by_a_plain_loop(taught):
    """The last value that was there, whether it is this one, the time since the one seen before it, the mean of the window."""
    model = Forecaster(
        rj.CfC(3, elapsed=True), 4, season=5, context=6, gaps="grud", mode="recursive" if taught else "direct"
    )
    rows = read_rows("test", SERIES, 4, times=TIMES)
    plan = model.problem(rows, batch=8).plan
    origin, column = np.array([60, 47, 85]), np.array([0, 1, 0])
    inputs = Windows(rows, plan, taught=taught, absolute=False).inputs(origin, column)
    tick = np.median(np.diff(TIMES[:81]))
    window = plan.methods.window
    for b, (o, s) in enumerate(zip(origin, column)):
        y, there = rows.values[:, s] / plan.unit[s], ~np.isnan(SERIES[:, s])
        for i, at in enumerate(range(o - 4, o + 5)):
            before = at - 1
            last = before if taught else min(before, o)
            known = bool((taught or before <= o) and before < 90 and there[before])
            seen = max(r for r in range(min(before - 1, last) + 1) if there[r])
            want = [(y[last] - y[o]) / plan.size[s], known, (TIMES[before] - TIMES[seen]) / tick]
            want.append((y[last - window + 1 : last + 1].mean() - y[o]) / plan.size[s])
            np.testing.assert_allclose(inputs[i, b, :4], want, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(inputs[i, b, -1], (TIMES[at] - TIMES[before]) / tick, rtol=1e-6)


def test_a_line_in_uneven_time_is_known_beforehand():
    """y = 3 t: the start of a forecast, before any training, is right at rows whose times are given."""
    rows = read_rows("test", 3 * TIMES[:90, None] + 7, 4, times=TIMES)
    plan = Forecaster(rj.CTRNN(3, elapsed=True), 4, context=6).problem(rows, batch=8).plan
    start, _ = plan.start_of(plan.history(rows), np.array([89]), np.arange(1, 5)[:, None], np.array([0]))
    np.testing.assert_allclose(start[:, 0] * plan.unit, 3 * TIMES[90:] + 7, rtol=1e-5)
    even, _ = plan.start_of(
        plan.history(rows._replace(times=None)), np.array([89]), np.arange(1, 5)[:, None], np.array([0])
    )
    assert np.abs(even[:, 0] * plan.unit - 3 * TIMES[90:] - 7).max() > 1


def test_even_times_change_nothing():
    model = Forecaster(rj.CfC(3, elapsed=True), 4, season=5, context=6)
    dates = np.datetime64("2024-01-01") + 3 * np.arange(90)
    one, two = (model.problem(read_rows("test", SERIES, 4, times=times), batch=8) for times in (None, dates))
    for name, a in one.batches(0).items():
        np.testing.assert_allclose(two.batches(0)[name], a, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        Forecaster(rj.GRU(16), 3, gaps="grud"),
        pytest.param(Forecaster(rj.CfC(16, backbone=16, elapsed=True), 3), marks=pytest.mark.long),
    ],
)
def test_uneven_rows_are_forecast_better_than_by_the_last_value(model):
    """A wave and a slope in time, seen at odd times, a tenth of them missing."""
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.choice([1.0, 2.0, 3.0], size=500))
    series = (0.05 * times + np.sin(times / 10) + 0.02 * rng.normal(size=500))[:, None]
    series[rng.random((500, 1)) < 0.1] = np.nan
    report = backtest(model, series, times=times, windows=12, steps=150, progress=False)
    assert (report.mae < 0.6 * report.persistence.mae).all(), (report.mae, report.persistence.mae)


def test_cells_that_are_not_told_the_time():
    with pytest.raises(ValueError, match="the first layer alone can be told how long a step is"):
        Forecaster(rj.Stack(rj.GRU(3), rj.CfC(3, elapsed=True)), 4)
    with pytest.raises(ValueError, match="gaps must be one of masked, grud, got 'filled'"):
        Forecaster(rj.GRU(3), 4, gaps="filled")
    with pytest.raises(
        ValueError, match=r"GRU\(3\) takes all steps for equally long.*rj.CfC\(64, elapsed=True\), or gaps=\"grud\""
    ):
        Forecaster(rj.GRU(3), 4).fit(jax.random.key(0), SERIES, times=TIMES, **QUICK)
