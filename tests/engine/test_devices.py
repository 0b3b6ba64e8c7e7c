"""A body cut down to a part of the examples gives that part of what the whole gives; where examples meet it is not cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax import _jax
from rnnjax.engine import devices, examples
from rnnjax.engine.capture import trace
from rnnjax.engine.parts import Cut, part

B, H, PARTS = 6, 4, 2
KEYS = jax.random.split(jax.random.key(0), 6)
W, V = jax.random.normal(KEYS[0], (H, 3 * H)), jax.random.normal(KEYS[1], (H, H, 2))
CARRY = jax.random.normal(KEYS[2], (B, H)), jax.random.normal(KEYS[3], (B, H, H)), jnp.arange(B), jnp.array(3)
XS = jax.random.normal(KEYS[4], (5, B, H)), jnp.arange(5.0)
KERNEL = jax.random.normal(KEYS[5], (3, 1, 1))


def gates(carry, x):
    h, m, n, k = carry
    i, f, g = jnp.split(x[0] @ W + jnp.concatenate([h, m[:, 0]], 1)[:, 2 : 2 + H] @ W + W[0], 3, -1)
    return (jax.nn.sigmoid(i) * h + jnp.tanh(f), m / 2, n + 1, k + 1), (g, x[1] * h)


def memory(carry, x):
    h, m, n, k = carry
    m = 0.9 * m + h[:, :, None] * x[0][:, None, :] + jnp.einsum("bij,bj->bi", m, h)[..., None]
    h = jnp.where((n > 2)[:, None], jnp.einsum("hio,bi->boh", V, h)[:, 0], h)
    return (h, m, jnp.maximum(n, k), k * 2), (m.sum(1), jnp.max(m, (1, 2)), jnp.argmax(h, -1), k)


def shapes(carry, x):
    h, m, n, k = carry
    a = jnp.pad(m.reshape(B, H * H)[:, ::2], ((0, 0), (1, 2)))[:, :H] + jnp.cumsum(h, 1)[:, ::-1]
    ones = jnp.ones((B, 1)) * jnp.arange(float(H)) + jax.lax.broadcasted_iota(jnp.float32, (B, H), 1)
    m = jnp.transpose(m, (0, 2, 1)) + a[:, None, :] + ones[:, None].transpose(0, 2, 1)
    return (a / B, m.reshape(B, 2, 2, H).reshape(B, H, H), n * k, k + 1), m[:, 1:3].squeeze().T


def picture(carry, x):
    h, m, n, k = carry
    out = jax.lax.conv_general_dilated(h[..., None], KERNEL, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"))
    return (jnp.tanh(out.squeeze(-1) + x[0]), m / 2, n * k, k + 1), out


@jax.custom_vjp
def spike(v):
    return (v > 0).astype(v.dtype)


spike.defvjp(lambda v: (spike(v), v), lambda v, g: (g / (1 + jnp.abs(v)) ** 2,))


@jax.custom_vjp
def centred(v):
    return jnp.tanh(v)


centred.defvjp(lambda v: (jnp.tanh(v), v), lambda v, g: (g - g.mean(0),))


def rules(carry, x):
    """Functions with derivative rules of their own; that of softplus calls itself."""
    h, m, n, k = carry
    v = jax.nn.relu(h + x[0]) - jax.nn.softplus(x[0])
    return (v * (1 - spike(v - 1)), m / 2, n + 1, k + 1), jax.nn.log_sigmoid(v @ W)


BODIES = [gates, memory, shapes, picture, rules]


def followed(body, carry=CARRY, xs=XS):
    """(the call as traced, its body, which axis of each value counts examples)."""
    one = trace(body, carry, xs, None, False, 1)
    graph = devices.constants_first(one.graph)
    calls = examples.opened(graph.eqns)
    axis_of = examples.follow(graph, one.num_carry, devices.first_axes(graph, one.num_carry), PARTS, calls)
    return one, graph, Cut(axis_of, PARTS, "parts", calls)


def nth(names, values, axis_of, n):
    """Part n of each value that has examples."""
    return [jnp.split(v, PARTS, axis_of[a])[n] if a in axis_of else v for a, v in zip(names, values, strict=True)]


@pytest.mark.parametrize("body", BODIES, ids=lambda b: b.__name__)
def test_a_part_of_the_examples_gives_that_part_of_the_results(body):
    one, graph, cut = followed(body)
    axis_of = cut.axis_of
    assert axis_of and devices.may_part(graph, one.num_carry, axis_of, cut.calls)
    step = part(graph, one.num_carry, cut)
    x = jax.tree.map(lambda v: v[1], XS)
    whole = jax.tree.leaves(body(CARRY, x))
    for n in range(PARTS):
        given = nth(graph.ins, jax.tree.leaves((CARRY, x)), axis_of, n)
        consts = nth(graph.consts, list(graph.consts.values()), axis_of, n)
        new, out = step(consts, given[: one.num_carry], given[one.num_carry :])
        for got, want in zip([*new, *out], nth(graph.outs, whole, axis_of, n), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


MEET = {
    "mean over the batch": lambda h, x: (jnp.tanh(h - h.mean(0)), x),
    "product over the batch": lambda h, x: (jnp.tanh(h + (h @ h.T) @ x), x),
    "every pair": lambda h, x: (h, h @ x.T),
    "reversed": lambda h, x: (jnp.tanh(h[::-1] + x), x),
    "neighbours": lambda h, x: (jnp.concatenate([x[:1], h[1:]]), x),
    "two in one axis": lambda h, x: (jnp.tanh(h.reshape(B * H)[::-1].reshape(B, H)), x),
    "a number for each": lambda h, x: (
        h * jnp.arange(float(B))[:, None] + jnp.arange(B * H, dtype=h.dtype).reshape(B, H),
        x,
    ),
    "noise": lambda h, x: (h + jax.random.normal(jax.random.wrap_key_data(jnp.uint32(h[0, :2])), (B, H)), x),
    "a rule with a mean": lambda h, x: (centred(h + x), x),
    "sorted": lambda h, x: (jnp.sort(h, 0), x),
    "a shared mean": lambda h, x: (jnp.tanh(h + x), jnp.sum(h * x)),
}


@pytest.mark.parametrize("name", [n for n in MEET if n != "a number for each"])
def test_where_examples_meet_the_loop_is_left_whole(name):
    assert not followed(MEET[name], CARRY[0], XS[0])[2].axis_of


def test_what_is_made_of_constants_alone_is_one_more_constant():
    _, graph, cut = followed(MEET["a number for each"], CARRY[0], XS[0])
    assert cut.axis_of and all(e.name in ("mul", "add") for e in graph.eqns)
    assert sorted(v.shape for v in graph.consts) in ([(B, 1), (B, H)], [(B, H), (B, H)])


def test_a_batch_that_the_devices_do_not_divide_is_left_whole():
    assert not followed(lambda h, x: (jnp.tanh(h + x), x), CARRY[0][:5], XS[0][:, :5])[2].axis_of


def test_noise_of_one_key_is_drawn_for_all_and_each_takes_its_own():
    body = lambda h, x: (jnp.tanh(h + x[0]) * jax.random.uniform(x[1], h.shape), h * jax.random.normal(x[1], h.shape))
    xs = XS[0], jax.random.split(jax.random.key(7), len(XS[0]))
    one, graph, cut = followed(body, CARRY[0], xs)
    step, x = part(graph, 1, cut), jax.tree.map(lambda a: a[1], xs)
    split = lambda a: a.reshape(PARTS, B // PARTS, H)
    consts = list(graph.consts.values())
    got = jax.vmap(lambda h, v: step(consts, [h], [v, x[1]]), axis_name="parts")(split(CARRY[0]), split(x[0]))
    for a, b in zip(jax.tree.leaves(got), body(CARRY[0], x), strict=True):
        np.testing.assert_allclose(a.reshape(B, H), b, rtol=1e-5, atol=1e-6)


def test_a_rule_that_refuses_is_left_alone():
    """Forward alone it is never asked; the loop stays whole, and says nothing."""

    @jax.custom_vjp
    def forward_only(v):
        return jnp.tanh(v)

    def refuse(_, g):
        raise RuntimeError("forward only")

    forward_only.defvjp(lambda v: (forward_only(v), None), refuse)
    body = lambda h, x: (forward_only(h + x), x)
    with pytest.raises(_jax.Unsupported, match="forward only"):
        followed(body, CARRY[0], XS[0])
    mesh = jax.make_mesh((1,), ("parts",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        place = lambda a, *spec: jax.device_put(a, jax.NamedSharding(mesh, jax.P(*spec)))
        given = place(CARRY[0], "parts"), place(XS[0], None, "parts")
        got = rj.scan(body, *given)[0]
    np.testing.assert_allclose(got, jax.lax.scan(body, CARRY[0], XS[0])[0], rtol=1e-5, atol=1e-6)


def test_derivatives_of_a_rule_that_calls_its_own_function():
    """Three are those of the whole, a fourth is refused by name."""
    _, graph, cut = followed(lambda h, x: (jax.nn.softplus(h * x), x), CARRY[0], XS[0])
    step, few = part(graph, 1, cut), slice(0, B // PARTS)
    h, x = CARRY[0][few], XS[0][1][few]
    ours, theirs = lambda h: step([], [h], [x])[0][0].sum(), lambda h: jax.nn.softplus(h * x).sum()
    for _ in range(examples.DERIVATIVES):
        ours, theirs = (lambda h, f=f: jax.grad(f)(h).sum() for f in (ours, theirs))
    np.testing.assert_allclose(ours(h), theirs(h), rtol=1e-4, atol=1e-5)
    with pytest.raises(NotImplementedError, match="fuse=False"):
        jax.grad(ours)(h)
