"""`Embed` against a one-hot product in front of the cell; its table from elsewhere, frozen; bad tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj

T, B, V, E = 5, 3, 6, 4
XS = np.random.default_rng(0).integers(0, V, (T, B))
LENGTHS = np.array([5, 2, 0])
CELL = rj.Embed(rj.Stack(rj.LSTM(3), rj.GRU(2)), V, E)
PARAMS = CELL.init(jax.random.key(0), XS[0])


def test_is_a_one_hot_product_in_front_of_the_cell_and_padding_may_hold_anything():
    junk = np.where(np.arange(T)[:, None] < LENGTHS, XS, -7)

    def ours(params):
        carry, ys = rj.unroll(CELL, params, junk, lengths=LENGTHS)
        return jnp.sum(ys**2) + jnp.sum(carry.layer_1**2), ys

    def theirs(params):
        vectors = np.eye(V, dtype=np.float32)[XS] @ params["table"]
        carry, ys = rj.unroll(CELL.cell, params["cell"], vectors, lengths=LENGTHS)
        return jnp.sum(ys**2) + jnp.sum(carry.layer_1**2), ys

    got, want = (jax.jit(jax.value_and_grad(f, has_aux=True))(PARAMS) for f in (ours, theirs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), got, want)


def test_vectors_from_elsewhere_frozen_or_not():
    vectors = np.random.default_rng(1).normal(size=(V, E)).astype(np.float32)
    for frozen in (False, True):
        cell = rj.Embed(rj.GRU(3), V, E, frozen=frozen)
        params = cell.init(jax.random.key(0), XS[0], table=vectors)
        np.testing.assert_array_equal(params["table"], vectors)
        grads = jax.grad(lambda p: rj.unroll(cell, p, XS)[1].sum())(params)
        assert bool(grads["table"].any()) is not frozen and grads["cell"]["input"].any()


def test_bad_input():
    for error, message, call in [
        (
            ValueError,
            r"Embed\(.*x must lie in 0\.\.5.*got 6",
            lambda: CELL(PARAMS, CELL.initial_carry(PARAMS, XS[0]), XS[0] * 0 + 6),
        ),
        (TypeError, "x must be integer tokens", lambda: CELL(PARAMS, CELL.initial_carry(PARAMS, XS[0]), XS[0] * 1.0)),
        (ValueError, "table must be floating", lambda: CELL.init(jax.random.key(0), XS[0], table=np.ones((V, 2)))),
        (ValueError, "tokens must be at least 1", lambda: rj.Embed(rj.GRU(2), 0, 2)),
        (TypeError, "takes a cell of vectors", lambda: rj.Embed(rj.ConvGRU(2), 3, 2)),
    ]:
        with pytest.raises(error, match=message):
            call()
    step = jax.jit(lambda x: CELL(PARAMS, CELL.initial_carry(PARAMS, x), x)[1])
    assert np.isnan(step(jnp.array([1, -1, V]))[1:]).all() and np.isfinite(step(jnp.array([1, -1, V]))[0]).all()
