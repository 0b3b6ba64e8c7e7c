"""Each rewrite alone: a graph has the values that it had before, and the form that was wanted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.engine import passes
from rnnjax.engine.binding_times import binding_times
from rnnjax.engine.capture import trace
from rnnjax.engine.graph import Eqn, Graph, Var, checked, evaluate, read

H, I = 4, 3


def random_body(seed):
    """Slices, splits, concatenations, sums and products of a carry and an input with constants."""
    draw = np.random.default_rng(seed)
    weight = lambda n, m: jnp.asarray(draw.normal(size=(n, m)), jnp.float32)
    u, v, w, b = weight(H, 3 * H), weight(H, 3 * H), weight(I + H, 3 * H), weight(1, 3 * H)
    pick = draw.integers(0, 2, 4)

    def body(h, x):
        wide = jnp.concatenate([x, h], -1) @ w if pick[0] else x @ w[:I] + h @ u
        wide = wide + b + (h @ v if pick[1] else 0.5)
        if pick[2]:
            i, f, g = wide[:, :H], wide[:, H : 2 * H], wide[:, 2 * H :]
        else:
            i, f, g = jnp.split(wide, 3, -1)
        h = jnp.tanh(i) * h + (f if pick[3] else jax.nn.sigmoid(f)) * g
        return h, (h @ u[:, :2], wide[:, 1:3])

    return body


def values_of(graph, seed):
    draw = np.random.default_rng(seed)
    env = {**graph.consts, **{v: jnp.asarray(draw.normal(size=v.shape), v.dtype) for v in graph.ins}}
    evaluate(graph.eqns, env)
    return [read(env, a) for a in graph.outs]


PASSES = {one.__name__: lambda g, one=one: one(g, 1, binding_times(g, 1)) for one in passes.ORDER} | {
    "all": lambda g: passes.rewrite(g, 1, True)
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", PASSES)
def test_values_are_those_before(name, seed):
    graph = trace(random_body(seed), jnp.ones((2, H)), jnp.ones((5, 2, I)), None, False, 1).graph
    after = checked(PASSES[name](graph))
    for got, want in zip(values_of(after, seed), values_of(graph, seed), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)


def test_a_graph_that_is_out_of_order_is_told():
    a, b, c = (Var(jax.typeof(np.zeros(2, np.float32))) for _ in range(3))
    first, then = (Eqn(jax.lax.tanh_p, {}, [x], [y]) for x, y in ((a, b), (b, c)))
    checked(Graph({}, [a], [first, then], [c]))
    for eqns, outs, says in (
        ([then, first], [c], "not made yet"),
        ([first, first], [b], "again"),
        ([first], [c], "output"),
    ):
        with pytest.raises(AssertionError, match=says):
            checked(Graph({}, [a], eqns, outs))
