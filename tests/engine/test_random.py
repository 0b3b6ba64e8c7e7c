"""Random bodies by hypothesis: whatever is composed, `scan` equals `lax.scan`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine.test_equality import FAST
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rnnjax.engine as engine

N, STEPS = 4, 3  # every value is [2, N], every weight [N, N]

UNARY = {
    "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "sin": jnp.sin, "negate": jnp.negative,
    "halves": lambda a: jnp.concatenate(jnp.split(a, 2, -1)[::-1], -1),
    "slices": lambda a: jnp.concatenate([a[:, 2:3], a[:, :2], a[:, 3:]], -1),
    "softmax": lambda a: jax.nn.softmax(a, -1), "relu": jax.nn.relu,
    "norm": lambda a: a - a.mean(-1, keepdims=True), "turn": lambda a: a[:, ::-1],
    "inner": lambda a: jax.lax.fori_loop(0, 2, lambda _, b: jnp.sin(b + 0.1), a),
}  # fmt: skip
BINARY = {
    "add": jnp.add, "sub": jnp.subtract, "mul": jnp.multiply, "max": jnp.maximum,
    "where": lambda a, b: jnp.where(a > b, a, 0.5 * b),
}  # fmt: skip
WEIGHTED = {
    "product": lambda a, w: a @ w, "transposed": lambda a, w: a @ w.T, "left": lambda a, w: (w @ a.T).T,
    "scale": lambda a, w: a * w[0], "bias": lambda a, w: a + w[1], "square": lambda a, w: a @ (w @ w),
    "joined": lambda a, w: jnp.concatenate([a, jnp.tanh(a)], -1) @ jnp.concatenate([w, w.T]),
    "einsum": lambda a, w: jnp.einsum("bi,ij,bj->bj", a, w, a), "row": lambda a, w: w[jnp.argmax(a[0])] + a,
}  # fmt: skip

NODES = st.one_of(
    st.tuples(st.sampled_from(sorted(UNARY)), st.integers(0, 99)),
    st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 99), st.integers(0, 99)),
    st.tuples(st.sampled_from(sorted(WEIGHTED)), st.integers(0, 99), st.integers(0, 1)),
)
PROGRAMS = st.tuples(st.lists(NODES, min_size=3, max_size=9), st.tuples(*[st.integers(0, 99)] * 3))


def make_body(program):
    """A body of two carries, one input and one output from a list of nodes; a node names its operands by position."""
    nodes, outs = program

    def body(p, carry, x):
        values = [*carry, x]
        for name, first, *rest in nodes:
            a = values[first % len(values)]
            if name in UNARY:
                values.append(UNARY[name](a))
            elif name in BINARY:
                values.append(BINARY[name](a, values[rest[0] % len(values)]))
            else:
                values.append(WEIGHTED[name](a, p[rest[0]]))
        h, c, y = (values[n % len(values)] for n in outs)
        return (jnp.tanh(h), 0.5 * jnp.tanh(c)), y

    return body


def check(program, fuse, reverse):
    rng = np.random.default_rng(0)
    p, carry, xs = (jnp.asarray(rng.standard_normal(s) * 0.5) for s in ((2, N, N), (2, 2, N), (STEPS, 2, N)))
    body = make_body(program)

    def everything(scan):
        def loss(p, carry, xs):
            (h, c), ys = scan(lambda s, x: body(p, s, x), (carry[0], carry[1]), xs, reverse=reverse)
            return jnp.sum(ys * jnp.cos(ys)) + jnp.sum(h) - jnp.sum(c**2), ys

        return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(p, carry, xs)

    def both():
        return everything(jax.lax.scan), everything(lambda *a, **k: engine.scan(*a, fuse=fuse, **k))

    theirs, ours = jax.jit(both, compiler_options=FAST)()
    for a, b in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(PROGRAMS, st.sampled_from([True, "all", "hoist", "defer"]), st.booleans())
def test_random_bodies(program, fuse, reverse):
    with jax.enable_x64(True):
        check(program, fuse, reverse)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(PROGRAMS, st.sampled_from([True, "all", "hoist", "defer"]), st.booleans())
def test_many_random_bodies(program, fuse, reverse):
    with jax.enable_x64(True):
        check(program, fuse, reverse)
