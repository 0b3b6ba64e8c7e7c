"""The table of docs/interop.md: what is computed in what, against numpy in float64 and bfloat16 rounding done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interop.compare import B, H, I, data

import rnnjax as rj

STEPS = 400


def adder(params, h, x):
    """Sums up its inputs: what the carry is kept in shows in the last digits."""
    h = h + x @ params["w"]
    return h, h


def sums(dtype, **how):
    """The last sum of 400 terms, and what it would be without rounding."""
    xs = np.abs(data(0, STEPS, 1, I)).astype(dtype)
    w = np.abs(data(1, I, H)).astype(dtype)
    carry, ys = rj.unroll(adder, {"w": jnp.asarray(w)}, jnp.asarray(xs), carry=jnp.zeros((1, H), dtype), **how)
    assert carry.dtype == ys.dtype == dtype
    narrow = how.get("matmul_dtype", dtype)
    exact = (xs.astype(narrow).astype("float64") @ w.astype(narrow).astype("float64")).sum(0)
    return np.abs(np.asarray(carry, "float64") / exact - 1).max()


def test_the_carry_keeps_the_dtype_of_the_params():
    with jax.enable_x64(True):
        assert sums("float64") < 1e-13
    assert 1e-9 < sums("float32") < 1e-5
    assert sums(jnp.bfloat16) > 0.05  # a sum in bfloat16 stops growing


def test_matmul_dtype_rounds_operands_only():
    """Against float64 products of rounded operands: the sums and the carry are float32."""
    assert sums("float32", matmul_dtype=jnp.bfloat16) < 1e-5


@pytest.mark.parametrize(
    ("params", "inputs", "matmul", "result", "at_least", "at_most"),
    [
        ("float64", "float64", None, "float64", 0, 1e-13),
        ("float32", "float32", None, "float32", 1e-9, 1e-5),
        ("float32", "float32", "bfloat16", "float32", 1e-5, 0.02),
        ("bfloat16", "bfloat16", None, "bfloat16", 1e-3, 0.1),
    ],
)
def test_an_lstm_in_each_row_of_the_table(params, inputs, matmul, result, at_least, at_most):
    cell = rj.LSTM(H)
    with jax.enable_x64("float64" in (params, inputs)):
        p = cell.init(jax.random.key(0), jax.ShapeDtypeStruct((B, I), jnp.float32))
        p = jax.tree.map(lambda a: a.astype(params), p)
        xs = jnp.asarray(data(0, 12, B, I), inputs)

        def loss(p):
            carry, ys = rj.unroll(cell, p, xs, matmul_dtype=None if matmul is None else jnp.dtype(matmul))
            return ys.astype("float32").sum(), (carry, ys)

        grads, (carry, ys) = jax.jit(jax.grad(loss, has_aux=True))(p)
        assert {a.dtype for a in (carry.h, carry.c, ys)} == {jnp.dtype(result)}
        assert {a.dtype for a in jax.tree.leaves(grads)} == {jnp.dtype(params)}
        error = np.abs(np.asarray(ys, "float64") - oracle(p, xs)).max()
    assert at_least <= error <= at_most


def oracle(params, xs):
    """The LSTM's equations in numpy's float64."""
    w, u, b = (np.asarray(params[name], "float64") for name in ("input", "recurrent", "bias"))
    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    h = c = np.zeros((B, H))
    ys = []
    for x in np.asarray(xs, "float64"):
        i, f, g, o = np.split(x @ w + h @ u + b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        ys.append(h)
    return np.stack(ys)


def test_two_dtypes_follow_jax_promotion_and_strict_mode_refuses_them():
    cell = rj.GRU(H)
    params = jax.tree.map(lambda a: a.astype(jnp.bfloat16), cell.init(jax.random.key(0), jnp.ones((B, I))))
    xs = jnp.asarray(data(0, 3, B, I))
    with jax.numpy_dtype_promotion("standard"):
        assert rj.unroll(cell, params, xs)[1].dtype == jnp.float32
    with jax.numpy_dtype_promotion("strict"), pytest.raises(Exception, match="bfloat16"):
        rj.unroll(cell, params, xs)


def test_a_bfloat16_network_in_flax_becomes_float32_where_ours_does_not():
    """flax RNN: the start is made in param_dtype's default float32, and everything after it is float32 without a word."""
    import flax.linen as nn

    xs = jnp.asarray(data(0, B, 3, I), jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        module = nn.RNN(nn.SimpleCell(H))
        variables = jax.tree.map(lambda a: a.astype(jnp.bfloat16), module.init(jax.random.key(0), xs))
        assert module.apply(variables, xs).dtype == jnp.float32
        layer, params = rj.interop.from_flax(module, variables)
        assert layer(params, xs, time_axis=1)[1].dtype == jnp.bfloat16
