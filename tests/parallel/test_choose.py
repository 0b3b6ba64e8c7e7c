"""`rj.parallel.choose` and ``method="auto"``: exponents of closed form, what is decided, and that it is said."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax import _jax
from rnnjax.parallel import choosing
from rnnjax.sequence.methods import auto

XS = np.random.default_rng(0).normal(size=(80, 2, 3)).astype(np.float32)


def halve(params, carry, x):
    return params * carry + x, carry


def logistic(params, carry, x):
    """x' = 4 x (1 - x): the exponent is ln 2."""
    return 4 * carry * (1 - carry), carry


def test_the_exponent_is_that_of_closed_form_and_chaos_is_left_to_the_scan() -> None:
    found = rj.parallel.choose(logistic, {}, jnp.zeros((3000, 1)), carry=jnp.array([0.3]))
    assert found.method == "scan" and list(found.seconds) == ["scan"]
    np.testing.assert_allclose(found.exponent, np.log(2), rtol=0.02)
    assert "neighbours part" in found.reason and "+0.69" in found.reason


def test_each_method_is_timed_and_the_fastest_named() -> None:
    lengths = jnp.array([80, 20])
    found = rj.parallel.choose(halve, jnp.float32(0.5), XS, carry=jnp.ones((2, 3)), lengths=lengths, methods=("deer",))
    np.testing.assert_allclose(found.exponent, np.log(0.5), rtol=1e-5)
    assert set(found.seconds) == {"scan", "deer"} and found.method in found.seconds
    fastest = min(found.seconds, key=lambda name: found.seconds[name])
    assert found.method in (fastest, "scan") and found.reason.startswith(found.method)
    assert "outputs and gradient of 80 steps" in found.reason and "forgets its start" in found.reason


def test_a_method_with_other_numbers_is_left_out(monkeypatch) -> None:
    true = choosing.unroll
    wrong = lambda *args, method, **how: jax.tree.map(
        lambda a: a + float(method == "associative"), true(*args, method=method, **how)
    )
    monkeypatch.setattr(choosing, "unroll", wrong)
    cell = rj.MinGRU(2)
    params = cell.init(jax.random.key(0), jnp.asarray(XS[0]))
    found = rj.parallel.choose(cell, params, jnp.asarray(XS), gradient=False)
    assert found.method == "scan" and "associative gives other numbers" in found.reason


def test_where_nothing_can_be_measured_is_said() -> None:
    xs = jnp.asarray(XS)
    with pytest.raises(ValueError, match="choose: measures on real arrays.*call rj.parallel.choose outside"):
        jax.jit(lambda p: rj.parallel.choose(halve, p, xs, carry=jnp.zeros((2, 3))))(jnp.float32(0.5))
    with pytest.raises(ValueError, match="choose: method must be one of .* got 'dear'"):
        rj.parallel.choose(halve, 0.5, xs, carry=jnp.zeros((2, 3)), methods=("dear",))
    with pytest.raises(TypeError, match="needs a floating point carry, got a part of int32"):
        rj.parallel.choose(lambda p, n, x: (n + 1, x), {}, xs, carry=jnp.int32(0))


# -- method="auto" -----------------------------------------------------------------------------------------------------


def loops(cell, **how) -> int:
    """Loops in the program."""
    params = jax.eval_shape(cell.init, jax.random.key(0), jnp.asarray(XS[0]))
    key = how.pop("key", None)
    jaxpr = jax.make_jaxpr(lambda p, xs: rj.unroll(cell, p, xs, method="auto", key=key, **how))(params, XS).jaxpr
    return sum(e.primitive.name == "scan" for e in _jax.equations(jaxpr))


DECIDED = [
    (rj.LRU(4), {}, 0),
    (rj.GRU(4), {}, 1),
    (rj.Readout(rj.Zoneout(rj.MinGRU(4), 0.1), 2), dict(key=jax.random.key(0)), 0),
    (rj.Readout(rj.Stack(rj.LSTM(4), rj.LRU(4), rj.Elman(4)), 2), {}, 2),
    (rj.MinGRU(4), dict(matmul_dtype=jnp.bfloat16), 1),
    (rj.MinGRU(4), dict(truncate=5), 0),
    (rj.Residual(rj.DeltaNet(3)), dict(truncate=5), 1),
]


@pytest.mark.parametrize(("cell", "how", "count"), DECIDED, ids=lambda v: "")
def test_auto_takes_layer_by_layer_what_is_linear_in_time_on_an_accelerator(cell, how, count, monkeypatch) -> None:
    assert loops(cell, **how) >= max(1, count)  # a CPU: loops alone
    monkeypatch.setattr(auto.jax, "default_backend", lambda: "gpu")
    assert loops(cell, **how) == count
    monkeypatch.setattr(auto, "LONG", len(XS) + 1)
    assert loops(cell, **how) >= max(1, count)


def test_auto_has_the_numbers_of_scan(monkeypatch) -> None:
    monkeypatch.setattr(auto.jax, "default_backend", lambda: "gpu")
    cell = rj.Stack(rj.Dropout(rj.MinGRU(4), 0.5), rj.Elman(2))
    params = cell.init(jax.random.key(0), jnp.asarray(XS[0]))
    run = jax.jit(lambda p, xs, m: rj.unroll(cell, p, xs, key=jax.random.key(1), method=m), static_argnums=2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), run(params, XS, "auto"), run(params, XS, "scan")
    )
