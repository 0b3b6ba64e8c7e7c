"""`matmul_dtype`: products with constants on narrow operands with wide sums, in all three places."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine.bodies import BODIES
from engine.test_properties import lstm_weights, products

import rnnjax.engine as engine
from rnnjax import _jax

XS = jax.random.normal(jax.random.key(1), (6, 5, 3))


def loss_with(scan, p, xs, **options):
    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ p["w"] + h @ p["u"] + p["b"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((xs.shape[1], 4), xs.dtype)
    return jnp.sum(jnp.sin(scan(step, (zero, zero), xs, **options)[1]))


def gradient(p, xs, **options):
    return jax.jit(jax.value_and_grad(lambda p, xs: loss_with(engine.scan, p, xs, **options), (0, 1)))(p, xs)


def operand_dtypes(jaxpr):
    products = (e for e in _jax.equations(jaxpr) if e.primitive is _jax.low_product_p)
    return (str(_jax.inner_product(e.params)[2]) for e in products)


@pytest.mark.parametrize("fuse", [True, "all", "defer", False])
def test_close_to_wide_products_and_all_products_are_narrow(fuse):
    p = lstm_weights()
    wide, narrow = gradient(p, XS), gradient(p, XS, matmul_dtype=jnp.bfloat16, fuse=fuse)
    for a, b in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05 * float(jnp.abs(a).max()))
        assert not np.allclose(a, b, rtol=1e-7, atol=0)
    f = jax.grad(lambda p, xs: loss_with(engine.scan, p, xs, matmul_dtype=jnp.bfloat16, fuse=fuse), (0, 1))
    jaxpr = jax.make_jaxpr(f)(p, XS).jaxpr
    assert not list(products(jaxpr))  # every product is a narrow one
    assert set(operand_dtypes(jaxpr)) == {"bfloat16"}


def test_equals_products_of_rounded_operands():
    """One linear step against the definition: operands rounded to bfloat16, sums in float32, forward and backward."""
    w, xs = jax.random.normal(jax.random.key(0), (8, 8)), jax.random.normal(jax.random.key(1), (2, 5, 8))
    up = jax.random.normal(jax.random.key(2), (2, 5, 8))
    rounded = lambda a: a.astype(jnp.bfloat16).astype(jnp.float32)

    def ys(w, xs):
        return engine.scan(lambda h, x: (h, x @ w), jnp.zeros(()), xs, matmul_dtype=jnp.bfloat16)[1]

    out, back = jax.vjp(ys, w, xs)
    dw, dx = back(up)
    np.testing.assert_allclose(out, rounded(xs) @ rounded(w), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dw, jnp.einsum("tbi,tbj->ij", rounded(xs), rounded(up)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, rounded(up) @ rounded(w).T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["convolution", "block_diagonal", "tied_and_transposed"])
def test_the_same_dtype_changes_nothing(name):
    """float64 products on float64 operands: the narrow product's own rules against `lax.scan`, to second order."""
    with jax.enable_x64(True):
        body = BODIES[name]()

        def loss(scan):
            return lambda p: jnp.sum(jnp.sin(scan(lambda c, x: body.step(p, c, x), body.carry, body.xs)[1]))

        def hessian_product(scan):
            return jax.jvp(jax.grad(loss(scan)), (body.p,), (body.p,))

        a = jax.jit(lambda: hessian_product(jax.lax.scan))()
        b = jax.jit(lambda: hessian_product(lambda *x: engine.scan(*x, matmul_dtype=jnp.float64)))()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9)


def test_vmap_over_weights():
    many = jax.tree.map(lambda a: jnp.stack([a, -a]), lstm_weights())
    f = lambda p: loss_with(engine.scan, p, XS, matmul_dtype=jnp.bfloat16)
    together = jax.jit(jax.vmap(jax.value_and_grad(f)))(many)
    for n in range(2):
        alone = jax.jit(jax.value_and_grad(f))(jax.tree.map(lambda a, n=n: a[n], many))
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(a, b[n], rtol=2e-2, atol=2e-2)


def test_a_loop_that_stays_as_it_is_keeps_the_dtype_of_its_products():
    """With an ordered effect in the body, and in a loop of a single step."""
    seen = []

    def with_effect(f, carry, xs, **options):
        def noisy(carry, x):
            jax.debug.callback(lambda h: seen.append(h), carry[0][0, 0], ordered=True)
            return f(carry, x)

        return engine.scan(noisy, carry, xs, **options)

    p = lstm_weights()
    want = loss_with(engine.scan, p, XS, matmul_dtype=jnp.bfloat16)
    wide = loss_with(engine.scan, p, XS)
    got = loss_with(with_effect, p, XS, matmul_dtype=jnp.bfloat16)
    jax.effects_barrier()
    assert len(seen) == len(XS)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert abs(got - want) < abs(got - wide) / 10
    jaxpr = jax.make_jaxpr(lambda p: loss_with(engine.scan, p, XS[:1], matmul_dtype=jnp.bfloat16))(p).jaxpr
    assert set(operand_dtypes(jaxpr)) == {"bfloat16"}
