"""What `_jax` does not recognise costs speed and never the answer: `rj.scan` is then `jax.lax.scan`, with one warning."""

import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax import _jax

XS = jax.random.normal(jax.random.key(0), (5, 2, 3))
W = jax.random.normal(jax.random.key(1), (3, 4))
U = jax.random.normal(jax.random.key(2), (4, 4)) / 2


def loss(scan, w, xs, **options):
    def step(h, x):
        h = jnp.tanh(x @ w + h @ U)
        return h, h

    return jnp.sum(scan(step, jnp.zeros((2, 4)), xs, **options)[1] ** 2)


def scan_equation():
    jaxpr = jax.make_jaxpr(lambda w: loss(jax.lax.scan, w, XS))(W).jaxpr
    return next(e for e in jaxpr.eqns if e.primitive.name == "scan")


def of_another_form(change):
    """A reader of scan equations that is handed what no JAX has made."""
    read = _jax.loop_of_scan

    def reader(eqn):
        return read(types.SimpleNamespace(invars=eqn.invars, params=change(dict(eqn.params), eqn)))

    return reader


def renamed(params, eqn):
    return {"body": params["jaxpr"], "trip_count": params["length"]}


def miscounted(params, eqn):
    """The names of JAX 0.10 with another meaning: one constant too many."""
    loop = _jax.loop_of_scan(eqn)
    form = dict(num_consts=loop.num_consts + 1, num_carry=loop.num_carry)
    return {**{k: v for k, v in params.items() if not k.startswith("ft_")}, **form}


@pytest.mark.parametrize("change", [renamed, miscounted])
def test_an_unknown_form_of_scan_is_told_from_a_known_one(change):
    eqn = scan_equation()
    known = _jax.loop_of_scan(eqn)
    assert (known.num_consts, known.num_carry, known.length) == (2, 1, 5)
    with pytest.raises(_jax.Unsupported, match=rf"JAX {jax.__version__} says loop of scan in a way unknown here"):
        of_another_form(change)(eqn)


def by_itself(f):
    return lambda w: f(w, XS)


KINDS = {
    "eager": by_itself,
    "jit": lambda f: jax.jit(by_itself(f)),
    "grad": lambda f: jax.grad(by_itself(f)),
    "grad(jit)": lambda f: jax.grad(jax.jit(by_itself(f))),
    "vmap": lambda f: jax.vmap(lambda s: f(s * W, XS)),
    "jvp": lambda f: lambda w: jax.jvp(by_itself(f), (w,), (w,)),
}


def value_of(kind, f):
    return KINDS[kind](f)(jnp.array([1.0, 2.0]) if kind == "vmap" else W)


def one_warning(f):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        out = f()
    assert [w.category for w in seen] == [RuntimeWarning], seen
    return out, str(seen[0].message)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_form_of_scan_runs_as_lax_scan_with_one_warning(kind, monkeypatch):
    monkeypatch.setattr(_jax, "loop_of_scan", of_another_form(renamed))
    got, said = one_warning(lambda: value_of(kind, lambda w, xs: loss(rj.scan, w, xs)))
    want = value_of(kind, lambda w, xs: loss(jax.lax.scan, w, xs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), got, want)
    assert "runs as jax.lax.scan" in said


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_differentiated_our_way_is_differentiated_as_lax_scan(kind, monkeypatch):
    """Found while the rule decides, so alike with jit inside, outside or not at all."""

    def refuse(*args, **kwargs):
        raise _jax.Unsupported("a test asked for it")

    monkeypatch.setattr("rnnjax.engine.execute.derivative.trace_step", refuse)
    f = lambda: value_of(kind, lambda w, xs: loss(rj.scan, w, xs))
    if "grad" in kind or kind == "jvp":
        got, said = one_warning(f)
        assert "differentiates as jax.lax.scan: a test asked for it" in said
    else:
        got = f()
    want = value_of(kind, lambda w, xs: loss(jax.lax.scan, w, xs))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), got, want)


def test_an_unknown_form_of_scan_keeps_the_dtype_of_products(monkeypatch):
    want = loss(rj.scan, W, XS, matmul_dtype=jnp.bfloat16)
    wide = loss(rj.scan, W, XS)
    monkeypatch.setattr(_jax, "loop_of_scan", of_another_form(renamed))
    got, _ = one_warning(lambda: loss(rj.scan, W, XS, matmul_dtype=jnp.bfloat16))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert abs(got - want) < abs(got - wide) / 10


@pytest.mark.parametrize("kind", ["eager", "jit", "grad", "grad(jit)"])
def test_running_catches_nothing(kind, monkeypatch):
    """A defect of ours shows itself everywhere alike."""

    def broken(*args, **kwargs):
        raise RuntimeError("a defect")

    monkeypatch.setattr("rnnjax.engine.execute.run.finish", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        value_of(kind, lambda w, xs: loss(rj.scan, w, xs))
