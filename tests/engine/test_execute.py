"""The pieces that run a plan, each by itself: time in blocks and segments, one equation for all steps at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.engine.capture import to_graph
from rnnjax.engine.execute.batch import evaluate_stacked, flat_product, run_stacked
from rnnjax.engine.execute.segments import join_time, scan_segments, segment_length, split_time
from rnnjax.engine.execute.time import Time
from rnnjax.engine.graph import read

RNG = np.random.default_rng(0)
XS = jnp.asarray(RNG.normal(size=(12, 3)), jnp.float32)
STEP = lambda c, x: (0.5 * c + x.sum(), c + x[0])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("blocks", [1, 3, 12])
def test_blocks_of_time_are_time(blocks, reverse):
    want = jax.lax.scan(STEP, jnp.float32(1), XS, reverse=reverse)
    time = Time(12, reverse, blocks=blocks)
    number = jnp.arange(float(blocks))
    run = lambda carry, xs, n: (*time.scan(STEP, carry, xs), (n, carry))
    carry, ys, (order, starts) = time.over_blocks(run, jnp.float32(1), XS, number)
    np.testing.assert_allclose(carry, want[0], rtol=1e-6)
    np.testing.assert_allclose(ys, want[1], rtol=1e-6)
    if blocks > 1:  # the value of each block, and the carry that it began with
        np.testing.assert_array_equal(order, number)
        firsts = want[1] - XS[:, 0]
        steps = 12 // blocks
        np.testing.assert_allclose(
            starts, firsts[steps - 1 :: steps] if reverse else firsts[::steps], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("segment", [1, 5, 12, 40])
def test_time_cut_and_joined(segment, reverse):
    body, tail = split_time(XS, 12, segment, reverse)
    assert body.shape == (12 // segment, segment, 3) and len(tail) == 12 % segment
    np.testing.assert_array_equal(join_time(body, tail, reverse), XS)
    run = lambda carry, xs, steps: jax.lax.scan(STEP, carry, xs, length=steps, reverse=reverse)
    want = jax.lax.scan(STEP, jnp.float32(1), XS, reverse=reverse)
    got = scan_segments(run, jnp.float32(1), XS, 12, segment, reverse)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, want)


def test_lengths_of_segments():
    assert [segment_length("sqrt", n) for n in (0, 1, 15, 16, 100)] == [1, 1, 3, 4, 10] and segment_length(7, 3) == 7
    for bad in (0, -1, True, 2.0, "log"):
        with pytest.raises(ValueError, match="checkpoint must be"):
            segment_length(bad, 10)


EQUATIONS = {
    "product": lambda x, w: x @ w,
    "turned": lambda x, w: w @ x,
    "of both": lambda x, w: x @ x.T @ w,
    "sum": lambda x, w: x.sum(0) + w[0],
    "sorted": lambda x, w: jnp.sort(x, -1),
    "cumulative": lambda x, w: jnp.cumsum(x, 0)[::-1],
    "branch": lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: -x),
    "constant": lambda x, w: w * 2,
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_all_steps_at_once_are_the_steps(name):
    f, w = EQUATIONS[name], jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)
    xs = jnp.asarray(RNG.normal(size=(4, 3, 3)), jnp.float32)
    graph = to_graph(jax.make_jaxpr(f)(xs[0], w))
    env = {**graph.consts, **dict(zip(graph.ins, (xs, w), strict=True))}
    stacked = {graph.ins[0]}
    evaluate_stacked(graph.eqns, env, stacked)
    got = read(env, graph.outs[0])
    assert (graph.outs[0] in stacked) is (name != "constant")
    want = [f(x, w) for x in xs]
    np.testing.assert_allclose(got, want[0] if name == "constant" else jnp.stack(want), rtol=1e-5, atol=1e-5)


def test_a_flat_product_is_one_product():
    eqn = to_graph(jax.make_jaxpr(lambda x, w: x @ w)(jnp.ones((2, 3)), jnp.ones((3, 4)))).eqns[-1]
    a, w = jnp.asarray(RNG.normal(size=(5, 2, 3))), jnp.asarray(RNG.normal(size=(3, 4)))
    np.testing.assert_allclose(flat_product(eqn, a, w), jnp.einsum("tbi,io->tbo", a, w), rtol=1e-5)
    np.testing.assert_allclose(run_stacked(eqn, [a, w], [True, False])[0], flat_product(eqn, a, w), rtol=1e-6)
    jaxpr = jax.make_jaxpr(lambda a: run_stacked(eqn, [a, w], [True, False])[0])(a)
    (product,) = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    assert [v.aval.shape for v in product.invars] == [(10, 3), (3, 4)]
