"""Step 1: a scan taken apart gives, step by step and put together again, what the body gives."""

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax import _jax
from rnnjax.engine.capture import lower_products, lowered, take_apart, to_graph, trace
from rnnjax.engine.graph import checked, evaluate, read

W = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)
H, XS = jnp.ones(3), jnp.arange(12.0).reshape(4, 3) / 12


@jax.jit
def inner(h, x):
    return jnp.tanh(h @ W + x)


def body(carry, x):
    h, k = carry
    h = jax.jit(lambda h: inner(h, x) * 2)(h)  # two nested jits: both opened
    return (h, k + 1), (h[:1], k)


def by_graph(one):
    """The loop by hand: the graph step by step, as its own words say."""
    carry, ys = list(one.init), []
    for t in range(one.length)[:: -1 if one.reverse else 1]:
        env = {**one.graph.consts, **dict(zip(one.graph.ins, [*carry, *(x[t] for x in one.xs)], strict=True))}
        evaluate(one.graph.eqns, env)
        outs = [read(env, a) for a in one.graph.outs]
        carry, y = outs[: one.num_carry], outs[one.num_carry :]
        ys.append(y)
    stacks = [jnp.stack(y[:: -1 if one.reverse else 1]) for y in zip(*ys, strict=True)]
    return one.finish([*carry, *stacks])


def same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert jnp.result_type(x) == jnp.result_type(y)
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)


def test_the_pieces_step_by_step_are_the_loop():
    for reverse in (False, True):
        one = trace(body, (H, 0), XS, None, reverse, 1)
        assert not any(e.name in ("jit", "pjit") for e in checked(one.graph).eqns)
        assert (one.length, one.reverse, one.num_carry) == (4, reverse, len(one.init))
        same(by_graph(one), jax.lax.scan(body, (H, 0), XS, reverse=reverse))
        same(one.plain(), jax.lax.scan(body, (H, 0), XS, reverse=reverse))


def test_a_carry_that_is_promoted_and_one_that_never_changes():
    def step(carry, x):
        h, fixed = carry
        return (h + x.sum() * fixed, fixed), None

    one = trace(step, (1, jnp.float32(2.0)), XS, None, False, 1)  # the whole number becomes a float
    same(by_graph(one), jax.lax.scan(step, (1, jnp.float32(2.0)), XS))


def test_what_is_not_taken_apart_says_why_and_runs_all_the_same():
    def prints(h, x):
        jax.debug.print("{}", h, ordered=True)
        return h + x.sum(), None

    one = trace(prints, jnp.float32(0), XS, None, False, 1)
    assert one.graph is None and "effects" in one.reason and not one.unknown
    with jax.disable_jit():
        one = trace(body, (H, 0), XS, None, False, 1)
    assert one.graph is None and one.reason == "jit is disabled"
    two = jax.make_jaxpr(lambda: [jax.lax.scan(body, (H, 0), XS)[0][0] for _ in range(2)])()
    try:
        take_apart(two, None, lambda: None)
    except _jax.Unsupported as error:
        assert "became 2 loops" in str(error)
    else:
        raise AssertionError("two loops were taken for one")


def test_products_with_constants_are_lowered_and_others_are_not():
    graph = to_graph(jax.make_jaxpr(lambda h, x: (h @ W, h @ x, h @ W.astype(jnp.bfloat16).astype(jnp.float32)))(H, W))
    low = [e.low for e in lower_products(graph, jnp.bfloat16).eqns if e.name == "dot_general"]
    assert low == [jnp.bfloat16, None, jnp.bfloat16] and all(e.low is None for e in graph.eqns)
    got = lowered(lambda h, x: (h @ W, x), jnp.bfloat16)(H, XS[0])[0]
    want = H.astype(jnp.bfloat16).astype(jnp.float32) @ W.astype(jnp.bfloat16).astype(jnp.float32)
    np.testing.assert_allclose(got, want, rtol=1e-5)
