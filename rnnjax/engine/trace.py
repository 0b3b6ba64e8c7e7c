"""Step 1, trace: `lax.scan` traces the body and checks its types; its equation is taken apart into a flat graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from rnnjax import _jax
from rnnjax.engine.graph import Eqn, Graph, Var

INLINED = frozenset({"jit", "pjit", "closed_call", "core_closed_call"})


@dataclasses.dataclass
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
            inner, values = _jax.open_jaxpr(eqn.params.get("jaxpr") or eqn.params["call_jaxpr"])
            scope = dict(zip(inner.invars, ins, strict=True))
            scope.update(zip(inner.constvars, add_consts(values, consts), strict=True))
            outs = inline(inner, scope, consts, out)
        else:
            outs = [Var(v.aval) for v in eqn.outvars]
            where = _jax.source_line(eqn)
            primitive, params, low = eqn.primitive, eqn.params, None
            if primitive is _jax.low_product_p:
                primitive, params, low = params["inner"], dict(params["form"]), params["low"]
            out.append(Eqn(primitive, params, ins, outs, getattr(eqn, "ctx", None), where, low))
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
    """Trace one `lax.scan` call. Raises what `lax.scan` raises."""

    def call(init, xs):
        return jax.lax.scan(f, init, xs, length=length, reverse=reverse, unroll=unroll)

    if jax.config.jax_disable_jit:
        return Traced(lambda: call(init, xs), reason="jit is disabled")
    closed, shape = jax.make_jaxpr(call, return_shape=True)(init, xs)
    tree = jax.tree.structure(shape)
    leaves = jax.tree.leaves((init, xs))
    jaxpr, consts = _jax.open_jaxpr(closed)

    def plain():
        return jax.tree.unflatten(tree, jax.core.eval_jaxpr(jaxpr, consts, *leaves))

    scans = [n for n, e in enumerate(jaxpr.eqns) if e.primitive.name == "scan"]
    if len(scans) != 1:
        return Traced(plain, reason="lax.scan did not lower to one loop")
    if jaxpr.effects:
        return Traced(plain, reason="the body has effects, which are kept in order")
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *leaves], strict=True))
    run_outer(jaxpr.eqns[: scans[0]], env)
    loop = jaxpr.eqns[scans[0]]
    operands = [look(env, a) for a in loop.invars]

    def finish(outs: list) -> Any:
        after = {**env, **dict(zip(loop.outvars, outs, strict=True))}
        run_outer(jaxpr.eqns[scans[0] + 1 :], after)
        return jax.tree.unflatten(tree, [look(after, a) for a in jaxpr.outvars])

    p = loop.params
    if not isinstance(p["length"], int):
        return Traced(plain, reason="the number of steps is symbolic (jax.export)")
    n, m = p["num_consts"], p["num_consts"] + p["num_carry"]
    graph = to_graph(p["jaxpr"], operands[:n])
    return Traced(plain, graph, operands[n:m], operands[m:], p["length"], p["reverse"], p["unroll"], finish)


def look(env: dict, atom: Any) -> Any:
    """What an atom of a jaxpr stands for."""
    return atom.val if isinstance(atom, _jax.Literal) else env[atom]


def run_outer(eqns: list, env: dict) -> None:
    """The few equations that `lax.scan` puts round its loop (promotion of the carry, carries that never change)."""
    for eqn in eqns:
        out = _jax.bind(eqn.primitive, eqn.params, [look(env, a) for a in eqn.invars], eqn.ctx)
        env.update(zip(eqn.outvars, out, strict=True))
