"""Windows of a series: never across an end, every neighbour seen, fresh where and only where a reader starts anew."""

import numpy as np
import pytest

import rnnjax as rj
from rnnjax.data import DataError, held_out, season_of, windows


@pytest.mark.parametrize(
    ("count", "batch", "time"), [(50, 3, 5), (49, 16, 48), (216, 16, 48), (97, 2, 1), (100, 5, 33), (1000, 4, 64)]
)
def test_windows(count, batch, time):
    """Against the definition, step by step, by the places that a window holds."""
    window, laps, before = windows(np.arange(count), batch, time, seed=3), 0, np.zeros(batch)
    pairs = np.zeros(count, int)
    for step in range(400):
        places, fresh = window(step), window.fresh(step)
        assert places.shape == (time + 1, batch) and fresh.shape == (batch,) and fresh.dtype == bool
        assert (np.diff(places, axis=0) == 1).all()  # neighbours, so across no end
        if step:
            assert ((places[0] == before) | fresh).all()
            assert (places[0][fresh] < before[fresh]).all() or count <= 3 * time + 1
        else:
            assert fresh.all()
        laps += fresh.sum()
        before = places[-1]
        np.add.at(pairs, places[:-1].ravel(), 1)
    assert (pairs[: count - 1] > 0).all() and pairs[count - 1] == 0
    assert laps <= batch * (2 + 400 / max(1, (count - 1) // time - 1))  # no more often than the ends ask for


def test_windows_depend_on_seed_and_step_alone():
    values = np.random.default_rng(0).normal(size=(60, 2))
    one, two = windows(values, 4, 7, seed=1), windows(values, 4, 7, seed=1)
    late = [one(step) for step in (30, 2, 17)]
    np.testing.assert_array_equal(late, [two(step) for step in (30, 2, 17)])
    assert not np.array_equal(one(0), windows(values, 4, 7, seed=2)(0))


@pytest.mark.parametrize(("count", "batch", "time"), [(5, 2, 5), (0, 1, 1), (10, 0, 2), (10, 2, 0)])
def test_windows_that_cannot_be(count, batch, time):
    with pytest.raises(DataError, match=f"need at least {time + 1} values, got {count}"):
        windows(np.arange(count), batch, time)
    assert rj.data.windows is windows


def test_held_out_rows_start_warm():
    """Each value is predicted once, after the values before it."""
    for window, counts in held_out(np.arange(100), first=90, batch=3, time=4):
        inside = window[1:][counts]
        assert (window[:-1][counts] == inside - 1).all() and (inside >= 90).all()


def season(period, noise=0.0, trend=0.0, walk=0.0, rows=240, columns=1):
    rng, t = np.random.default_rng(period), np.arange(rows)[:, None]
    wave = np.cos(2 * np.pi * t / period + 0.3 * np.arange(columns))
    return (
        wave + trend * t + noise * rng.normal(size=(rows, columns)) + walk * rng.normal(size=(rows, columns)).cumsum(0)
    )


@pytest.mark.parametrize("period", [2, 7, 12, 24, 52])
@pytest.mark.parametrize("more", [{}, {"trend": 0.05}, {"trend": -3.0}, {"noise": 0.15}, {"walk": 0.05, "columns": 2}])
def test_the_season_that_was_put_in_is_found(period, more):
    assert season_of(season(period, **more)) == period


def test_a_series_without_a_season_has_some_lag():
    for values in (
        np.zeros((30, 1)),
        np.arange(50.0)[:, None],
        np.ones((3, 2)),
        np.ones((2, 1)),
        np.full((40, 1), 1e300),
    ):
        assert season_of(values) >= 2
