"""What gates are for: on adding and copy they beat the exact no-memory limits by ten, and a simple network does not."""

from __future__ import annotations

import functools

import jax
import memory_tasks as tasks
import numpy as np
import pytest

import rnnjax as rj


def test_the_limits_are_what_a_network_without_memory_reaches():
    xs, target = tasks.adding(jax.random.key(0), 20000, 50)
    assert abs(float(((target - 1) ** 2).mean()) - tasks.ADDING_LIMIT) < 5e-3
    assert (np.asarray(xs[..., 1].sum(0)) == 2).all()
    xs, targets = tasks.copying(jax.random.key(0), 3, 100)
    assert xs.shape == (120, 3, 10) and (np.asarray(targets[:110]) == 8).all()
    np.testing.assert_array_equal(np.argmax(xs[:10], -1), targets[110:])
    guess = np.where(np.arange(120) < 110, 0.0, np.log(8))  # certain of the blanks, any of eight symbols after
    np.testing.assert_allclose(guess.mean(), tasks.copy_limit(100))


@pytest.mark.slow
@pytest.mark.parametrize("cell", [rj.GRU(64), rj.LSTM(64, chrono=200.0)], ids=repr)
def test_gated_cells_solve_adding_over_200_steps(cell):
    history = tasks.train(rj.Readout(cell, 1), tasks.adding_loss, 2, 2000, until=tasks.ADDING_LIMIT / 12)
    assert history[-1] < tasks.ADDING_LIMIT / 10


@pytest.mark.slow
def test_a_simple_network_fails_at_adding_over_200_steps():
    history = tasks.train(rj.Readout(rj.Elman(64), 1), tasks.adding_loss, 2, 1000)
    assert history[-1] > 0.8 * tasks.ADDING_LIMIT


COPY = [(rj.GRU(64, chrono=120.0), 1e-2), (rj.LSTM(96, chrono=120.0), 1e-2), (rj.JANET(64, chrono=120.0), 3e-3)]


@pytest.mark.slow
@pytest.mark.parametrize("cell, rate", COPY, ids=repr)
def test_gated_cells_that_start_with_long_memories_solve_copying_over_100_blanks(cell, rate):
    limit, loss = tasks.copy_limit(100), functools.partial(tasks.copy_loss, batch=24)
    history = tasks.train(rj.Readout(cell, 9), loss, 10, 24000, rate, until=limit / 12)
    assert history[-1] < limit / 10


@pytest.mark.slow
@pytest.mark.parametrize("rate", [3e-3, 1e-2])
def test_a_simple_network_fails_at_copying_over_100_blanks(rate):
    limit, loss = tasks.copy_limit(100), functools.partial(tasks.copy_loss, batch=24)
    history = tasks.train(rj.Readout(rj.Elman(64), 9), loss, 10, 3000, rate)
    assert history[-1] > 0.8 * limit
