"""What a forecaster trains on, against plain loops: windows, the simple methods, and that nothing comes from the future."""

import numpy as np
import pytest

import rnnjax as rj
from rnnjax.forecast.rows import read_rows
from rnnjax.forecast.simple import History, Methods, changes, combine
from rnnjax.forecast.windows import Windows

RNG = np.random.default_rng(0)
SERIES = np.stack([RNG.normal(size=90).cumsum() + 5, 40 * np.sin(np.arange(90) / 2) + RNG.normal(size=90)], 1)
GAPS = RNG.random(SERIES.shape) < 0.1
KNOWN, PAST = RNG.normal(size=(94, 2)), RNG.normal(size=(90, 1))


def rows_of(series=SERIES, mask=~GAPS, past=PAST):
    return read_rows("test", series, 4, known=KNOWN, past=past, mask=mask)


def problem_of(rows, mode="direct", **options):
    return rj.forecast.Forecaster(rj.Elman(3), 4, mode=mode, season=7, context=6, **options).problem(
        rows, batch=8, seed=1
    )


def filled(series, gone):
    """The last value that was there, by a loop."""
    out = np.array(series)
    for s in range(out.shape[1]):
        first = next(t for t in range(len(out)) if not gone[t, s])
        for t in range(len(out)):
            if gone[t, s]:
                out[t, s] = out[t - 1, s] if t > first else series[first, s]
    return out


def method_by_hand(y, t, h, m, many, w, long):
    k = int(np.ceil(h / m))
    level = [np.mean([y[t - i] for i in range(n)]) - y[t] for n in (w, long)]
    season = np.mean([y[t + h - (k + j) * m] for j in range(many)]) - y[t]
    return [*level, h * (y[t] - y[t - w]) / w, y[t + h - k * m] - y[t], k * (y[t] - y[t - m]), season]


def test_the_simple_methods_by_hand():
    methods, t, h, s = Methods(((5, 3),), 8, 20), np.array([25, 40, 80]), np.array([1, 5, 9]), np.array([0, 1, 0])
    found = changes(methods, History(SERIES), t, h, s)
    assert found.shape == (3, methods.count) and methods.reach == 20
    for i in range(3):
        np.testing.assert_allclose(found[i], method_by_hand(SERIES[:, s[i]], t[i], h[i], 5, 3, 8, 20), rtol=1e-12)


def test_the_combination_finds_a_law_that_the_methods_span():
    """y_t = y_{t-5} + 0.3: a season that drifts, whose weights are not unique, and its forecasts exact."""
    y = np.tile(RNG.normal(size=5), 20) + 0.3 * (np.arange(100) // 5)
    weights, left = combine(
        Methods(((5, 1),), 8, 9), History(y[:, None]), np.ones((100, 1), bool), np.arange(20, 90), 5, np.ones(1)
    )
    assert weights.shape == (5, 6, 1) and left.max() < 1e-4


@pytest.mark.parametrize("mode", ["direct", "recursive"])
def test_windows_by_a_plain_loop(mode):
    rows = rows_of()
    problem = problem_of(rows, mode)
    plan, taught = problem.plan, mode == "recursive"
    windows = Windows(rows, plan, taught=taught, absolute=False)
    origin, column = np.array([40, 55, 85]), np.array([0, 1, 0])
    found = windows(origin, column)
    y = filled(SERIES, GAPS) / plan.unit
    method = lambda s, t, h: np.array(
        [*method_by_hand(y[:, s], t, h, *plan.methods.seasons[0], plan.methods.window, plan.methods.long)]
    )
    for b, (o, s) in enumerate(zip(origin, column)):
        for i, at in enumerate(range(o - 4, o + 5)):
            seen = at - 1 if taught else min(at - 1, o)
            known = at - 1 == seen and not GAPS[at - 1, s]
            want = [(y[at - 1, s] - y[o, s]) / plan.size[s] if known else 0.0, known]
            want += [0.0 if taught else max(at - 1 - o, 0) / 4]
            want += list(method(s, seen, at - seen) / plan.size[s])
            want += list((KNOWN[at] - plan.known[0, 0]) / plan.known[1, 0])
            want += [(PAST[at - 1, 0] - plan.past[0, 0, 0]) / plan.past[1, 0, 0] if at - 1 <= o else 0.0]
            np.testing.assert_allclose(found["inputs"][i, b], want, rtol=1e-5, atol=1e-6)
        for h in range(1, 5):
            seen = o + h - 1 if taught else o
            lead = o + h - seen - 1
            base = (
                y[seen, s]
                + method(s, seen, lead + 1) @ plan.weights[lead, :-1, s]
                + plan.size[s] * plan.weights[lead, -1, s]
            )
            np.testing.assert_allclose(found["base"][h - 1, b], base, rtol=1e-5)
            np.testing.assert_allclose(
                found["target"][h - 1, b], (y[o + h, s] - base) / plan.left[lead, s], rtol=1e-4, atol=1e-5
            )
            assert found["weight"][h - 1, b] == (not GAPS[o + h, s])


def test_no_window_crosses_an_end_and_validation_is_later_than_training():
    """By the numbers of the rows themselves: a series that counts says which rows a window has seen."""
    training, held = problem_of(rows_of()).origins
    cut = 90 - 9
    assert training.max() + 4 == cut - 1 and held.min() + 1 == cut and held.max() + 4 == 89
    counting = rows_of(np.stack([np.arange(90.0)] * 2, 1), None)
    problem = problem_of(counting)
    windows = Windows(counting, problem.plan, taught=False, absolute=False)
    for origins, low, high in [(training, 0, cut), (held, cut, 90)]:
        for o in origins:
            target = windows(np.array([o]), np.array([1]))
            rows = (target["base"] + target["target"] * target["scale"]) * problem.plan.unit[1]
            np.testing.assert_allclose(rows[:, 0], o + np.arange(1, 5), rtol=1e-4)
            assert low <= rows.min() + 0.01 and rows.max() < high


@pytest.mark.parametrize("junk", [np.nan, 1e30])
def test_training_sees_nothing_of_the_rows_held_out(junk):
    """Plan and batches, bit for bit, whatever stands in the last tenth."""
    series, past, mask = SERIES.copy(), PAST.copy(), ~GAPS
    series[81:], past[81:] = junk, 1e30
    mask[81:] = True
    one, two = problem_of(rows_of()), problem_of(rows_of(series, mask, past))
    for name in ("weights", "unit", "size", "left", "centre", "past"):
        np.testing.assert_array_equal(getattr(one.plan, name), getattr(two.plan, name))
    for step in range(5):
        for name, a in one.batches(step).items():
            np.testing.assert_array_equal(a, two.batches(step)[name])


def test_seasons_are_found_or_given():
    from rnnjax.data import seasons_of

    t = np.arange(24 * 40)
    assert seasons_of((np.sin(2 * np.pi * t / 24) + 0.7 * np.sin(2 * np.pi * t / 168))[:, None]) == (24, 168)
    assert seasons_of((0.1 * t + np.sin(2 * np.pi * t / 12))[:, None]) == (12,)
    assert len(seasons_of(RNG.normal(size=(300, 1)))) == len(seasons_of(np.full((50, 1), 3.0))) == 1
    assert [m for m, _ in problem_of(rows_of()).plan.methods.seasons] == [7]
