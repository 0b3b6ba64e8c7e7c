"""`make_step`: the update, clipping, the guard, the carry handed on, one compilation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnnjax as rj
from rnnjax.train import make_step, start, stateless


def quadratic(params, x):
    return jnp.sum((params["w"] - x) ** 2)


def test_update_is_that_of_optax_on_the_clipped_gradient():
    """w = (3, 4), x = 0: gradient (6, 8) of norm 10, clipped to norm 5; momentum in the optimiser's state."""
    optimizer = optax.sgd(0.1, momentum=0.5)
    step = make_step(stateless(quadratic), optimizer, clip=5.0)
    state, report = step(start({"w": jnp.array([3.0, 4.0])}, optimizer), 0.0)
    np.testing.assert_allclose(state.params["w"], [3 - 0.3, 4 - 0.4], rtol=1e-6)
    np.testing.assert_allclose(report.grad_norm, 10.0, rtol=1e-6)
    np.testing.assert_allclose(report.loss, 25.0, rtol=1e-6)
    unclipped, _ = make_step(stateless(quadratic), optimizer, clip=None)(
        start({"w": jnp.array([3.0, 4.0])}, optimizer), 0.0
    )
    np.testing.assert_allclose(unclipped.params["w"], [3 - 0.6, 4 - 0.8], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(bad):
    """Also where only the gradient is not finite: the derivative of sqrt at 0."""
    optimizer = optax.adam(0.1)

    def loss_fn(params, carry, x, key):
        return carry + x, jnp.sqrt(jnp.sum((params["w"] * x) ** 2))

    step = make_step(loss_fn, optimizer)
    before, _ = step(start({"w": jnp.ones(2)}, optimizer, jnp.ones(())), 1.0)
    kept = jax.device_get(before)
    for x in (bad, 0.0):
        after, report = step(jax.tree.map(jnp.copy, before), x)
        chex.assert_trees_all_equal(jax.device_get(after)[:3], kept[:3])
        assert bool(report.skipped) and int(after.skipped) == int(after.skipped_in_a_row) == 1
        assert int(after.step) == 2
    good, report = step(after, 1.0)
    assert not bool(report.skipped) and int(good.skipped) == 1 and int(good.skipped_in_a_row) == 0
    assert not np.array_equal(good.params["w"], kept.params["w"])


def test_the_carry_is_handed_on_and_its_gradient_is_not(key):
    """Windows of a stream: states as in one unroll; gradients as with ``truncate`` at the windows."""
    cell = rj.Elman(3)
    xs = jax.random.normal(key, (8, 2, 2))
    params = cell.init(key, xs[0])
    seen = []

    def loss_fn(params, carry, window, key):
        carry, ys = rj.unroll(cell, params, window, carry=carry)
        return carry, jnp.sum(ys**2)

    optimizer = optax.sgd(1.0)
    step, state = make_step(loss_fn, optimizer, clip=None), start(params, optimizer, cell.initial_carry(params, xs[0]))
    grads = []
    for window in (xs[:4], xs[4:]):
        before = jax.device_get(state.params)
        state, _ = step(state, window)
        seen.append(jax.device_get(state.carry))
        grads.append(jax.tree.map(lambda a, b: a - b, before, jax.device_get(state.params)))
        state = state._replace(params=jax.tree.map(jnp.copy, params))
    carry, _ = rj.unroll(cell, params, xs)
    np.testing.assert_allclose(seen[1], carry, atol=1e-6)
    whole = jax.grad(lambda p: jnp.sum(rj.unroll(cell, p, xs, truncate=4, method="loop")[1] ** 2))(params)
    chex.assert_trees_all_close(jax.tree.map(np.add, *grads), whole, rtol=1e-5, atol=1e-5)


def test_one_compilation_and_donated_buffers():
    optimizer, traces = optax.adam(0.1), []

    def loss_fn(params, carry, x, key):
        traces.append(1)
        return carry, jnp.sum((params - x) ** 2) + jax.random.normal(key)

    params = jnp.ones(4)
    first = start(params, optimizer)
    step, key = make_step(loss_fn, optimizer), jax.random.key(0)
    state, one = step(first, 1.0, key)
    state, two = step(state, 2.0, key)
    assert len(traces) == 1
    assert first.params.is_deleted() and not params.is_deleted()
    assert float(one.loss) != float(two.loss) - 4.0  # the noise of each step is its own


def test_errors():
    with pytest.raises(ValueError, match="clip must be a positive norm or None, got 0"):
        make_step(stateless(quadratic), optax.sgd(0.1), clip=0)
    step = make_step(lambda p, c, x, key: (jnp.ones(3), jnp.sum(p)), optax.sgd(0.1))
    with pytest.raises(ValueError, match="carry that loss_fn returns must be like the one it was given"):
        step(start(jnp.ones(2), optax.sgd(0.1), jnp.ones(2)), 0.0)
