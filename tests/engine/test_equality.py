"""`scan` equals `lax.scan`, which is the oracle: values, gradients, forward mode, second order."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine.bodies import BODIES
from jax import lax

import rnnjax.engine as engine
from rnnjax.engine import schedule
from rnnjax.engine.execute import ways

FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
NO_FORWARD_MODE = {"custom_vjp"}
SECOND_ORDER = ["lstm_split", "gru_slices", "tied_and_transposed", "readout", "masked", "embedding", "custom_jvp"]  # fmt: skip


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def is_float(x):
    return jnp.issubdtype(jnp.asarray(x).dtype, np.inexact) if not jax.dtypes.issubdtype(
        getattr(x, "dtype", np.float64), jax.dtypes.prng_key) else False  # fmt: skip


def split_floats(tree):
    """(the float leaves, a function that puts them back)."""
    leaves, treedef = jax.tree.flatten(tree)
    at = [n for n, x in enumerate(leaves) if is_float(x)]

    def join(floats):
        new = list(leaves)
        for n, x in zip(at, floats, strict=True):
            new[n] = x
        return jax.tree.unflatten(treedef, new)

    return [jnp.asarray(leaves[n]) for n in at], join


def loss_of(scan, body, **options):
    """(a scalar loss of all float inputs, those inputs)."""
    at, join = split_floats((body.p, body.carry, body.xs))

    def loss(at):
        p, carry, xs = join(at)
        out = scan(lambda c, x: body.step(p, c, x), carry, xs, body.length, **options)
        floats, _ = split_floats(out)
        weights = [jnp.asarray(np.random.default_rng(7).standard_normal(v.shape), v.dtype) for v in floats]
        total = sum((jnp.sum(jnp.real(v * w)) for v, w in zip(floats, weights, strict=True)), jnp.zeros(()))
        return total, [jax.random.key_data(v) if jax.dtypes.issubdtype(v.dtype, jax.dtypes.prng_key) else v
                       for v in jax.tree.leaves(out)]  # fmt: skip

    return loss, at


def facts(scan, body, forward_mode=True, second_order=False, **options):
    """Everything that must agree, from one compiled function."""
    loss, at = loss_of(scan, body, **options)
    scalar = lambda at: loss(at)[0]
    dot = [jnp.asarray(np.random.default_rng(n).standard_normal(x.shape), x.dtype) for n, x in enumerate(at)]

    def everything(at, dot):
        (value, out), grad = jax.value_and_grad(loss, has_aux=True)(at)
        found = {"value": value, "outputs": out, "grad": grad}
        if forward_mode:
            found["jvp"] = jax.jvp(scalar, (at,), (dot,))[1]
        if second_order:
            found["hvp"] = jax.jvp(jax.grad(scalar), (at,), (dot,))[1]
            inner = lambda at: sum(jnp.vdot(a, b).real for a, b in zip(jax.grad(scalar)(at), dot, strict=True))
            found["reverse over reverse"] = jax.grad(inner)(at)
        return found

    return jax.jit(everything, compiler_options=FAST)(at, dot)


def assert_same(a, b, tol=1e-9):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=tol, atol=tol, err_msg=jax.tree_util.keystr(path))


VARIANTS = {
    "lstm_split": [dict(reverse=True, fuse=True), dict(fuse="hoist"), dict(fuse="defer"), dict(unroll=2),
                   dict(checkpoint=2), dict(checkpoint="sqrt", reverse=True)],
    "gru_slices": [dict(reverse=True, fuse="all", unroll=True), dict(checkpoint=3, fuse="all")],
    "readout": [dict(fuse=True, reverse=True), dict(fuse="defer")],
    "masked": [dict(fuse="hoist", reverse=True)],
    "pytrees_with_none": [dict(reverse=True), dict(checkpoint=2)],
    "gather_by_carry": [dict(reverse=True, fuse="all")],
    "no_inputs": [dict(checkpoint="sqrt"), dict(fuse="defer", reverse=True)],
    "keys_in_xs": [dict(checkpoint=2)],
    "elman": [dict(fuse=False)],
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_equals_lax_scan(name):
    body = BODIES[name]()
    options = dict(forward_mode=name not in NO_FORWARD_MODE, second_order=name in SECOND_ORDER)
    assert_same(facts(jax.lax.scan, body, **options), facts(engine.scan, body, fuse="all", **options))


@pytest.mark.slow
@pytest.mark.parametrize("fuse", [True, "all", "hoist", "defer"])
@pytest.mark.parametrize("name", sorted(set(BODIES) - {"custom_vjp"}))
def test_second_order_of_everything(name, fuse):
    body = BODIES[name]()
    assert_same(facts(jax.lax.scan, body, second_order=True), facts(engine.scan, body, second_order=True, fuse=fuse))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(n, o, id=f"{n} {o}", marks=pytest.mark.slow if k % 2 else [])
        for n, os in VARIANTS.items()
        for k, o in enumerate(os)
    ],
)
def test_every_option_equals_lax_scan(name, options):
    body = BODIES[name]()
    plain = {k: v for k, v in options.items() if k in ("reverse", "unroll")}
    assert_same(facts(jax.lax.scan, body, **plain), facts(engine.scan, body, **options))


REPLAYED = ["lstm_split", "gru_slices", "gather_by_carry"]
KINDS = ["blocks", "replay", "replay of the whole", "not hoisted"]
QUICK = [("lstm_split", "replay"), ("gru_slices", "blocks"), *(("gather_by_carry", k) for k in KINDS[1:])]


@pytest.mark.parametrize(
    ("name", "kind"),
    [pytest.param(n, k, marks=[] if (n, k) in QUICK else pytest.mark.slow) for n in BODIES for k in KINDS],
)
def test_ways_through_time(name, kind, monkeypatch):
    """Each forced on, with blocks of one or two steps."""
    body, reverse = BODIES[name](), name == "gru_slices"
    if name in REPLAYED:
        body = body._replace(xs=np.concatenate([body.xs, body.xs[:1]]))
    seen = []

    def forced(length, sizes):
        blocks = length // (1 + (length % 2 == 0)) if kind in ("blocks", "replay") else 1
        seen.append(schedule.Schedule(blocks, kind.startswith("replay") and sizes.can_replay, kind != "not hoisted"))
        return seen[-1]

    monkeypatch.setattr(ways, "choose", forced)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = dict(second_order=name in SECOND_ORDER, forward_mode=name not in NO_FORWARD_MODE, reverse=reverse)
        assert_same(facts(jax.lax.scan, body, **options), facts(engine.scan, body, **options))
    if name in REPLAYED:
        assert any(way.replay for way in seen) == kind.startswith("replay")


@pytest.mark.parametrize("length", [0, 1, 2])
def test_few_steps(length):
    body = BODIES["lstm_split"]()
    body = body._replace(xs=body.xs[:length])
    assert_same(facts(jax.lax.scan, body), facts(engine.scan, body, fuse="all"))


@pytest.mark.parametrize("fuse", [True, "all"])
def test_empty_batch(fuse):
    body = BODIES["lstm_split"]()
    body = body._replace(carry=jax.tree.map(lambda a: a[:0], body.carry), xs=np.tile(body.xs[:, :0], (5, 1, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(facts(jax.lax.scan, body), facts(engine.scan, body, fuse=fuse))
        steps = len(body.xs)
        assert steps % 3, "a remainder after the segments"
        for checkpoint in (3, "sqrt"):
            kept = engine.scan(lambda c, x: body.step(body.p, c, x), body.carry, body.xs, checkpoint=checkpoint)
            assert jax.tree.leaves(kept[1])[0].shape[:2] == (steps, 0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_other_dtypes(dtype):
    body = jax.tree.map(lambda a: jnp.asarray(a, dtype), BODIES["lstm_split"]()._replace(step=None))
    body = body._replace(step=BODIES["lstm_split"]().step)
    loss = lambda scan: lambda p, xs: jnp.sum(scan(lambda c, x: body.step(p, c, x), body.carry, xs)[1])
    of = lambda scan: jax.jit(jax.value_and_grad(loss(scan), (0, 1)), compiler_options=FAST)(body.p, body.xs)
    a, b = of(jax.lax.scan), of(engine.scan)
    tol = {"float32": 1e-5, "bfloat16": 0.06}[dtype]
    assert jax.tree.map(lambda x: x.dtype, a) == jax.tree.map(lambda x: x.dtype, b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        assert np.abs(x - y).max() <= tol * np.abs(x).max()


def run_both(make):
    a, b = (jax.jit(make(scan), compiler_options=FAST)() for scan in (jax.lax.scan, engine.scan))
    assert_same(a, b)


def simple(scan, p, h, xs):
    return scan(lambda h, x: (jnp.tanh(x @ p["w"] + h @ p["u"] + p["b"]),) * 2, h, xs)


SIMPLE = BODIES["elman"]()


def simple_loss(scan, p, h, xs):
    h, ys = simple(scan, p, h, xs)
    return jnp.sum(h) + jnp.sum(ys**2)


def test_vmap_over_weights():
    many = jax.tree.map(lambda a: jnp.stack([a, 2 * a, -a]), SIMPLE.p)
    run_both(lambda scan: lambda: jax.vmap(
        jax.value_and_grad(lambda p: simple_loss(scan, p, SIMPLE.carry, SIMPLE.xs)))(many))  # fmt: skip


def test_vmap_over_inputs_inside_grad():
    many = jnp.stack([SIMPLE.xs, 2 * SIMPLE.xs])
    loss = lambda scan: lambda p: jnp.sum(jax.vmap(lambda xs: simple_loss(scan, p, SIMPLE.carry, xs))(many))
    run_both(lambda scan: lambda: jax.value_and_grad(loss(scan))(SIMPLE.p))


def test_jacobians():
    end = lambda scan: lambda h: simple(scan, SIMPLE.p, h, SIMPLE.xs)[0]
    run_both(lambda scan: lambda: (jax.jacfwd(end(scan))(SIMPLE.carry), jax.jacrev(end(scan))(SIMPLE.carry)))


def test_inside_lax_scan_cond_and_checkpoint():
    def outer(scan):
        def loss(p):
            def step(h, xs):
                h = lax.cond(jnp.sum(h) > 100.0, lambda h: h, lambda h: simple(scan, p, h, xs)[0], h)
                return h, jax.checkpoint(lambda h: simple_loss(scan, p, h, xs))(h)

            h, losses = lax.scan(step, SIMPLE.carry, jnp.stack([SIMPLE.xs, -SIMPLE.xs]))
            return jnp.sum(losses) + jnp.sum(h)

        return lambda: jax.value_and_grad(loss)(SIMPLE.p)

    run_both(outer)


def test_while_loop_forward_mode():
    def many(scan):
        step = lambda s: (simple(scan, SIMPLE.p, s[0], SIMPLE.xs)[0], s[1] + 1)
        end = lambda h: lax.while_loop(lambda s: s[1] < 2, step, (h, 0))[0]
        return lambda: jax.jvp(end, (SIMPLE.carry,), (jnp.ones_like(SIMPLE.carry),))

    run_both(many)


def test_gradient_for_some_inputs_only():
    frozen = {**SIMPLE.p}
    run_both(lambda scan: lambda: jax.grad(
        lambda b: simple_loss(scan, {**frozen, "b": b}, SIMPLE.carry, SIMPLE.xs))(frozen["b"]))  # fmt: skip
    run_both(lambda scan: lambda: jax.grad(
        lambda h: simple_loss(scan, SIMPLE.p, h, SIMPLE.xs))(jnp.asarray(SIMPLE.carry)))  # fmt: skip


def test_without_jit():
    a, b = (jax.grad(lambda p: simple_loss(scan, p, SIMPLE.carry, SIMPLE.xs))(SIMPLE.p)
            for scan in (jax.lax.scan, engine.scan))  # fmt: skip
    assert_same(a, b)
    with jax.disable_jit():
        out = simple(engine.scan, SIMPLE.p, SIMPLE.carry, SIMPLE.xs)
    assert_same(out, simple(jax.lax.scan, SIMPLE.p, SIMPLE.carry, SIMPLE.xs))


def test_shard_map():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def make(scan):
        def loss(p, h, xs):
            return jax.lax.pmean(simple_loss(scan, p, h, xs), "d")

        def both(p):
            f = jax.shard_map(loss, mesh=mesh, in_specs=(spec(), spec("d"), spec(None, "d")), out_specs=spec())
            return f(p, SIMPLE.carry, SIMPLE.xs)

        return lambda: jax.value_and_grad(both)(SIMPLE.p)

    run_both(make)


def test_long():
    """A hundred thousand steps."""
    w, u = jnp.full((1, 2), 0.5), jnp.full((2, 2), 0.1)
    xs = jnp.sin(jnp.arange(100_000.0))[:, None]

    def loss(scan):
        def total(u):
            return jnp.mean(scan(lambda h, x: (jnp.tanh(x @ w + h @ u),) * 2, jnp.zeros(2), xs)[1])

        return lambda: jax.value_and_grad(total)(u)

    run_both(loss)
