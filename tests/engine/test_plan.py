"""Step 4: what each mode decides for bodies that want it and bodies that do not, and what a tuned plan is bound to."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from rnnjax import _jax
from rnnjax.engine import plan
from rnnjax.engine.capture import trace
from rnnjax.engine.plan import Tuned, make_plan
from rnnjax.engine.schedule import WHOLE, Ways

W = jnp.ones((3, 3))
H, XS = jnp.ones((2, 3)), jnp.ones((20, 2, 3))
PRODUCTS = lambda h, x: (jnp.tanh(h @ W + x @ W), h)
CHEAP = lambda h, x: (h * 0.5 + x, h)


def made(body, fuse=True, xs=XS, **how):
    return make_plan(trace(body, H, xs, None, False, 1), fuse, **how)


def names(eqns):
    return [e.name for e in eqns]


@pytest.mark.parametrize("fuse, ahead, deferred", [(True, 1, 1), ("all", 1, 1), ("hoist", 1, 0), ("defer", 0, 2)])
def test_what_leaves_the_loop(fuse, ahead, deferred):
    found = made(PRODUCTS, fuse)
    assert found.fused and names(found.sorted.ahead).count("dot_general") == ahead
    assert names(found.sorted.loop).count("dot_general") == 2 - ahead
    assert len(found.taps.uses) == deferred


def test_where_nothing_pays_it_stays():
    assert not made(CHEAP).fused and made(CHEAP).reason == "nothing to hoist and nothing to defer"
    assert not made(PRODUCTS, xs=XS[:1]).fused and made(PRODUCTS, xs=XS[:1]).reason == "fewer than two steps"
    assert not made(PRODUCTS, False).fused and not made(PRODUCTS, False).says
    assert made(CHEAP, "all").fused


def test_only_what_the_shapes_decide_goes_in_blocks():
    assert made(PRODUCTS).ways == Ways() and made(PRODUCTS, "hoist").ways == WHOLE


def test_a_form_that_nobody_knows_is_told_once_and_no_error(monkeypatch):
    def unknown(*given):
        raise _jax.Unsupported("a new kind of loop")

    monkeypatch.setattr(plan, "rewrite", unknown)
    found = made(PRODUCTS)
    assert not found.fused and found.says == "rnnjax.scan runs as jax.lax.scan: a new kind of loop"


def test_a_tuned_plan_is_for_its_types():
    traced = trace(PRODUCTS, H, XS, None, False, 1)
    tuned = Tuned("hoist", WHOLE, True, *plan.types_of(traced), best="hoist", device="cpu")
    assert tuned.fits(traced) and tuned.made_for == "20 steps, carry float32[2,3], x float32[2,3]"
    found = make_plan(traced, tuned)
    assert found.fused and not found.taps.uses and found.source.startswith("rj.tune: hoist") and not found.says
    assert hash(tuned) == hash(dataclasses.replace(tuned, seconds=(("x", 1.0),)))
    other = make_plan(trace(PRODUCTS, H, XS[:9], None, False, 1), tuned)
    assert other.fused and "tuned for 20 steps" in other.says and "got 9 steps" in other.says


@pytest.mark.parametrize("bad", ["bogus", 2, None, 1.0])
def test_a_mode_that_is_none(bad):
    with pytest.raises(ValueError, match="fuse must be one of"):
        plan.check_fuse("scan", bad)


def test_deciding_touches_no_array():
    """From shapes alone: under a trace of abstract values too."""
    seen = []

    def f(h, xs):
        seen.append(make_plan(trace(PRODUCTS, h, xs, None, False, 1), True).fused)
        return h

    jax.eval_shape(f, H, XS)
    assert seen == [True]
