"""When each value is known, and which part of a body runs where, on bodies sorted by hand."""

import jax
import jax.numpy as jnp
import pytest

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
