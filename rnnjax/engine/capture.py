"""Step 1, capture: `lax.scan` traces the body and checks its types; its equation is taken apart into a flat graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import _jax
from rnnjax.engine.graph import PRODUCTS, Eqn, Graph, Var, depends, evaluate, is_var, read

INLINED = frozenset({"jit", "pjit", "closed_call", "core_closed_call"})
APART = frozenset({"pvary"})  # one equation for several values that have nothing to do with each other


@dataclasses.dataclass(frozen=True)
class Traced:
    """One `lax.scan` call, traced: what it would run, and the pieces to run it otherwise."""

    plain: Callable[[], Any]  # () -> (carry, ys), by lax.scan itself
    graph: Graph | None = None  # the body; ins are the carry, then one step's xs
    init: list = dataclasses.field(default_factory=list)
    xs: list = dataclasses.field(default_factory=list)
    length: int = 0
    reverse: bool = False
    unroll: int = 1
    finish: Callable[[list], Any] | None = None  # outputs of the loop, flat -> (carry, ys)
    reason: str = ""  # why there is no graph
    unknown: bool = False  # JAX made something that `_jax` does not know

    @property
    def num_carry(self) -> int:
        return len(self.init)


def inline(jaxpr: Any, env: dict, consts: dict[Var, Any], out: list[Eqn]) -> list:
    """Append the equations of `jaxpr` to `out`, nested jits opened; returns its outputs as atoms."""

    def look(atom: Any) -> Any:
        return atom if isinstance(atom, _jax.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        ins = [look(a) for a in eqn.invars]
        if eqn.primitive.name in INLINED and not _jax.in_shardings_given(eqn.params):
            inner, values = _jax.body_of_call(eqn.params)
            scope = dict(zip(inner.invars, ins, strict=True))
            scope.update(zip(inner.constvars, add_consts(values, consts), strict=True))
            outs = inline(inner, scope, consts, out)
        else:
            outs = [Var(v.aval) for v in eqn.outvars]
            where = _jax.source_line(eqn)
            primitive, params, low = eqn.primitive, eqn.params, None
            if primitive is _jax.low_product_p:
                primitive, params, low = _jax.inner_product(params)
            pairs = [([a], [v]) for a, v in zip(ins, outs, strict=False)] if primitive.name in APART else [(ins, outs)]
            context = getattr(eqn, "ctx", None)
            out.extend(Eqn(primitive, params, *pair, context, where, low) for pair in pairs)
        env.update(zip(eqn.outvars, outs, strict=True))
    return [look(a) for a in jaxpr.outvars]


def add_consts(values: list, consts: dict[Var, Any]) -> list[Var]:
    """New constants of a graph for these values."""
    fresh = [Var(jax.typeof(value)) for value in values]
    consts.update(zip(fresh, values, strict=True))
    return fresh


def to_graph(closed: Any, operands: list | None = None) -> Graph:
    """The flat graph of a closed jaxpr; the first `len(operands)` inputs are constants with these values."""
    jaxpr, values = _jax.open_jaxpr(closed)
    consts: dict[Var, Any] = {}
    env = dict(zip(jaxpr.constvars, add_consts(values, consts), strict=True))
    given = add_consts(operands or [], consts)
    ins = [Var(v.aval) for v in jaxpr.invars[len(given) :]]
    env.update(zip(jaxpr.invars, [*given, *ins], strict=True))
    eqns: list[Eqn] = []
    outs = inline(jaxpr, env, consts, eqns)
    return Graph(consts, ins, eqns, outs)


def trace(f: Callable, init: Any, xs: Any, length: int | None, reverse: bool, unroll: int | bool) -> Traced:
    """Trace one `lax.scan` call. Raises what `lax.scan` raises: it sees the arguments as they came."""

    def call():
        return jax.lax.scan(f, init, xs, length=length, reverse=reverse, unroll=unroll)

    if jax.config.jax_disable_jit:
        return Traced(call, reason="jit is disabled")
    closed, shape = jax.make_jaxpr(call, return_shape=True)()
    tree = jax.tree.structure(shape)

    def plain():
        return jax.tree.unflatten(tree, _jax.evaluate(closed))

    try:
        return take_apart(closed, tree, plain)
    except _jax.Unsupported as error:
        return Traced(plain, reason=str(error), unknown=True)


def take_apart(closed: Any, tree: Any, plain: Callable[[], Any]) -> Traced:
    """The pieces of a traced `lax.scan` call with results of structure `tree`."""
    jaxpr, consts = _jax.open_jaxpr(closed)
    scans = [n for n, e in enumerate(jaxpr.eqns) if e.primitive.name == "scan"]
    if len(scans) != 1:
        raise _jax.Unsupported(f"lax.scan became {len(scans)} loops")
    if _jax.ordered_effects(jaxpr):
        return Traced(plain, reason="the body has effects, which are kept in order")
    before, eqn, after = jaxpr.eqns[: scans[0]], jaxpr.eqns[scans[0]], jaxpr.eqns[scans[0] + 1 :]
    loop = _jax.loop_of_scan(eqn)
    if not isinstance(loop.length, int):
        return Traced(plain, reason="the number of steps is symbolic (jax.export)")
    env = dict(zip(jaxpr.constvars, consts, strict=True))
    run_outer(before, env)
    operands = [look(env, a) for a in eqn.invars]

    def finish(outs: list) -> Any:
        inner = {**env, **dict(zip(eqn.outvars, outs, strict=True))}
        run_outer(after, inner)
        return jax.tree.unflatten(tree, [look(inner, a) for a in jaxpr.outvars])

    n, m = loop.num_consts, loop.num_consts + loop.num_carry
    graph = to_graph(loop.body, operands[:n])
    return Traced(plain, graph, operands[n:m], operands[m:], loop.length, loop.reverse, loop.unroll, finish)


def lowered(f: Callable, dtype: Any) -> Callable:
    """The body `f` with its products with constants on operands of `dtype`, for a loop that stays as it is."""

    def body(carry: Any, x: Any) -> Any:
        closed, shape = jax.make_jaxpr(f, return_shape=True)(carry, x)
        graph = lower_products(to_graph(closed), dtype)
        env = {**graph.consts, **dict(zip(graph.ins, jax.tree.leaves((carry, x)), strict=True))}
        evaluate(graph.eqns, env)
        return jax.tree.unflatten(jax.tree.structure(shape), [read(env, a) for a in graph.outs])

    return body


def lower_products(graph: Graph, dtype: Any) -> Graph:
    """Mark the products with constants to run on operands of `dtype`."""
    moving = depends(graph.eqns, graph.ins)

    def lower(eqn: Eqn) -> Eqn:
        wide = eqn.name in PRODUCTS and all(is_var(a) and a.dtype in (jnp.float32, jnp.float64) for a in eqn.ins)
        if not wide or all(a in moving for a in eqn.ins):
            return eqn
        return dataclasses.replace(eqn, params=_jax.with_result(eqn.params, eqn.outs[0].dtype), low=jnp.dtype(dtype))

    return dataclasses.replace(graph, eqns=[lower(e) for e in graph.eqns])


def look(env: dict, atom: Any) -> Any:
    """What an atom of a jaxpr stands for."""
    return _jax.literal_value(atom) if isinstance(atom, _jax.Literal) else env[atom]


def run_outer(eqns: list, env: dict) -> None:
    """The few equations that `lax.scan` puts round its loop (promotion of the carry, carries that never change)."""
    for eqn in eqns:
        out = _jax.bind(eqn.primitive, eqn.params, [look(env, a) for a in eqn.invars], eqn.ctx)
        env.update(zip(eqn.outvars, out, strict=True))
