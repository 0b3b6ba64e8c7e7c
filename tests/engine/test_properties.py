"""What the engine promises about its programs, counted in jaxprs; export; errors; `explain`."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from zoo import ZOO

import rnnjax as rj
import rnnjax.engine as engine
from rnnjax import _jax
from rnnjax.engine import plan, schedule
from rnnjax.engine.execute import ways

T, B = 6, 5  # sizes that no weight of the zoo's cells has


def loops(jaxpr):
    """All scan equations of a jaxpr, nested ones too."""
    return (e for e in _jax.equations(jaxpr) if e.primitive.name == "scan")


def products(jaxpr):
    return (e for e in _jax.equations(jaxpr) if e.primitive.name in ("dot_general", "conv_general_dilated"))


def body(eqn):
    return _jax.open_jaxpr(_jax.loop_of_scan(eqn).body)[0]


def over_time(jaxpr):
    """The loops over time; a cell may build its matrix in a loop of its own, once."""
    return [e for e in loops(jaxpr) if _jax.loop_of_scan(e).length == T]


def carried_shapes(jaxpr):
    for eqn in over_time(jaxpr):
        loop = _jax.loop_of_scan(eqn)
        yield from (v.aval.shape for v in eqn.invars[loop.num_consts :][: loop.num_carry])


def gradient_jaxpr(entry, **options):
    x = jax.ShapeDtypeStruct((B, *entry.x), jnp.float32)
    params = jax.eval_shape(lambda: entry.cell.init(jax.random.key(0), jnp.zeros(x.shape)))
    weights = jax.tree.leaves(params)

    def loss(params, xs):
        carry = entry.cell.initial_carry(params, xs[0])
        _, ys = engine.scan(lambda c, x: entry.cell(params, c, x), carry, xs, **options)
        return sum(jnp.sum(y) for y in jax.tree.leaves(ys))

    xs = jax.ShapeDtypeStruct((T, *x.shape), x.dtype)
    return jax.make_jaxpr(jax.grad(loss))(params, xs).jaxpr, weights


@pytest.mark.parametrize("entry", ZOO, ids=lambda e: e.id)
def test_no_loop_accumulates_a_weight(entry):
    """With fuse="all" no loop of the gradient carries an array of a weight's shape."""
    jaxpr, weights = gradient_jaxpr(entry, fuse="all")
    shapes = {w.shape for w in weights if w.ndim > 1} | {w.shape[::-1] for w in weights if w.ndim > 1}
    assert list(loops(jaxpr))
    assert not shapes & set(carried_shapes(jaxpr))


@pytest.mark.parametrize("cell", [rj.LSTM(4), rj.GRU(4), rj.Elman(4)], ids=repr)
def test_no_input_product_in_a_loop(cell):
    entry = type(ZOO[0])(cell)
    jaxpr, _ = gradient_jaxpr(entry, fuse="all")
    plain, _ = gradient_jaxpr(entry, fuse=False)
    inside = lambda j: [v.aval.shape for e in loops(j) for p in products(body(e)) for v in p.invars]
    assert any(3 in shape for shape in inside(plain))  # the count sees them where they are
    assert not any(3 in shape for shape in inside(jaxpr))


def test_a_weight_per_gate_makes_one_product():
    """As many products in the loops of a gradient, and arrays stacked in them, as with one weight for all gates."""
    p = lstm_weights()

    def loss(p, xs, apart):
        w, u, b = (jnp.split(p[k], 4, -1) if apart else p[k] for k in ("w", "u", "b"))

        def step(carry, x):
            h, c = carry
            if apart:
                i, f, g, o = (x @ w[n] + h @ u[n] + b[n] for n in range(4))
            else:
                i, f, g, o = jnp.split(x @ w + h @ u + b, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), c

        zero = jnp.zeros((B, 4))
        return jnp.sum(engine.scan(step, (zero, zero), xs, fuse="all")[1])

    def count(apart):
        jaxpr = jax.make_jaxpr(jax.grad(loss), static_argnums=2)(p, jnp.ones((T, B, 3)), apart).jaxpr
        return [(len(list(products(body(e)))), len(e.outvars)) for e in over_time(jaxpr)]

    assert count(True) == count(False)
    assert all(n == 1 for n, _ in count(True))


def lstm_loss(fuse):
    def loss(p, xs):
        def step(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(x @ p["w"] + h @ p["u"] + p["b"], 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((xs.shape[1], p["u"].shape[0]), xs.dtype)
        return jnp.sum(engine.scan(step, (zero, zero), xs, fuse=fuse)[1] ** 2)

    return loss


def lstm_weights(n=3, h=4):
    key = jax.random.key(0)
    return dict(w=jax.random.normal(key, (n, 4 * h)), u=jax.random.normal(key, (h, 4 * h)), b=jnp.zeros(4 * h))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    xs = jnp.zeros((T, B, 3))
    for f in (lstm_loss(True), jax.grad(lstm_loss(True))):
        exported = jax.export.export(jax.jit(f), platforms=(platform,))(lstm_weights(), xs)
        assert exported.platforms == (platform,)


def test_memory_is_no_larger_than_that_of_lax_scan_and_falls_with_checkpoint():
    """Temporaries of the compiled gradient, at 400 steps."""
    xs, p = jnp.zeros((400, 8, 16)), lstm_weights(16, 16)

    def size(scan_options):
        def loss(p, xs):
            step = lambda h, x: (jnp.tanh(x @ p["w"][:, :16] + h @ p["u"][:, :16]),) * 2
            return jnp.sum(engine.scan(step, jnp.zeros((8, 16)), xs, **scan_options)[0])

        return jax.jit(jax.grad(loss)).lower(p, xs).compile().memory_analysis().temp_size_in_bytes

    plain = size(dict(fuse=False))
    assert size({}) <= max(1.2 * plain, schedule.SMALL)  # JAX 0.12's lax.scan takes 0.4 MiB here, ours 1.0
    assert size(dict(checkpoint="sqrt")) <= 0.5 * plain


def test_no_retracing():
    loss = jax.jit(lstm_loss(True))
    for _ in range(3):
        loss(lstm_weights(), jnp.zeros((T, B, 3)))
    assert loss._cache_size() == 1


# --- errors


BAD = {
    "carry type": (lambda h, x: (h.astype(jnp.int32), x), jnp.zeros(2), jnp.zeros((3, 2)), {}),
    "carry structure": (lambda h, x: ((h, h), x), jnp.zeros(2), jnp.zeros((3, 2)), {}),
    "carry shape": (lambda h, x: (jnp.concatenate([h, h]), x), jnp.zeros(2), jnp.zeros((3, 2)), {}),
    "not a pair": (lambda h, x: h, jnp.zeros(2), jnp.zeros((3, 2)), {}),
    "lengths": (lambda h, x: (h, x), jnp.zeros(2), (jnp.zeros((3, 2)), jnp.zeros((4, 2))), {}),
    "length": (lambda h, x: (h, x), jnp.zeros(2), jnp.zeros((3, 2)), dict(length=5)),
    "no length": (lambda h, x: (h, x), jnp.zeros(2), None, {}),
    "inside": (lambda h, x: (h + jnp.zeros(3), x), jnp.zeros(2), jnp.zeros((3, 2)), {}),
}


@pytest.mark.parametrize("checkpoint", [None, 2])
@pytest.mark.parametrize("case", BAD)
def test_same_errors_as_lax_scan(case, checkpoint):
    f, init, xs, options = BAD[case]
    with pytest.raises(Exception) as theirs:
        jax.lax.scan(f, init, xs, **options)
    with pytest.raises(type(theirs.value)) as ours:
        engine.scan(f, init, xs, checkpoint=checkpoint, **options)
    assert str(ours.value).splitlines()[0] == str(theirs.value).splitlines()[0]


def test_own_errors():
    f, init, xs = lambda h, x: (h, x), jnp.zeros(2), jnp.zeros((3, 2))
    with pytest.raises(ValueError, match="fuse must be one of"):
        engine.scan(f, init, xs, fuse="some")
    with pytest.raises(ValueError, match="checkpoint must be"):
        engine.scan(f, init, xs, checkpoint=0)


def test_effects_are_kept():
    seen = []

    def step(h, x):
        jax.debug.callback(lambda v: seen.append(int(v)), x, ordered=True)
        return h + x, h

    carry, _ = jax.jit(lambda xs: engine.scan(step, 0, xs))(jnp.arange(4))
    jax.effects_barrier()
    assert int(carry) == 6
    assert sorted(seen) == [0, 1, 2, 3]
    assert "effects" in engine.explain(step, 0, jnp.arange(4)).decision


def test_forward_mode_of_custom_vjp_is_refused_as_by_lax_scan():
    @jax.custom_vjp
    def f(h):
        return jnp.sin(h)

    f.defvjp(lambda h: (f(h), h), lambda h, d: (d,))
    w = jnp.eye(2)
    run = lambda scan: jax.jvp(lambda h: scan(lambda h, x: (f(h) @ w, x), h, jnp.ones((3, 2)))[0],
                               (jnp.ones(2),), (jnp.ones(2),))  # fmt: skip
    with pytest.raises(TypeError) as theirs:
        run(jax.lax.scan)
    with pytest.raises(TypeError) as ours:
        run(engine.scan)
    assert str(ours.value).splitlines()[0] == str(theirs.value).splitlines()[0]


# --- explain and the plan


def test_explain_names_every_product():
    w, u, out = jnp.ones((3, 4)), jnp.eye(4), jnp.ones((4, 2))

    def step(h, x):
        h = jnp.tanh(x @ w + h @ u) * jnp.sum(h @ h.T)
        return h, h @ out

    found = rj.explain(step, jnp.zeros((B, 4)), jnp.ones((T, B, 3)))
    assert [r.fate for r in found.rows] == ["hoisted", "deferred", "left", "after"]
    assert found.fused
    text = str(found)
    for word in (
        "test_properties.py",
        "float32[5,3] @ float32[3,4]",
        "both operands need the carry",
        "through time whole",
    ):
        assert word in text
    assert repr(found) == text


@pytest.mark.parametrize(("fuse", "fates"), [("hoist", ["hoisted", "left"]), ("defer", ["deferred", "deferred"]),
                                             (False, ["left", "left"])])  # fmt: skip
def test_explain_by_mode(fuse, fates):
    w, u = jnp.ones((3, 4)), jnp.eye(4)
    step = lambda h, x: (jnp.tanh(x @ w + h @ u), h)
    assert [r.fate for r in rj.explain(step, jnp.zeros((B, 4)), jnp.ones((T, B, 3)), fuse=fuse).rows] == fates


def test_explain_plain():
    found = rj.explain(lambda h, x: (h * x, h), jnp.ones(3), jnp.ones((4, 3)))
    assert not found.fused
    assert "plain lax.scan: nothing to hoist" in str(found)


def test_the_way_through_time_follows_from_shapes():
    w, u = jnp.ones((64, 256)), jnp.ones((64, 256))

    def way(steps, batch, inputs=64):
        step = lambda h, x: (jnp.tanh(x @ w[:inputs] + h @ u)[:, :64],) * 2
        traced = engine.api.trace(step, jnp.zeros((batch, 64)), jnp.zeros((steps, batch, inputs)), None, False, 1)
        return ways.gradient_schedule(plan.make_plan(traced, True), steps)

    assert way(100, 4).blocks == 1
    assert way(1000, 64).blocks > 4
    assert 1000 % way(1000, 64).blocks == 0
    assert way(1009, 64).blocks == 1  # a prime number of steps cannot be cut evenly


def test_the_cheapest_way_is_taken():
    sizes = schedule.Sizes(hoisted=2**18, taps=2**18, stored=2**19)
    assert schedule.choose(16, sizes) == schedule.Schedule()  # fits as it is
    assert schedule.choose(48, sizes) == schedule.Schedule(6)  # fits in blocks
    cheap = dataclasses.replace(sizes, kept=2**17, again=2**18, curves=2**18, loop=10**6, can_replay=True)
    assert schedule.choose(112, cheap).replay  # fits if little is kept
    dear = dataclasses.replace(cheap, loop=10**9)
    assert not schedule.choose(112, dear).replay
