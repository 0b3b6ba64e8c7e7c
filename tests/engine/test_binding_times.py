"""When each value is known, and which part of a body runs where, on bodies sorted by hand."""

import jax
import jax.numpy as jnp
import pytest

import rnnjax as rj
from rnnjax.engine.binding_times import CARRY, CONSTANT, INPUT, sort
from rnnjax.engine.capture import trace

H, I, B, T = 4, 3, 2, 5
W, U, V = jnp.ones((I, H)), jnp.ones((H, H)), jnp.ones((H, 2))


def sorted_body(body, **options):
    traced = trace(body, jnp.zeros((B, H)), jnp.zeros((T, B, I)), None, False, 1)
    return sort(traced.graph, traced.num_carry, **options)


def elman(h, x):
    h = jnp.tanh(x @ W + h @ jnp.exp(U))
    return h, h @ V


def names(eqns):
    return [e.name for e in eqns]


def test_each_part_of_an_elman_step_runs_where_it_can():
    """exp(U) once, x @ W ahead, h @ exp(U), the sum and tanh in the loop, the readout after."""
    s = sorted_body(elman)
    assert names(s.ahead) == ["dot_general"] and names(s.after) == ["dot_general"]
    assert names(s.once) == ["exp"]
    assert sorted(names(s.loop)) == ["add", "dot_general", "tanh"]


def test_values_are_known_when_what_they_read_is():
    s = sorted_body(elman)
    assert {s.when[v] for v in s.graph.consts} == {CONSTANT}
    assert [s.when[v] for v in (*s.carry, *s.xs)] == [CARRY, INPUT]
    assert [s.when[e.outs[0]] for e in s.ahead] == [INPUT]
    assert {s.when[e.outs[0]] for e in (*s.loop, *s.after)} == {CARRY}


def test_without_hoisting_all_that_reads_x_is_in_the_loop():
    s = sorted_body(elman, hoisting=False)
    assert not s.ahead and not s.after and names(s.loop).count("dot_general") == 3


@pytest.mark.parametrize("everything, ahead", [(False, []), (True, ["neg"])])
def test_a_cheap_step_on_x_is_hoisted_only_when_everything_is(everything, ahead):
    s = sorted_body(lambda h, x: (h + jnp.sum(h[:, :I] * -x),) * 2, everything=everything)
    assert [n for n in names(s.ahead) if n == "neg"] == ahead


def test_what_may_not_run_for_all_steps_at_once_stays_in_the_loop():
    """A `while` on x alone would run every step until the last has finished."""
    s = sorted_body(lambda h, x: (h + jax.lax.while_loop(lambda v: v < 9, lambda v: v + 1, x[0, 0]), h))
    assert "while" in names(s.loop) and "while" not in names(s.ahead)


def test_a_rule_of_the_users_own_keeps_the_readout_in_the_loop():
    """After it, `vmap` over time, then `vjp` of it, then `vmap` over lanes: the transpose fails in JAX 0.12."""

    @jax.custom_vjp
    def spike(v):
        return jnp.where(v > 0, 1.0, 0.0)

    spike.defvjp(lambda v: (spike(v), v), lambda v, ct: (ct / (1 + jnp.abs(v)) ** 2,))
    step = lambda rule: lambda h, x: (elman(h, x)[0], rule(elman(h, x)[1]))
    assert "dot_general" in names(sorted_body(step(jnp.tanh)).after) and not sorted_body(step(spike)).after


@pytest.mark.parametrize("decompose", [jnp.linalg.cholesky, jnp.linalg.inv, lambda a: jnp.linalg.qr(a)[1]])
def test_a_decomposition_of_x_alone_stays_in_the_loop(decompose):
    """Of all steps at once it would be a batch for LAPACK, and two of them can wait for each other: `lax.scan` never makes one."""

    def body(h, x):
        a = x.T @ x + jnp.eye(I)
        return jnp.tanh(h @ U + jnp.sum(decompose(a)) + jnp.sum(decompose(2 * a))), h

    s = sorted_body(body)
    asked = {"cholesky", "custom_linear_solve", "qr", "geqrf", "triangular_solve"}
    assert asked & set(names(s.loop)) and not asked & set(names(s.ahead + s.after))
    xs = jax.random.normal(jax.random.key(0), (T, B, I))
    total = lambda scan: lambda xs: jnp.sum(scan(body, jnp.ones((B, H)), xs)[0])
    ours, theirs = (jax.jit(jax.grad(total(scan)))(xs) for scan in (rj.scan, jax.lax.scan))
    assert jnp.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
