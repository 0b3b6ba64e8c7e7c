"""One equation for all steps at once: `vmap` over time, with products laid out so that their transposes need no copy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax import _jax
from rnnjax.engine.binding_times import CONSTANT, Sorted
from rnnjax.engine.execute.convolution import run_smooth
from rnnjax.engine.graph import Eqn, Var, alive, is_var, nbytes, read
from rnnjax.engine.passes.narrow import narrow_products

WIDE = 2 * 2**20  # up to here a product over time stays in the cache while it is cut apart; one wide product is faster


def evaluate_stacked(eqns: list[Eqn], env: dict[Var, Any], stacked: set[Var]) -> None:
    """Run equations for all steps; values in `stacked` lead with time, and so does what depends on them."""
    for eqn in eqns:
        over = [is_var(a) and a in stacked for a in eqn.ins]
        if any(over):
            stacked.update(eqn.outs)
        env.update(zip(eqn.outs, run_stacked(eqn, [read(env, a) for a in eqn.ins], over), strict=True))


def run_stacked(eqn: Eqn, values: list, over: list[bool], run: Callable[[Eqn, list], list] = run_smooth) -> list:
    """One equation, by `run`; `over` says which values lead with time."""
    if not any(over):
        return run(eqn, values)
    plain = eqn.name == "dot_general" and over == [True, False] and plain_product(eqn, values[1])
    if plain and not _jax.partitioned(values[0]):  # there, rows folded over time would change devices
        return [flat_product(eqn, *values)]

    def one(*inner):
        it = iter(inner)
        return run(eqn, [next(it) if o else v for v, o in zip(values, over, strict=True)])

    moving = [v for v, o in zip(values, over, strict=True) if o]
    if eqn.name == "cond" and over[0] and any(e.primitive.name == "pvary" for e in inner_equations(eqn)):
        return lax.map(lambda given: one(*given), moving)  # JAX's vmap of it loses what varies over a mesh
    return jax.vmap(one)(*moving)


def inner_equations(eqn: Eqn) -> list:
    """All equations inside an equation's own jaxprs."""
    return [e for sub in _jax.sub_jaxprs(eqn.params) for e in _jax.equations(sub)]


def plain_product(eqn: Eqn, weight: Any) -> bool:
    """`a [..., K] @ W [K, N]`."""
    (lhs, rhs), (batch, _) = _jax.dot_axes(eqn.params)
    last = len(eqn.ins[0].aval.shape) - 1
    return not batch and tuple(lhs) == (last,) and tuple(rhs) == (0,) and weight.ndim == 2


def flat_product(eqn: Eqn, a: Any, weight: Any) -> jax.Array:
    """`[T, ..., K] @ [K, N]` as one matrix product: XLA copies nothing for `a^T @ d`, the weight's gradient."""
    rows = math.prod(a.shape[:-1])
    params = _jax.with_dot_axes(eqn.params, ((1,), (0,)))
    out = _jax.bind(lax.dot_general_p, params, [jnp.reshape(a, (rows, a.shape[-1])), weight], eqn.context, eqn.low)[0]
    return jnp.reshape(out, (*a.shape[:-1], weight.shape[1]))


def hoist(s: Sorted, wanted: list[Var], env: dict[Var, Any], xs: list) -> list:
    """The wanted values that need x alone, for all steps at once."""
    stacked = dict(zip(s.xs, xs, strict=True))
    inner = {**env, **stacked}
    eqns = alive(s.ahead, wanted)
    steps = xs[0].shape[0] if xs else 0
    if any(steps * nbytes(v) > WIDE for e in eqns if e.name == "dot_general" for v in e.outs):
        eqns = narrow_products(eqns, set(wanted), lambda v: s.when[v] == CONSTANT)
    evaluate_stacked(eqns, inner, set(stacked))
    return [inner[v] for v in wanted]
