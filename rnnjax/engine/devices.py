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
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from rnnjax import _jax
from rnnjax.engine.binding_times import CHEAP, ELEMENTWISE_COSTLY
from rnnjax.engine.capture import Traced
from rnnjax.engine.graph import (
    Atom,
    Eqn,
    Graph,
    Var,
    alive,
    depends,
    evaluate,
    is_float,
    is_var,
    read,
    run_eqn,
    variables,
)

Place = tuple[Var, int]  # an axis of a value
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
        axis_of = follow(graph, n, starts or [], mesh.shape[name])
        if not axis_of or not may_part(graph, n, axis_of):
            return None
        return Apart(graph, n, axis_of, mesh, name, typed, part(graph, n, axis_of, mesh.shape[name]))
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


def may_part(graph: Graph, num_carry: int, axis_of: dict[Var, int]) -> bool:
    """Whether all that differs between devices leads somewhere along an axis of examples."""
    if any(is_float(v) and v not in axis_of for v in graph.ins[:num_carry]):
        return False
    if any(not _jax.is_plain(e.context) or _jax.sub_jaxprs(e.params) for e in graph.eqns):
        return False  # what is inside was traced for the whole mesh
    shared = [v for v in [*graph.consts, *graph.ins] if v in axis_of or is_float(v)]
    differs = depends(graph.eqns, shared)
    return all(v in axis_of for v in variables(graph.outs) if v in differs)


def part(graph: Graph, num_carry: int, axis_of: dict[Var, int], parts: int) -> Callable:
    """`body(consts, carry, x) -> (carry, y)` of one part of the examples."""
    eqns = [cut_down(e, axis_of, parts) for e in graph.eqns]

    def body(consts: list, carry: list, x: list) -> tuple[list, list]:
        env = dict(zip([*graph.consts, *graph.ins], [*consts, *carry, *x], strict=True))
        for eqn in eqns:
            values = alike([read(env, a) for a in eqn.ins])
            env.update(zip(eqn.outs, run_eqn(eqn, values), strict=True))
        outs = [read(env, a) if is_var(a) else jnp.asarray(read(env, a), a.aval.dtype) for a in graph.outs]
        return outs[:num_carry], outs[num_carry:]

    return body


def alike(values: list) -> list:
    """The same values; where some differ between devices, all are typed as if they did."""
    axes = _jax.varying_axes(*values)
    return [_jax.vary_over(v, axes) for v in values] if axes else values


def cut_down(eqn: Eqn, axis_of: dict[Var, int], parts: int) -> Eqn:
    """An equation for one part of the examples: some say the shape they make."""
    params = _jax.placed_nowhere(eqn.params)
    axis = axis_of.get(eqn.outs[0]) if eqn.outs else None
    if axis is not None and eqn.name in ("broadcast_in_dim", "reshape", "iota"):
        params = _jax.of_shape(params, fraction(eqn.outs[0].shape, axis, parts))
    if axis is not None and eqn.name == "slice":
        params = _jax.of_shape(params, fraction(_jax.slice_bounds(params)[1], axis, parts))
    return dataclasses.replace(eqn, params=params, context=None)


def fraction(shape: tuple[int, ...], axis: int, parts: int) -> tuple[int, ...]:
    """A shape with one axis divided."""
    return (*shape[:axis], shape[axis] // parts, *shape[axis + 1 :])


# --- which axes count examples


def follow(graph: Graph, num_carry: int, starts: Iterable[Place], parts: int) -> dict[Var, int]:
    """Which axis of each value counts examples, followed from `starts`; empty where examples meet, or do not divide."""
    classes = Classes()
    for eqn in graph.eqns:
        groups = carried(eqn)
        for group in groups:
            classes.unite(group)
        along = {place for group in groups for place in group}
        every = [(v, d) for v in variables([*eqn.ins, *eqn.outs]) for d in range(len(v.shape))]
        classes.mix([place for place in every if place not in along])
    for before, after in zip(graph.ins, graph.outs[:num_carry], strict=False):
        if is_var(after):
            for d in range(len(before.shape)):
                classes.unite([(before, d), (after, d)])
    found = classes.members(starts)
    axis_of = dict(found)
    apart = len(axis_of) == len(found) and not classes.mixed(found)
    return axis_of if apart and all(v.shape[d] % parts == 0 for v, d in found) else {}


class Classes:
    """Axes that are one and the same (union-find), and those along which something is mixed."""

    def __init__(self):
        self.parent: dict[Place, Place] = {}
        self.bad: list[Place] = []

    def root(self, place: Place) -> Place:
        self.parent.setdefault(place, place)
        while self.parent[place] != place:
            self.parent[place] = place = self.parent[self.parent[place]]
        return place

    def unite(self, group: list[Place]) -> None:
        for place in group:
            self.parent[self.root(place)] = self.root(group[0])

    def mix(self, places: Iterable[Place]) -> None:
        self.bad += places

    def members(self, starts: Iterable[Place]) -> list[Place]:
        roots = {self.root(place) for place in starts}
        return [place for place in list(self.parent) if self.root(place) in roots]

    def mixed(self, places: Iterable[Place]) -> bool:
        roots = {self.root(place) for place in places}
        return any(self.root(place) in roots for place in self.bad)


def carried(eqn: Eqn) -> list[list[Place]]:
    """Groups of axes of one equation that count the same things, each by itself; along all others it may mix."""
    rule = CARRIED.get(eqn.name)
    if rule is not None:
        return rule(eqn)
    return each_alike(eqn, ()) if eqn.name in CHEAP or eqn.name in ELEMENTWISE_COSTLY else []


def each_alike(eqn: Eqn, but: Iterable[int]) -> list[list[Place]]:
    """Axis by axis, over all values of the same rank, but for axes in `but`; what has size one serves all, as scalars do."""
    values = [v for v in variables([*eqn.ins, *eqn.outs]) if v.shape]
    shape = eqn.outs[0].shape
    if any(len(v.shape) != len(shape) for v in values):
        return []
    axes = [d for d in range(len(shape)) if d not in but and all(v.shape[d] in (1, shape[d]) for v in values)]
    return [[(v, d) for v in values if v.shape[d] == shape[d]] for d in axes]


def moved(eqn: Eqn, pairs: Iterable[tuple[int, int]]) -> list[list[Place]]:
    """`pairs`: (axis of the operand, axis of each result)."""
    if not is_var(eqn.ins[0]):
        return []
    return [[(eqn.ins[0], a), *((v, b) for v in eqn.outs)] for a, b in pairs]


def without(eqn: Eqn, gone: Iterable[int]) -> list[list[Place]]:
    """The operand's axes but for those in `gone`, in order."""
    rank = len(eqn.ins[0].aval.shape)
    return moved(eqn, [(a, b) for b, a in enumerate(d for d in range(rank) if d not in set(gone))])


def of_broadcast(eqn: Eqn) -> list[list[Place]]:
    """Axes that are new count whatever is wanted."""
    out, a = eqn.outs[0], eqn.ins[0]
    pairs = list(enumerate(_jax.broadcast_axes(eqn.params))) if is_var(a) else []
    same = [[(a, i), (out, d)] for i, d in pairs if a.shape[i] == out.shape[d]]
    return same + [[(out, d)] for d in range(len(out.shape)) if d not in [d for _, d in pairs]]


def of_reshape(eqn: Eqn) -> list[list[Place]]:
    """Axes with the same size and as much before them."""
    if not _jax.keeps_order(eqn.params) or not is_var(eqn.ins[0]):
        return []
    before, after = eqn.ins[0].shape, eqn.outs[0].shape
    where = {(math.prod(before[:d]), n): d for d, n in enumerate(before) if n > 1}
    pairs = [(where.get((math.prod(after[:d]), n)), d) for d, n in enumerate(after)]
    return moved(eqn, [(a, b) for a, b in pairs if a is not None])


def of_slice(eqn: Eqn) -> list[list[Place]]:
    """Axes that a slice takes whole."""
    starts, stops, strides = _jax.slice_bounds(eqn.params)
    form = zip(starts, stops, strides, eqn.ins[0].aval.shape, strict=True)
    return each_alike(eqn, [d for d, cut in enumerate(form) if cut[:3] != (0, cut[3], 1)])


def of_product(eqn: Eqn) -> list[list[Place]]:
    """Batch axes are shared, free axes are those of the result."""
    contract, batch = _jax.dot_axes(eqn.params)
    out, (a, b) = eqn.outs[0], eqn.ins
    if not (is_var(a) and is_var(b)):
        return []
    groups = [[(a, i), (b, j), (out, d)] for d, (i, j) in enumerate(zip(*batch, strict=True))]
    free = [(v, d) for n, v in enumerate((a, b)) for d in range(len(v.shape)) if d not in (*contract[n], *batch[n])]
    return groups + [[place, (out, d)] for d, place in enumerate(free, len(groups))]


def of_convolution(eqn: Eqn) -> list[list[Place]]:
    """The axis of the images."""
    images = _jax.batch_of_convolution(eqn.params)
    return [] if images is None else moved(eqn, [images])


CARRIED: dict[str, Callable[[Eqn], list[list[Place]]]] = {
    "broadcast_in_dim": of_broadcast,
    "reshape": of_reshape,
    "squeeze": lambda e: without(e, _jax.squeezed(e.params)),
    "transpose": lambda e: moved(e, [(a, d) for d, a in enumerate(_jax.permutation(e.params))]),
    "split": lambda e: each_alike(e, [_jax.split_form(e.params)[1]]),
    "concatenate": lambda e: each_alike(e, [_jax.concatenated(e.params)]),
    "slice": of_slice,
    "pad": lambda e: each_alike(e, _jax.padded(e.params)),
    "rev": lambda e: each_alike(e, _jax.touched_axes(e.params)),
    "iota": lambda e: each_alike(e, _jax.touched_axes(e.params)),
    "dot_general": of_product,
    "conv_general_dilated": of_convolution,
    **dict.fromkeys(
        "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin".split(),
        lambda e: without(e, _jax.reduced(e.params)),
    ),
    **dict.fromkeys(
        "cumsum cumprod cummax cummin cumlogsumexp".split(), lambda e: each_alike(e, _jax.touched_axes(e.params))
    ),
}
