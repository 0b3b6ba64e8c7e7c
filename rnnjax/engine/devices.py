"""A batch that a mesh splits: each device takes its own examples through time, and no device waits for another.

Where every step of a body treats each example by itself, the loop on a device's part of the batch is the loop of that
part. So the body is cut down to one part and runs under `jax.shard_map`, whole or in blocks, with a replay or segments, as
on one device; the gradients of what all devices share are summed once, after the loop. Left to JAX or XLA, each block of
time would end in such a sum.

Which axes count examples is found by following them through the body: an axis is carried along, or an equation mixes what
lies along it. Explicit types say where to start. An automatic mesh does not: there it is the first axis of the carry, and
if that is wrong the numbers are right all the same. Where examples meet, or an equation is unknown, the loop runs as JAX
and XLA split it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from rnnjax import _jax
from rnnjax.engine.capture import Traced
from rnnjax.engine.examples import CUSTOM, Call, Place, follow, opened
from rnnjax.engine.graph import Atom, Eqn, Graph, Var, alive, depends, evaluate, is_float, is_var, variables
from rnnjax.engine.parts import Cut, part

Runner = Callable[[Callable, list, list], tuple[list, list]]


@dataclasses.dataclass(frozen=True)
class Apart:
    """A body that treats each example by itself, and where the examples lie."""

    graph: Graph
    num_carry: int
    axis_of: dict[Var, int]  # which axis counts examples, of the values that have such
    mesh: Any
    name: str  # the axis of the mesh over which they are split
    typed: bool  # whether types say where arrays lie
    body: Callable  # of one part of them: (consts, carry, x) -> (carry, y)

    def spec(self, atom: Atom, time: int) -> PartitionSpec:
        """Where a value lies; `time`: 1 for its stack over time."""
        axis = self.axis_of.get(atom) if is_var(atom) else None
        return PartitionSpec() if axis is None else PartitionSpec(*(None,) * (axis + time), self.name)

    def specs(self, carry: list, stacked: list) -> list[list[PartitionSpec]]:
        """Where a carry, or constants, lie, and where stacks do."""
        return [[self.spec(v, 0) for v in carry], [self.spec(v, 1) for v in stacked]]


def find_apart(traced: Traced) -> Apart | None:
    """How devices may run a loop apart; None where they may not."""
    about = _jax.splitting_axis([*traced.init, *traced.xs])
    if traced.graph is None or about is None:
        return None
    (mesh, name, typed), n = about, traced.num_carry
    try:
        graph = constants_first(traced.graph)
        starts = split_places(traced, graph, name) if typed else first_axes(graph, n)
        calls, parts = opened(graph.eqns), mesh.shape[name]
        axis_of = follow(graph, n, starts or [], parts, calls)
        if not axis_of or not may_part(graph, n, axis_of, calls):
            return None
        return Apart(graph, n, axis_of, mesh, name, typed, part(graph, n, Cut(axis_of, parts, name, calls)))
    except _jax.Unsupported:
        return None  # whoever runs the loop otherwise meets the same, and says so


def run_apart(apart: Apart, init: list, xs: list, run: Runner) -> list:
    """The flat outputs of a loop, by `run(body, init, xs)` on each device with its own examples."""
    graph, n, axes = apart.graph, apart.num_carry, frozenset([apart.name])
    ins = [apart.specs([*graph.consts], [])[0], *apart.specs(graph.ins[:n], graph.ins[n:])]
    outs = tuple(apart.specs(graph.outs[:n], graph.outs[n:]))

    def own(value: jax.Array) -> jax.Array:  # or its gradient would be summed over devices wherever it is used
        return _jax.vary_over(value, axes) if jnp.issubdtype(value.dtype, jnp.inexact) else value

    def one(consts: list, init: list, xs: list) -> tuple[list, list]:
        consts, xs = jax.tree.map(own, (consts, xs))
        return run(lambda carry, x: apart.body(consts, carry, x), init, xs)

    given = [list(graph.consts.values()), init, xs]
    if apart.typed:
        given = jax.tree.map(lambda v, spec: jax.reshard(v, NamedSharding(apart.mesh, spec)), given, ins)
    carry, ys = jax.jit(jax.shard_map(one, mesh=apart.mesh, in_specs=tuple(ins), out_specs=outs))(*given)
    return [*carry, *ys]


def constants_first(graph: Graph) -> Graph:
    """The same, with what needs constants alone computed: its values are constants."""
    moving = depends(graph.eqns, graph.ins)
    once, rest = ([e for e in graph.eqns if any(v in moving for v in e.outs) is late] for late in (False, True))
    env = dict(graph.consts)
    evaluate(alive(once, [*graph.outs, *(a for e in rest for a in e.ins)]), env)
    used = variables([*graph.outs, *(a for e in alive(rest, graph.outs) for a in e.ins)])
    return Graph({v: env[v] for v in dict.fromkeys(used) if v in env}, graph.ins, alive(rest, graph.outs), graph.outs)


def split_places(traced: Traced, graph: Graph, name: str) -> list[Place] | None:
    """The axes that an explicit mesh splits, of all that a body is given; None where it splits time."""
    found = []
    stacks = dict(zip(graph.ins[traced.num_carry :], traced.xs, strict=True))
    for v, value in [*graph.consts.items(), *zip(graph.ins, [*traced.init, *traced.xs], strict=True)]:
        spec = _jax.placement(value).spec if _jax.placement(value) is not None else ()
        for d, axis in enumerate(spec):
            if axis is not None and name in (axis if isinstance(axis, tuple) else (axis,)):
                if v in stacks and d == 0:
                    return None
                found.append((v, d - (v in stacks)))
    return found


def first_axes(graph: Graph, num_carry: int) -> list[Place]:
    """The first axis of each floating carry that has more than one."""
    return [(v, 0) for v in graph.ins[:num_carry] if is_float(v) and len(v.shape) > 1]


def may_part(graph: Graph, num_carry: int, axis_of: dict[Var, int], calls: dict[Eqn, Call]) -> bool:
    """Whether all that differs between devices leads somewhere along an axis of examples."""
    if any(is_float(v) and v not in axis_of for v in graph.ins[:num_carry]):
        return False
    if not all(map(plain, graph.eqns)) or not all(map(plain, inside(calls))):
        return False  # what is inside was traced for the whole mesh
    shared = [v for v in [*graph.consts, *graph.ins] if v in axis_of or is_float(v)]
    differs = depends(graph.eqns, shared)
    return all(v in axis_of for v in variables(graph.outs) if v in differs)


def plain(eqn: Eqn) -> bool:
    """Whether an equation may be cut: nothing nested, but for calls that are opened."""
    return _jax.is_plain(eqn.context) and (eqn.name in CUSTOM or not _jax.sub_jaxprs(eqn.params))


def inside(calls: dict[Eqn, Call]) -> list[Eqn]:
    """The equations of calls, and of those in them."""
    return [e for c in calls.values() for e in [*c.eqns, *inside(c.calls)]]
