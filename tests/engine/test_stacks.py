"""What the forward loop stacks, and what is read back, for a step whose stacks are known by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from rnnjax.engine.binding_times import sort
from rnnjax.engine.capture import trace
from rnnjax.engine.deferral import find_taps
from rnnjax.engine.execute.linear import Live, cut, trace_step
from rnnjax.engine.execute.time import Time
from rnnjax.engine.execute.ways import interface
from rnnjax.engine.stacks import Store, over_time

H, I, B, T = 4, 3, 2, 5
W, U = jnp.ones((I, H)), jnp.ones((H, H))


def linear_of(body):
    """The step of a body with gradients for every deferred constant."""
    traced = trace(body, jnp.zeros((B, H)), jnp.zeros((T, B, I)), None, False, 1)
    s = sort(traced.graph, traced.num_carry)
    taps = find_taps(s, lambda eqn: True)
    operands = list(dict.fromkeys(v for u in taps.uses for v in u.operands))
    return cut(trace_step(s, taps, interface(s, taps), Live([t.point for t in taps.taps], [], []), operands))


def test_a_carry_is_stacked_as_what_it_is_after_the_step():
    """The operand of U is the carry: not stacked itself, for the output is, and is the carry one step later."""
    step = linear_of(lambda h, x: (jnp.tanh(x @ W + h @ U),) * 2)
    store = Store.of(step, {})
    [h], [after] = step.ins.carry, step.outs.carry
    assert store.shifted == {0: after} and h not in store.stack and store.stack.count(after) == 1
    assert after in step.forward.keep and h in step.outs.operands


@pytest.mark.parametrize("reverse", [False, True])
def test_a_shifted_carry_is_read_back_as_it_was_before_each_step(reverse):
    step = linear_of(lambda h, x: (jnp.tanh(x @ W + h @ U),) * 2)
    store = Store.of(step, {})
    after = np.random.default_rng(0).normal(size=(T, B, H)).astype(np.float32)
    stacks = [jnp.asarray(after) if v is store.shifted[0] else jnp.zeros((T, *v.shape)) for v in store.stack]
    start = np.full((B, H), 7, np.float32)
    read = store.read(stacks, [jnp.asarray(start)], {}, Time(T, reverse))
    before, h = np.empty_like(after), start
    for t in reversed(range(T)) if reverse else range(T):
        before[t], h = h, after[t]
    np.testing.assert_array_equal(read[step.ins.carry[0]], before)


def test_a_value_without_a_stack_is_the_same_at_each_step():
    step = linear_of(lambda h, x: (jnp.tanh(x @ W + h @ U),) * 2)
    [v] = step.ins.carry
    np.testing.assert_array_equal(over_time(v, {}, {v: jnp.ones((B, H))}, 3), np.ones((3, B, H)))
