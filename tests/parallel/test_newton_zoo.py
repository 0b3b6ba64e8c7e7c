"""Newton's method equals the loop, values and gradients, for every cell of the zoo that has derivatives.

The slow part takes every eighth; ``NEWTON_ZOO=1 pytest -m slow tests/parallel/test_newton_zoo.py`` takes all.
"""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo import ZOO, Entry

import rnnjax as rj

T, B = 4, 2
EVERY = int(os.environ.get("NEWTON_ZOO", "8"))


def compare(entry: Entry, *methods: str) -> None:
    cell, rng = entry.cell, np.random.default_rng(0)
    with jax.enable_x64(True):
        xs = jnp.asarray(rng.normal(size=(T, B, *entry.x)))
        params = jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape), cell.init(jax.random.key(0), xs[0]))
        if not all(jnp.issubdtype(a.dtype, jnp.inexact) for a in jax.tree.leaves(cell.initial_carry(params, xs[0]))):
            with pytest.raises(TypeError, match="needs a floating point carry"):
                jax.eval_shape(lambda p, xs: rj.unroll(cell, p, xs, method="deer"), params, xs)
            return
        how = dict(key=jax.random.key(1) if entry.noisy else None, lengths=np.array([T, 2]))

        def loss(params, xs, method):
            out = rj.unroll(cell, params, xs, method=method, **how)
            return sum(jnp.sum(jnp.sin(a.real)) for a in jax.tree.leaves(out)), out

        run = lambda p, xs: [jax.grad(loss, (0, 1), has_aux=True)(p, xs, m) for m in ("scan", *methods)]
        wanted, *found = jax.device_get(jax.jit(run)(params, xs))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7 * entry.tolerance, atol=1e-8 * entry.tolerance)
    for got in found:
        jax.tree.map(close, got, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("entry", ZOO[::EVERY], ids=lambda e: e.id)
def test_newton_is_the_loop(entry: Entry) -> None:
    compare(entry, "deer")


@pytest.mark.parametrize("cell", [rj.MGU(4), rj.Clockwork(4, periods=(1, 2))], ids=repr)
def test_newton_is_the_loop_or_says_why_it_cannot_be(cell) -> None:
    compare(Entry(cell), "deer")
