"""A carry that is stored once and shifted, then folded over time, in one compiled program.

XLA's CPU backend gets `base.at[1:].set(base[:-1]).reshape(...)` wrong where base is made in the same program
(openxla/xla#49176): it writes in place what it has yet to read. The engine shifts by `concatenate`, which it does not turn
into that update; these numbers, whole in floats, would tell if a release did.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.engine.stacks import shift

SHAPES = [(4, 1, 1), (8, 2, 8), (64, 16, 3), (100, 1, 256)]


def whole_numbers(shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 17 - 8


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_shifted_stack_that_is_reshaped_in_the_same_program(shape, reverse):
    after, start = whole_numbers(shape), np.full(shape[1:], 100.0, np.float32)
    before = [*after[1:], start] if reverse else [start, *after[:-1]]
    for rows in ((-1, shape[-1]), (1, *shape)):
        got = jax.jit(lambda s, a, rows=rows: shift(s + 0, a + 0, reverse).reshape(rows))(start, after)
        np.testing.assert_array_equal(got, np.stack(before).reshape(rows))


@pytest.mark.parametrize("fuse", [True, "all", "defer"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_weight_gradient_from_a_shifted_carry_is_exact(shape, fuse):
    """``h' = h U + x`` at U = 1: the carries are running sums, dU is a sum of products of whole numbers."""
    xs = np.sign(whole_numbers(shape)) * (np.arange(shape[0]) % 5 == 0).reshape(-1, 1, 1).astype(np.float32)
    size = shape[-1]

    def loss(u):
        step = lambda h, x: (h @ u + x, None)
        return jnp.sum(rj.scan(step, jnp.zeros(shape[1:]), xs, fuse=fuse)[0])

    before = np.cumsum(np.concatenate([np.zeros((1, *shape[1:])), xs[:-1]]), 0)  # h before each step
    want = np.einsum("tbi,tbj->ij", before, np.ones(shape))  # the cotangent is 1 at every step
    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(jnp.eye(size)), want)
