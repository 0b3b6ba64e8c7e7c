"""Which axes of a body's values count examples: followed through its equations, each of which carries an axis along or mixes
what lies along it. A call with a derivative rule of its own is followed through what it computes and through its rule.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator

import jax

from rnnjax import _jax
from rnnjax.engine.capture import to_graph
from rnnjax.engine.graph import Atom, Eqn, Graph, Var, alive, is_float, is_var, run_eqn, variables

Place = tuple[Var, int]  # an axis of a value
ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp complex conj "
    "convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma "
    "igammac imag integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to max min mul ne neg nextafter not or "
    "polygamma population_count clz pow real reduce_precision rem round rsqrt select_n shift_left "
    "shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor "
    "bitcast_convert_type".split()
)
CUSTOM = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})
DERIVATIVES = 3  # a rule may call its own function: it is opened for so many derivatives, one of another


@dataclasses.dataclass(frozen=True)
class Call:
    """A call with a derivative rule of its own, opened: what it computes, and its rule as a graph.

    rule: with ``forward`` from (arguments, tangents of ``floats`` of them) to tangents of the results; else from (arguments,
    cotangents of the results) to cotangents of ``floats``; None where it is not opened.
    calls: those inside.
    """

    value: Graph
    rule: Graph | None
    forward: bool
    floats: tuple[int, ...]
    calls: dict[Eqn, Call]

    @property
    def eqns(self) -> list[Eqn]:
        """Of the value and of the rule."""
        return self.value.eqns + (self.rule.eqns if self.rule is not None else [])

    def links(self, eqn: Eqn) -> Iterator[tuple[Atom, Atom]]:
        """Pairs of what is one value outside and inside, or a value and its derivative."""
        moved = [eqn.ins[k] for k in self.floats]
        dots, made = (moved, eqn.outs) if self.forward else (eqn.outs, moved)
        yield from zip(self.value.ins, eqn.ins, strict=True)
        yield from zip(self.value.outs, eqn.outs, strict=True)
        if self.rule is None:
            return
        yield from zip(self.rule.ins, [*eqn.ins, *dots], strict=True)
        yield from zip(self.rule.outs, made, strict=True)


def opened(eqns: Iterable[Eqn], derivatives: int = DERIVATIVES) -> dict[Eqn, Call]:
    """The calls among equations. Raises `Unsupported` for one with results that have no derivative, or whose rule raises."""
    return {eqn: open_call(eqn, derivatives) for eqn in eqns if eqn.name in CUSTOM}


def open_call(eqn: Eqn, derivatives: int) -> Call:
    """One of them: its rule as JAX applies it."""
    if not all(map(is_float, eqn.outs)):
        raise _jax.Unsupported(f"{eqn.name} with whole numbers for results")
    floats = tuple(k for k, a in enumerate(eqn.ins) if is_float(a))
    forward = eqn.name == "custom_jvp_call"

    def of(values: list, moved: list) -> list:
        full = dict(enumerate(values)) | dict(zip(floats, moved, strict=True))
        return run_eqn(eqn, [full[k] for k in range(len(values))])

    def rule(values: list, dots: list) -> list:
        moved = [values[k] for k in floats]
        if forward:
            return jax.jvp(lambda moved: of(values, moved), (moved,), (dots,))[1]
        return jax.vjp(lambda moved: of(values, moved), moved)[1](dots)[0]

    value, made = needed(to_graph(_jax.called(eqn.params))), None
    if derivatives:
        dots = [eqn.ins[k] for k in floats] if forward else eqn.outs
        try:
            closed = jax.make_jaxpr(rule)(*([_jax.like(a.aval) for a in atoms] for atoms in (eqn.ins, dots)))
        except Exception as error:  # a rule may refuse to be asked, and nobody may ask: it is the user's
            raise _jax.Unsupported(f"the derivative rule of a function in the body raised {error!r}") from error
        made = needed(to_graph(closed))
    inside = opened(value.eqns, derivatives) | (opened(made.eqns, derivatives - 1) if made is not None else {})
    return Call(value, made, forward, floats, inside)


def needed(graph: Graph) -> Graph:
    """Without equations whose results nobody reads: a rule's own call of its function is one."""
    return dataclasses.replace(graph, eqns=alive(graph.eqns, graph.outs))


def follow(graph: Graph, num_carry: int, starts: Iterable[Place], parts: int, calls: dict[Eqn, Call]) -> dict[Var, int]:
    """Which axis of each value counts examples, followed from `starts`; empty where examples meet, or do not divide."""
    classes = Classes()
    classes.read(graph.eqns, calls)
    for before, after in zip(graph.ins, graph.outs[:num_carry], strict=False):
        classes.same(before, after)
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

    def same(self, a: Atom, b: Atom) -> None:
        """Two values of one shape, axis by axis."""
        if is_var(a) and is_var(b):
            for d in range(len(a.shape)):
                self.unite([(a, d), (b, d)])

    def read(self, eqns: Iterable[Eqn], calls: dict[Eqn, Call]) -> None:
        """What equations carry along and mix."""
        for eqn in eqns:
            if eqn in calls:
                call = calls[eqn]
                self.read(call.eqns, call.calls)
                for pair in call.links(eqn):
                    self.same(*pair)
                continue
            groups = carried(eqn)
            for group in groups:
                self.unite(group)
            along = {place for group in groups for place in group}
            every = [(v, d) for v in variables([*eqn.ins, *eqn.outs]) for d in range(len(v.shape))]
            self.bad += [place for place in every if place not in along]

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
    return each_alike(eqn, ()) if eqn.name in ELEMENTWISE else []


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


def of_bits(eqn: Eqn) -> list[list[Place]]:
    """Keys for each example, or examples within what one key gives."""
    key, out = eqn.ins[0], eqn.outs[0]
    own = range(len(key.aval.shape))
    return moved(eqn, [(d, d) for d in own]) + [[(out, d)] for d in range(len(own), len(out.shape))]


def of_convolution(eqn: Eqn) -> list[list[Place]]:
    """The axis of the images, unless they are grouped."""
    form = _jax.convolution(eqn.params)
    return moved(eqn, [(form.operand[0], form.out[0])]) if form.groups[1] == 1 else []


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
    "random_bits": of_bits,
    "random_wrap": lambda e: moved(e, [(d, d) for d in range(len(e.outs[0].shape))]),
    "random_unwrap": lambda e: moved(e, [(d, d) for d in range(len(e.ins[0].aval.shape))]),
    "random_split": lambda e: moved(e, [(d, d) for d in range(len(e.ins[0].aval.shape))]),
    "random_fold_in": lambda e: each_alike(e, ()),
    **dict.fromkeys(
        "reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin".split(),
        lambda e: without(e, _jax.reduced(e.params)),
    ),
    **dict.fromkeys(
        "cumsum cumprod cummax cummin cumlogsumexp sort top_k".split(),
        lambda e: each_alike(e, _jax.touched_axes(e.params)),
    ),
}
