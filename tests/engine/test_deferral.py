"""Which gradients wait until after the loop, and where a sum takes its tangent, on bodies worked out by hand."""

import jax.numpy as jnp

from rnnjax.engine.binding_times import CONSTANT, sort
from rnnjax.engine.capture import trace
from rnnjax.engine.deferral import find_taps

H, I, B, T = 4, 3, 2, 5
W, U, b = jnp.ones((I, H)), jnp.ones((H, H)), jnp.ones((B, H))
U2 = jnp.ones((H, 2 * H))


def taps_of(body, wanted=lambda eqn: True):
    traced = trace(body, jnp.zeros((B, H)), jnp.zeros((T, B, I)), None, False, 1)
    s = sort(traced.graph, traced.num_carry)
    return s, find_taps(s, wanted)


def test_a_sum_of_products_and_a_bias_takes_one_tap():
    """tanh(x @ W + h @ U + b): one use (h @ U), one tap, at what tanh reads, of three terms; nothing is read plainly."""
    s, taps = taps_of(lambda h, x: (jnp.tanh(x @ W + h @ U + b),) * 2)
    [use], [tap] = taps.uses, taps.taps
    [tanh] = [e for e in s.loop if e.name == "tanh"]
    assert use.eqn.name == "dot_general" and tap.point is tanh.ins[0]
    assert sorted(sign for sign, _ in tap.terms) == [1, 1, 1] and use.eqn.outs[0] in tap.sources
    assert not taps.plain


def test_what_is_subtracted_has_its_sign():
    _, taps = taps_of(lambda h, x: (jnp.tanh(x @ W - h @ U),) * 2)
    [use], [tap] = taps.uses, taps.taps
    assert dict((v, sign) for sign, v in tap.terms)[use.eqn.outs[0]] == -1


def test_two_sums_take_two_taps():
    _, taps = taps_of(lambda h, x: (jnp.tanh(x @ W + h @ U) * jnp.tanh(h @ U + b),) * 2)
    assert len(taps.uses) == len(taps.taps) == 2


def test_a_use_in_no_sum_takes_a_tap_at_its_output():
    _, taps = taps_of(lambda h, x: (jnp.tanh(h @ U),) * 2)
    [use], [tap] = taps.uses, taps.taps
    assert tap.point is use.eqn.outs[0] and tap.terms == [(1, use.eqn.outs[0])]


def test_gates_of_one_product_share_one_tap():
    def body(h, x):
        i, f = jnp.split(h @ U2, 2, -1)
        return (jnp.tanh(i + x @ W) * jnp.tanh(f + b),) * 2

    _, taps = taps_of(body)
    [use], [tap] = taps.uses, taps.taps
    assert tap.point is use.eqn.outs[0] and tap.sizes == (H, H) and [len(c) for c in tap.columns] == [1, 1]


def test_what_is_not_wanted_is_read_plainly():
    s, taps = taps_of(lambda h, x: (jnp.tanh(h @ U),) * 2, lambda eqn: False)
    assert not taps.uses and [s.when[v] for v in taps.plain] == [CONSTANT]
