"""A step whose carry passes no gradient through products with weights: what e-prop keeps of the time before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from rnnjax import _jax

PRODUCTS = frozenset({"dot_general", "conv_general_dilated"})
OPENED = frozenset("jit pjit closed_call core_closed_call remat remat2 checkpoint".split())


class _Value(NamedTuple):
    """A value on its way through the step. number: its place in the order; weight, old: whether it depends on the params, and
    on the old carry other than through a part of the new one."""

    value: Any
    number: int = -1
    weight: bool = False
    old: bool = False


def cut(step: Callable) -> Callable:
    """``step(params, carry, *rest) -> (carry, y)`` with the same values and, for the carry, fewer derivatives.

    Where a value that depends on the old carry is multiplied with one that depends on the params and not on the carry (a
    matrix product or a convolution), it passes no derivative on: messages between units are cut, what a unit keeps to itself
    stays. What depends on the old carry through a part of the new carry alone (a readout, the layer above) is left.
    """

    def cut_step(params: Any, carry: Any, *rest: Any) -> Any:
        closed, shape = jax.make_jaxpr(step, return_shape=True)(params, carry, *rest)
        n, m = len(jax.tree.leaves(params)), len(jax.tree.leaves(carry))
        ins = [_Value(a, -1, i < n, n <= i < n + m) for i, a in enumerate(jax.tree.leaves((params, carry, *rest)))]
        jaxpr, consts = _jax.open_jaxpr(closed)
        first = _run(jaxpr, [_Value(c) for c in consts], ins, frozenset(), [0])
        new_carry = frozenset(v.number for v in first[: len(jax.tree.leaves(shape[0]))])
        outs = _run(jaxpr, [_Value(c) for c in consts], ins, new_carry, [0])
        return jax.tree.unflatten(jax.tree.structure(shape), [v.value for v in outs])

    return cut_step


def _run(jaxpr: Any, consts: list[_Value], ins: list[_Value], new_carry: frozenset, count: list[int]) -> list[_Value]:
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *ins], strict=True))

    def read(atom: Any) -> _Value:
        return _Value(_jax.literal_value(atom)) if isinstance(atom, _jax.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        values = [read(a) for a in eqn.invars]
        if eqn.primitive.name in OPENED:
            inner, given = _jax.body_of_call(eqn.params)
            outs = _run(inner, [_Value(c) for c in given], values, new_carry, count)
        else:
            outs = _apply(eqn, values, new_carry, count)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _apply(eqn: Any, values: list[_Value], new_carry: frozenset, count: list[int]) -> list[_Value]:
    if eqn.primitive.name in PRODUCTS:
        values = [_stopped(values[0], values[1]), _stopped(values[1], values[0])]
    weight, old = any(v.weight for v in values), any(v.old for v in values)
    results = _jax.bind(eqn.primitive, eqn.params, [v.value for v in values], getattr(eqn, "ctx", None))
    outs = []
    for result in results:
        count[0] += 1
        outs.append(_Value(result, count[0], weight, old and count[0] not in new_carry))
    return outs


def _stopped(mine: _Value, other: _Value) -> _Value:
    if mine.old and other.weight and not other.old:
        return mine._replace(value=jax.lax.stop_gradient(mine.value), old=False)
    return mine
