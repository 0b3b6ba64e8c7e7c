"""`rj.tune`: its plans as values, what each way computes, where a plan holds, what it refuses and prints."""

from __future__ import annotations

import gc
import logging
import pickle
import re
import sys
import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
import rnnjax.engine as engine
from rnnjax import _jax
from rnnjax.engine.capture import trace
from rnnjax.engine.plan import make_plan, types_of
from rnnjax.engine.schedule import Schedule, Ways

T, B, I, H = 12, 2, 3, 4
RNG = np.random.default_rng(0)
W, U = (jnp.asarray(RNG.standard_normal(s) * 0.5, jnp.float32) for s in ((I, 4 * H), (H, 4 * H)))
XS = jnp.asarray(RNG.standard_normal((T, B, I)), jnp.float32)
START = (jnp.zeros((B, H)), jnp.zeros((B, H)))
tune_module = sys.modules["rnnjax.engine.tune"]


def body(w, u):
    def step(carry, x):
        h, c = carry
        i, f, g, o = jnp.split(x @ w + h @ u, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    return step


STEP = body(W, U)


def plan_of(fuse: bool | str = True, ways=Ways(), step=STEP, start=START, xs=XS, gradient=True):
    """A plan for these shapes, not measured."""
    shapes = types_of(trace(step, start, xs, None, False, 1))
    return engine.Tuned(fuse, ways, gradient, *shapes, best="as a test asked for it", device="none")


def value_and_gradient(scan, **options):
    def loss(w, u, start, xs):
        carry, ys = scan(body(w, u), start, xs, **options)
        return sum(map(jnp.sum, jax.tree.leaves((carry, ys)))), (carry, ys)

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True))(W, U, START, XS)


def assert_same(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), got, want)


def loops(jaxpr):
    """The lengths of all loops of a jaxpr."""
    return [_jax.loop_of_scan(e).length for e in _jax.equations(jaxpr) if e.primitive.name == "scan"]


@pytest.fixture(scope="module")
def tuned():
    return {gradient: rj.tune(STEP, START, XS, gradient=gradient, verbose=False) for gradient in (True, False)}


# --- what a plan is


@pytest.mark.parametrize("gradient", [True, False])
def test_a_plan_is_a_value(tuned, gradient):
    plan = tuned[gradient]
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan and hash(again) == hash(plan) and str(again) == str(plan)
    assert plan != tuned[not gradient]
    assert plan_of() == plan_of() and plan_of() != plan_of("hoist")
    assert plan_of() != plan_of(ways=Ways(None, Schedule(3)))
    with pytest.raises(AttributeError):
        plan.fuse = False
    assert f"{T} steps" in str(plan) and "float32[2,4]" in str(plan) and plan.best in str(plan)


@pytest.mark.parametrize("gradient", [True, False])
def test_what_is_tuned_runs_as_lax_scan_does(tuned, gradient):
    assert_same(value_and_gradient(rj.scan, fuse=tuned[gradient]), value_and_gradient(jax.lax.scan))
    assert_same(rj.scan(STEP, START, XS, fuse=tuned[gradient]), jax.lax.scan(STEP, START, XS))


def test_lax_scan_is_among_what_is_measured_and_the_fastest_is_taken(tuned):
    for plan in tuned.values():
        names = [name for name, _ in plan.seconds]
        assert "lax.scan" in names and len(names) == len(set(names)) > 2
        assert plan.best == min(plan.seconds, key=lambda row: row[1])[0]
        assert all(took > 0 for _, took in plan.seconds)


def test_the_fastest_decides(monkeypatch, capsys):
    """Made up times: each way in its turn is the fastest."""

    def favour(label):
        def measure(programs):
            return {p.way: 1.0 if p.way.label.startswith(label) else 2.0 for p in programs}

        monkeypatch.setattr(tune_module, "measure", measure)
        return rj.tune(STEP, START, XS, verbose=False)

    plain = favour("lax.scan")
    assert plain.fuse is False
    jaxpr = jax.make_jaxpr(lambda: rj.scan(STEP, START, XS, fuse=plain))()
    assert str(jaxpr) == str(jax.make_jaxpr(lambda: jax.lax.scan(STEP, START, XS))())
    assert favour("in 2 blocks of 6 steps, what").ways == Ways(None, Schedule(2))
    assert favour('fuse="hoist"').fuse == "hoist"


def test_both_kinds_say_what_to_do(monkeypatch):
    monkeypatch.setattr(tune_module, "measure", lambda programs: {p.way: -n for n, p in enumerate(programs)})
    forward = rj.tune(STEP, START, XS, gradient=False, verbose=False)
    assert forward.fuse is True and forward.ways.forward is not None and forward.ways.gradient is None
    names = [way.label for way in tune_module.ways_of(*traced_and_plan(), gradient=False)]
    assert names[0] == "lax.scan" and any("2 blocks" in name for name in names)


def traced_and_plan():
    traced = trace(STEP, START, XS, None, False, 1)
    return traced, make_plan(traced, True)


WAYS = tune_module.ways_of(*traced_and_plan(), gradient=True)


def test_every_way_is_tried():
    schedules = {way.ways.gradient for way in WAYS if way.fuse is True}
    whole = {Schedule(), Schedule(hoist=False), Schedule(1, True), Schedule(written=True)}
    assert schedules == {*whole, Schedule(2), Schedule(2, True)}
    assert [way.fuse for way in WAYS if way.fuse is not True] == [False, "all", "hoist", "defer"]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.label)
def test_every_way_computes_what_lax_scan_does(way):
    plan = plan_of(way.fuse, way.ways)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(value_and_gradient(rj.scan, fuse=plan), value_and_gradient(jax.lax.scan))


def test_a_way_is_what_runs():
    """Blocks of four steps: a loop over three blocks, one of four steps in it; forward and gradient apart."""
    forward = lambda plan: loops(jax.make_jaxpr(lambda xs: rj.scan(STEP, START, xs, fuse=plan))(XS).jaxpr)
    assert forward(plan_of(ways=Ways(Schedule(3), None))) == [3, 4]
    assert forward(plan_of(ways=Ways(Schedule(), None))) == [T]
    grad = jax.make_jaxpr(
        jax.grad(lambda xs: rj.scan(STEP, START, xs, fuse=plan_of(ways=Ways(None, Schedule(3))))[1].sum())
    )
    assert {3, 4} <= set(loops(grad(XS).jaxpr)) and T not in loops(grad(XS).jaxpr)


def test_written_out_there_is_no_loop_and_only_a_short_one_is_tried():
    def loops_of(plan):
        loss = lambda start, xs: rj.scan(STEP, start, xs, fuse=plan)[1].sum()
        return jax.jit(jax.grad(loss)).lower(START, XS).compile().as_text().count(" while(")

    assert loops_of(plan_of(ways=Ways(None, Schedule()))) == 2
    assert loops_of(plan_of(ways=Ways(None, Schedule(written=True)))) == 0
    long = jnp.zeros((tune_module.WRITTEN + 1, B, I))
    traced = trace(STEP, START, long, None, False, 1)
    assert not any(way.ways.gradient.written for way in tune_module.ways_of(traced, make_plan(traced, True), True))


# --- where a plan holds


@pytest.mark.parametrize("kind", ["eager", "jit", "again"])
def test_on_other_shapes_a_plan_is_as_true_with_one_warning(kind):
    plan = plan_of(ways=Ways(Schedule(3), Schedule(3)))
    xs = XS[:9]
    f = lambda scan: lambda xs: scan(STEP, START, xs)[1]
    ours = f(lambda *a: rj.scan(*a, fuse=plan))
    call = jax.jit(ours) if kind == "jit" else ours
    if kind == "again":
        with pytest.warns(RuntimeWarning):
            call(xs)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        got = call(xs)
    assert [w.category for w in seen] == [RuntimeWarning]
    said = str(seen[0].message)
    assert re.search(r"tuned for 12 steps.*got 9 steps", said) and "rj.tune" in said and "fuse=True" in said
    np.testing.assert_allclose(got, f(jax.lax.scan)(xs), rtol=1e-5)
    if kind == "eager":
        with pytest.warns(RuntimeWarning):
            jaxpr = jax.make_jaxpr(ours)(xs)
        assert loops(jaxpr.jaxpr) == loops(jax.make_jaxpr(f(rj.scan))(xs).jaxpr) == [9]


def test_every_part_of_the_shapes_counts():
    plan = plan_of()
    wide = (jnp.zeros((B + 1, H)),) * 2, jnp.zeros((T, B + 1, I))
    with pytest.warns(RuntimeWarning, match=r"carry float32\[2,4\] float32\[2,4\].*got .*carry float32\[3,4\]"):
        rj.scan(STEP, *wide, fuse=plan)
    with pytest.warns(RuntimeWarning, match="bfloat16"):
        rj.scan(lambda c, x: STEP(c, x.astype(W.dtype)), START, XS.astype(jnp.bfloat16), fuse=plan)


def test_with_checkpoint_a_plan_is_for_the_segment():
    plan = plan_of(xs=XS[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(rj.scan(STEP, START, XS, checkpoint=4, fuse=plan), jax.lax.scan(STEP, START, XS))


def test_bodies_with_nothing_to_choose_are_left_to_lax_scan(capsys):
    for step, start, xs in [(lambda c, x: (c + 1, c), 0, None), (STEP, START, XS[:1])]:
        plan = rj.tune(step, start, xs, None if xs is not None else 3)
        assert plan.fuse is False and plan.best == "lax.scan" and len(plan.seconds) <= 1
        assert_same(
            rj.scan(step, start, xs, None if xs is not None else 3, fuse=plan),
            jax.lax.scan(step, start, xs, 3 if xs is None else None),
        )
    assert "lax.scan" in capsys.readouterr().out


# --- what it refuses


def test_nothing_is_tuned_while_tracing():
    match = "call rj.tune outside and pass its plan in"
    with pytest.raises(ValueError, match=match):
        jax.jit(lambda xs: rj.tune(STEP, START, xs).length)(XS)
    with pytest.raises(ValueError, match=match):
        jax.grad(lambda w: rj.tune(body(w, U), START, XS) and w.sum())(W)
    with pytest.raises(ValueError, match=match):
        jax.jit(lambda: rj.tune(STEP, START, XS).length)()
    with pytest.raises(ValueError, match=match):
        jax.vmap(lambda h: rj.tune(STEP, (h, h), XS) and h)(jnp.zeros((3, B, H)))


@pytest.mark.parametrize(
    "args",
    [
        (STEP, START, [1, 2, 3]),
        (STEP, START),
        (STEP, START, XS, 5),
        (lambda c, x: ((c, c), x), 0.0, XS),
        (None, START, XS),
    ],
    ids=["numbers", "no length", "other length", "carry", "no function"],
)
def test_what_lax_scan_refuses_is_refused_alike(args):
    def refusal(scan):
        with pytest.raises(Exception) as caught:
            scan(*args)
        return type(caught.value), re.sub("0x[0-9a-f]+", "", str(caught.value))

    assert refusal(rj.tune) == refusal(jax.lax.scan)


def test_a_gradient_that_lax_scan_does_not_have_is_refused_alike():
    def step(h, x):
        h = jax.lax.while_loop(lambda v: jnp.sum(v) < 3, lambda v: v + 1, jnp.tanh(x @ W[:, :H] + h @ U[:, :H]))
        return h, h

    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work"):
        rj.tune(step, START[0], XS, verbose=False)
    assert rj.tune(step, START[0], XS, gradient=False, verbose=False).seconds


@pytest.mark.parametrize("who", ["scan", "explain", "unroll"])
@pytest.mark.parametrize("fuse", ["bogus", 1, None, 0, [True]])
def test_an_unknown_fuse_is_refused_everywhere(who, fuse):
    call = {
        "scan": lambda: rj.scan(STEP, START, XS, fuse=fuse),
        "explain": lambda: rj.explain(STEP, START, XS, fuse=fuse),
        "unroll": lambda: rj.unroll(lambda p, h, x: STEP(h, x), {}, XS, carry=START, fuse=fuse),
    }[who]
    with pytest.raises(ValueError, match=f"^{who}: fuse must be one of .* or a plan of rj.tune, got"):
        call()


# --- what it says


@pytest.mark.parametrize("gradient", [True, False])
def test_the_table_names_lax_scan_and_marks_the_fastest(capsys, gradient):
    plan = rj.tune(STEP, START, XS, gradient=gradient)
    head, _, *rows = capsys.readouterr().out.strip().splitlines()
    assert ("value and gradient" if gradient else "forward alone") in head and f"{T} steps" in head
    assert len([r for r in rows if re.search(r" 1\.00  lax\.scan", r)]) == 1
    assert "fastest" in rows[0] and plan.best in rows[0] and "fastest" not in "".join(rows[1:])
    times = [float(r.split()[0]) for r in rows]
    assert times == sorted(times) and len(rows) == len(plan.seconds)


def test_a_way_whose_results_differ_is_left_out_and_named(monkeypatch, capsys):
    run_way = tune_module.run_way

    def wrong(way, *args):
        outs = run_way(way, *args)
        return [o * 1.01 for o in outs] if way.fuse == "hoist" else outs

    monkeypatch.setattr(tune_module, "run_way", wrong)
    plan = rj.tune(STEP, START, XS)
    said = capsys.readouterr().out
    assert 'left out, its results are not those of lax.scan: fuse="hoist"' in said
    assert 'fuse="hoist"' not in dict(plan.seconds) and said.count("left out") == 1


def test_quiet(capsys):
    rj.tune(STEP, START, XS, gradient=False, verbose=False)
    assert capsys.readouterr().out == ""


def test_gradients_are_taken_of_all_that_is_closed_over(monkeypatch):
    """As many cotangents as there are floating arrays, nested jits and numpy included, and no weight in the program."""
    seen = []
    split = tune_module.split_floats
    monkeypatch.setattr(tune_module, "split_floats", lambda args: seen.append(split(args)) or seen[-1])
    bias, scale = np.linspace(0, 1, 4 * H, dtype=np.float32), jnp.arange(3)
    inner = jax.jit(lambda h: h @ U)

    def step(h, x):
        h = jnp.tanh(x @ W + inner(h) + bias)[:, :H] + scale[0].astype(h.dtype)
        return h, h

    rj.tune(step, START[0], XS, verbose=False)
    assert sorted(v.shape for v in seen[0][0]) == sorted([W.shape, U.shape, bias.shape, START[0].shape, XS.shape])


def test_explain_shows_a_plan(tuned):
    blocks = plan_of(ways=Ways(Schedule(2), Schedule(3)))
    found = rj.explain(STEP, START, XS, fuse=blocks)
    assert "a gradient goes through time in 3 blocks of 4 steps" in str(found)
    assert "a forward pass alone goes in 2 blocks of 6 steps" in str(found)
    assert "rj.tune: as a test asked for it" in found.decision and found.fused
    plain = rj.explain(STEP, START, XS, fuse=plan_of(False))
    assert not plain.fused and "plain lax.scan" in plain.decision and "rj.tune" in plain.decision
    with pytest.warns(RuntimeWarning, match="got 9 steps"):
        other = rj.explain(STEP, START, XS[:9], fuse=blocks)
    assert other.fused and "tuned for 12 steps" in other.decision and "in 3 blocks" not in other.decision


def test_a_plan_is_static_under_jit():
    plan, traces = plan_of(), []

    def f(xs, plan):
        traces.append(plan)
        return rj.scan(STEP, START, xs, fuse=plan)[1]

    call = jax.jit(f, static_argnums=1)
    np.testing.assert_array_equal(call(XS, plan), call(XS, pickle.loads(pickle.dumps(plan))))
    assert len(traces) == 1


# --- eager calls


def test_an_eager_call_is_compiled_once(caplog):
    count = []

    def step(h, x):
        count.append(0)
        h = jnp.tanh(x @ W[:, :H] + h @ U[:, :H])
        return h, h

    first = rj.scan(step, START[0], XS)
    traced = len(count)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        again = rj.scan(step, START[0], XS)
    assert len(count) == traced and not caplog.records
    np.testing.assert_array_equal(first[1], again[1])
    np.testing.assert_allclose(again[1], jax.lax.scan(step, START[0], XS)[1], rtol=1e-5, atol=1e-6)  # two compilations


def test_eager_programs_tell_calls_apart():
    """Other shapes, options and functions are other programs; other values are not."""

    def step(h, x):
        h = jnp.tanh(x @ W[:, :H] + h @ U[:, :H])
        return h, h

    for start, xs, how in [
        (START[0], XS, {}),
        (START[0] + 1, XS * 2, {}),
        (START[0], XS[:5], {}),
        (START[0], XS, dict(reverse=True)),
        (START[0][:1], XS[:, :1], {}),
    ]:
        for _ in range(2):
            assert_same(rj.scan(step, start, xs, **how), jax.lax.scan(step, start, xs, **how))
    for scale in (1.0, 2.0):
        made = lambda h, x, scale=scale: (jnp.tanh(x @ W[:, :H] + h @ U[:, :H]) * scale,) * 2
        assert_same(rj.scan(made, START[0], XS), jax.lax.scan(made, START[0], XS))


def test_what_is_kept_ends_with_the_function():
    def make():
        w = jnp.full((I, H), 0.1)

        def step(h, x):
            h = jnp.tanh(x @ w + h @ U[:, :H])
            return h, h

        rj.scan(step, START[0], XS)
        return weakref.ref(w), weakref.ref(step)

    kept = make()
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
