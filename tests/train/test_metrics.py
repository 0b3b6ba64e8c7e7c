"""Metrics beside the loss: their means in the lines of a run, and everything that is none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnjax as rj
from rnnjax.train import make_step, start

DATA = np.random.default_rng(0).normal(size=(10, 4, 2)).astype(np.float32)


def loss(params, carry, batch, key):
    error = batch @ params - 1.0
    return (
        carry,
        jnp.mean(error**2),
        {"largest": jnp.max(jnp.abs(error)), "low": jnp.mean((error < 0).astype(jnp.float32))},
    )


def fit(steps, **options):
    options = dict(optimizer=optax.sgd(0.0), log_every=3, progress=False) | options
    return rj.train.fit(loss, jnp.array([0.5, -0.5]), lambda step: DATA[step % 10], steps=steps, **options)


def test_a_line_has_their_means_since_the_line_before():
    error = DATA @ np.array([0.5, -0.5]) - 1.0
    for line, steps in zip(fit(7).history, ([0, 1, 2], [3, 4, 5], [6])):
        np.testing.assert_allclose(line["loss"], np.mean(error[steps] ** 2), rtol=1e-5)
        np.testing.assert_allclose(line["largest"], np.abs(error[steps]).max(1).mean(), rtol=1e-5)
        np.testing.assert_allclose(line["low"], (error[steps] < 0).mean(), rtol=1e-5)


def test_they_are_resumed_and_skipped_steps_are_left_out(tmp_path):
    data = DATA.copy()
    data[4] = np.nan
    batches = lambda step: data[step % 10]
    go = lambda **how: rj.train.fit(
        loss, jnp.array([0.5, -0.5]), batches, optimizer=optax.sgd(0.1), log_every=5, progress=False, **how
    )
    whole = go(steps=10)
    go(steps=10, out=tmp_path / "a", checkpoint_every=3)
    go(steps=3, out=tmp_path / "run")
    again = go(steps=10, out=tmp_path / "run", resume=True)
    plain = lambda lines: [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    assert plain(again.history)[-1] == plain(whole.history)[-1]
    assert whole.history[0]["skipped"] == 1 and np.isfinite(whole.history[0]["largest"])


def test_over_a_mesh_they_are_those_of_one_device():
    mesh = jax.make_mesh((1,), ("batch",))
    mine, plain = (fit(3, **more).history[0] for more in (dict(mesh=mesh, batch_axis=0), {}))
    assert {k: v for k, v in mine.items() if k != "seconds"} == {k: v for k, v in plain.items() if k != "seconds"}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([1.0], "metrics must be a dict of scalars by name, got list"),
        ({"x": jnp.ones(2)}, r"got 'x' of shape \(2,\)"),
        ({"step": 1.0}, "under names of their own"),
    ],
)
def test_what_is_no_metric(metrics, message):
    step = make_step(lambda p, c, b, k: (c, p * b, metrics), optax.sgd(0.1))
    with pytest.raises(TypeError, match=message):
        step(start(jnp.array(1.0), optax.sgd(0.1)), jnp.array(1.0))
