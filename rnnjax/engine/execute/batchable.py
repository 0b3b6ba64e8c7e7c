"""What is linear in tangents, made so that `vmap` may meet it before it is transposed.

`lax.scan` under grad(vmap) is batched, then made linear, then transposed. The rule of the engine's loop runs inside the
vmap: it is made linear first. Most equations do not mind; a `cond` on an index of each lane, and a custom_vjp function,
JAX cannot transpose once they were made linear and then batched. `_jax.as_linear` gives them a transpose to be batched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from rnnjax import _jax
from rnnjax.engine.capture import to_graph
from rnnjax.engine.graph import Eqn, Graph, Var, alive, depends, evaluate, read, variables


def delicate(eqn: Eqn) -> bool:
    """Whether an equation's tangent needs the care of this file."""
    return _jax.delicate(eqn.primitive, eqn.params)


def batchable(graph: Graph, dots: list[Var]) -> Graph:
    """The same graph, linear in `dots`, that can be batched and transposed after."""
    moving = depends(graph.eqns, dots)

    def guard(eqn: Eqn) -> Eqn:
        if not any(v in moving for v in variables(eqn.ins)) or not delicate(eqn):
            return eqn
        avals = [a.aval for a in eqn.ins], [v.aval for v in eqn.outs]
        primitive, params = _jax.as_linear(eqn.primitive, eqn.params, *avals, eqn.context)
        return dataclasses.replace(eqn, primitive=primitive, params=params)

    return dataclasses.replace(graph, eqns=[guard(e) for e in graph.eqns])


def push_forward(f: Callable[..., list], primals: Any, tangents: Any, eqns: list[Eqn]) -> list:
    """The tangents of the flat list `f(*primals)`; `eqns` are what `f` runs."""
    if not any(map(delicate, eqns)):
        return jax.jvp(f, primals, tangents)[1]
    graph = to_graph(jax.make_jaxpr(lambda p, t: jax.jvp(f, p, t)[1])(primals, tangents))
    at, dots = jax.tree.leaves(primals), jax.tree.leaves(tangents)
    env = {**graph.consts, **dict(zip(graph.ins, [*at, *dots], strict=True))}
    evaluate(alive(batchable(graph, graph.ins[len(at) :]).eqns, graph.outs), env)
    return [read(env, a) for a in graph.outs]
