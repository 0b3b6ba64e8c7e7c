"""Where the rows of a batch go: for each value of a traced loss, which axis counts them, or what else it is.

    Rows    row r of it depends on row r of the batch and on nothing of the other rows
    Whole   it does not depend on the batch
    TAIL    it depends on sums over the batch: the frontier, and all that is computed from it

A rule for each primitive says what becomes of the axis. Where no rule does, `Unprovable`: the loss is then left to
XLA's partitioner. Nothing here looks at values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from rnnjax import _jax
from rnnjax.engine.capture import to_graph
from rnnjax.engine.graph import Eqn, Graph, Var, is_float, is_var, run_eqn
from rnnjax.train import reads


class Unprovable(Exception):
    """Why a loss is not shown to treat the rows of its batch one by one."""


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows lie along `axis`, whose size is `outer * rows * inner` (more than `rows` after a reshape)."""

    axis: int
    outer: int = 1
    inner: int = 1

    def at(self, axis: int) -> Rows:
        return dataclasses.replace(self, axis=axis)


@dataclasses.dataclass(frozen=True)
class Whole:
    """Nothing of the batch in it; along the axes in `uniform` all of it is the same."""

    uniform: frozenset[int] = frozenset()


TAIL = "tail"
LARGE = 2**16  # constants with more elements are told apart as objects
SUM = "sum"  # the result of a rule: a sum over the rows
State = Any  # Rows, Whole or TAIL

ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp complex conj "
    "convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma "
    "igammac imag integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to max min mul ne neg nextafter not or "
    "polygamma population_count clz pow real reduce_precision rem round rsqrt select_n shift_left "
    "shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan tanh xor "
    "bitcast_convert_type".split()
)
KEYED = frozenset({"random_bits", "random_split", "random_fold_in", "random_wrap", "random_unwrap", "random_seed"})
MOVES = frozenset({"broadcast_in_dim", "reshape", "transpose", "squeeze"})  # what is uniform stays so
CALLS = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "remat", "remat2", "checkpoint"})
PIECES = frozenset({"slice", "split", "dynamic_slice", "rev"})  # so does what is taken out of it
CUSTOM = frozenset({"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})
LINEAR = MOVES | {
    "add",
    "add_any",
    "neg",
    "sub",
    "convert_element_type",
    "reduce_sum",
    "copy",
    "copy_p",
    "slice",
    "pad",
}
SILENT = frozenset(
    {"add", "add_any", "copy", "copy_p", "convert_element_type", "stop_gradient"}
)  # an engine may add these


@dataclasses.dataclass
class Study:
    """Follows the rows through a graph; `rows`: how many there are. `frontier`: the sums over them, in order. `marks`:
    (equation of the outermost graph, something in it that may have been made from the number of rows)."""

    rows: int
    frontier: list[Var] = dataclasses.field(default_factory=list)
    marks: list[tuple[int, Any]] = dataclasses.field(default_factory=list)
    inside: int | None = None  # the outermost equation that is looked into
    rules: bool = True  # look at derivative rules that are not JAX's own
    derivative: bool = False  # in such a rule: sums over the rows, and what is linear in them, may be results

    def follow(self, graph: Graph, given: list[State]) -> dict[Var, State]:
        """The state of every value."""
        env: dict[Var, State] = {v: Whole() for v in graph.consts}
        env.update(zip(graph.ins, given, strict=True))
        outermost = self.inside is None
        for eqn in graph.eqns:
            self.inside = id(eqn) if outermost else self.inside
            self.mark_literals(eqn, graph)
            out = self.apply(eqn, [env[a] if is_var(a) else Whole() for a in eqn.ins])
            if SUM in out:
                if not (outermost or self.derivative):
                    raise Unprovable(f"a sum over the batch inside a loop, a branch or a checkpoint{said(eqn)}")
                self.frontier += eqn.outs if outermost else []
                out = [TAIL] * len(out)
            env.update(zip(eqn.outs, out, strict=True))
        self.inside = None if outermost else self.inside
        return env

    def apply(self, eqn: Eqn, states: list[State]) -> list[State]:
        """The states of an equation's results."""
        split = any(isinstance(s, Rows) for s in states)
        if TAIL in states:
            if split:
                raise Unprovable(f"each row depends on a sum over the batch{said(eqn)}")
            if self.derivative and eqn.name not in LINEAR:
                raise Unprovable(f"a derivative rule with more than sums over the batch{said(eqn)}")
            return [TAIL] * len(eqn.outs)
        if eqn.name in CALLS:
            out = self.outs_of(reads.called(eqn.params), states)
            if self.rules and split and eqn.name in CUSTOM:
                check_rule(self, eqn, states, out)
            return out
        if eqn.name in LOOPS:
            return LOOPS[eqn.name](self, eqn, states)
        if not split:
            return self.whole(eqn, states)
        if eqn.name in ELEMENTWISE:
            return same_rows(eqn, states)
        if eqn.name not in RULES:
            raise Unprovable(f"no rule for {eqn.name}{said(eqn)}")
        self.mark_mixed(eqn, states)
        out = RULES[eqn.name](eqn, states, self.rows)
        return out if isinstance(out, list) else [out] * len(eqn.outs)

    def outs_of(self, closed: Any, states: list[State]) -> list[State]:
        """The states of a nested jaxpr's results."""
        graph = to_graph(closed)
        env = self.follow(graph, states)
        return [env[a] if is_var(a) else Whole() for a in graph.outs]

    def whole(self, eqn: Eqn, states: list[State]) -> list[State]:
        """An equation that reads nothing of the batch."""
        for inner in (e for sub in _jax.sub_jaxprs(eqn.params) for e in _jax.equations(sub)):
            self.marks += [(self.inside or 0, fixed(a.val, a)) for a in inner.invars if isinstance(a, _jax.Literal)]
        if not eqn.ins or eqn.name in KEYED:
            self.marks.append((self.inside or 0, (eqn.name, *(v.shape for v in eqn.outs))))
        return [self.uniform(eqn, states, v) for v in eqn.outs]

    def uniform(self, eqn: Eqn, states: list[State], out: Var) -> Whole:
        """The axes of a result along which it is uniform: those that a rule leads a uniform axis to, and new ones."""
        if eqn.name in MOVES or not eqn.ins:
            return filled(eqn, states, out)
        if eqn.name in PIECES:
            return states[0]
        found = frozenset(range(len(out.shape))) if all(not shape_of(a) for a in eqn.ins) else frozenset()
        for k, (atom, state) in enumerate(zip(eqn.ins, states, strict=True)):
            for axis in state.uniform:
                to = led_to(eqn, [*states[:k], Rows(axis), *states[k + 1 :]], shape_of(atom)[axis])
                found |= {to} if to is not None and to < len(out.shape) else frozenset()
                if to is None and eqn.name not in ELEMENTWISE | FILLED:
                    self.marks.append((self.inside or 0, (eqn.name, shape_of(atom)[axis])))
        return Whole(found)

    def mark_mixed(self, eqn: Eqn, states: list[State]) -> None:
        """Constants made in the size of something: their sizes must not come from the number of rows."""
        for atom, state in zip(eqn.ins, states, strict=True):
            if isinstance(state, Whole) and state.uniform and eqn.name not in FILLED:
                self.marks.append((self.inside or 0, (eqn.name, shape_of(atom))))

    def mark_literals(self, eqn: Eqn, graph: Graph) -> None:
        """Numbers in the program, and what is done with them."""
        if eqn.name in ELEMENTWISE - SILENT:
            self.marks.append((self.inside or 0, eqn.name))
        for atom in eqn.ins:
            value = graph.consts.get(atom) if is_var(atom) else atom.val
            if value is not None:
                self.marks.append((self.inside or 0, fixed(value, atom)))


def fixed(value: Any, atom: Any) -> Any:
    """Something to compare constants by: their values, where they are known."""
    if isinstance(value, jax.core.Tracer) or getattr(value, "size", 1) > LARGE:
        return ("object", id(value))  # the same in every trace of the loss, unless the loss makes it anew
    if jax.dtypes.issubdtype(getattr(value, "dtype", None), jax.dtypes.prng_key):
        value = jax.random.key_data(value)
        return (str(value.dtype), (value.shape, np.asarray(value).tobytes()))
    value = np.asarray(value, atom.aval.dtype)
    return (str(value.dtype), repr(value.item()) if value.ndim == 0 else (value.shape, value.tobytes()))


def said(eqn: Eqn) -> str:
    """The user's line behind an equation, in brackets."""
    return f" ({eqn.where})" if eqn.where and not eqn.where.startswith("_jax.py") else ""


def shape_of(atom: Any) -> tuple[int, ...]:
    return tuple(atom.aval.shape)


# --- what is the same along an axis


def led_to(eqn: Eqn, states: list[State], n: int) -> int | None:
    """The axis to which a rule leads rows; None where it does not."""
    rule = RULES.get(eqn.name, lambda eqn, states, n: same_rows(eqn, states)[0])
    if eqn.name not in RULES and eqn.name not in ELEMENTWISE:
        return None
    try:
        state = rule(eqn, states, n)
    except Unprovable:
        return None
    return state.axis if isinstance(state, Rows) else None


def filled(eqn: Eqn, states: list[State], out: Var) -> Whole:
    """What `iota` and moves leave uniform: every axis to which no axis that differs has moved."""
    every = frozenset(range(len(out.shape)))
    if not eqn.ins:
        return Whole(every - {reads.along_axis(eqn.params)}) if eqn.name == "iota" else Whole()
    before = shape_of(eqn.ins[0])
    differ = [a for a, size in enumerate(before) if size != 1 and a not in states[0].uniform]
    moved = [led_to(eqn, [Rows(a), *states[1:]], before[a]) for a in differ]
    return Whole() if None in moved else Whole(every - set(moved))


def fit(atom: Any, state: State, rows: Rows, what: str) -> None:
    """Checks that an operand can be read row by row: it has the same rows, is uniform along them, or is a scalar."""
    if isinstance(state, Rows) and state != rows:
        raise Unprovable(f"rows of the batch along different axes meet{what}")
    if isinstance(state, Whole) and shape_of(atom) and rows.axis not in state.uniform:
        raise Unprovable(f"something of its own for each row meets the rows of the batch{what}")


def same_rows(eqn: Eqn, states: list[State]) -> list[State]:
    """Element by element: all operands have the same rows."""
    rows = next(s for s in states if isinstance(s, Rows))
    for atom, state in zip(eqn.ins, states, strict=True):
        fit(atom, state, rows, said(eqn))
    return [rows] * len(eqn.outs)


def join(atom: Any, one: State, other: State, what: str = "") -> State:
    """The state of what is sometimes the one and sometimes the other."""
    if isinstance(one, Whole) and isinstance(other, Whole):
        return Whole(one.uniform & other.uniform)
    rows = one if isinstance(one, Rows) else other
    for state in (one, other):
        fit(atom, state, rows, what)
    return rows


# --- derivative rules of the user's


def check_rule(study: Study, eqn: Eqn, states: list[State], outs: list[State]) -> None:
    """The derivative that a custom rule gives must treat the rows one by one, as the value does."""
    sub, _ = _jax.open_jaxpr(reads.called(eqn.params))
    jvp = eqn.name == "custom_jvp_call"
    if jvp and any(e.primitive.name in ("scan", "while") for e in _jax.equations(sub)):
        return  # the engine's loops
    moving = [k for k, a in enumerate(eqn.ins) if is_float(a)]
    floats = [k for k, v in enumerate(eqn.outs) if is_float(v)]
    shape = lambda a: jax.ShapeDtypeStruct(shape_of(a), a.aval.dtype)

    def of(values: list, moved: list) -> list:
        full = list(values)
        for k, v in zip(moving, moved, strict=True):
            full[k] = v
        out = run_eqn(eqn, full)
        return [out[k] for k in floats]

    def forward(values: list, dots: list) -> list:
        return jax.jvp(lambda moved: of(values, moved), ([values[k] for k in moving],), (dots,))[1]

    def backward(values: list, dots: list) -> list:
        return jax.vjp(lambda moved: of(values, moved), [values[k] for k in moving])[1](dots)[0]

    given, made = [states[k] for k in moving], [outs[k] for k in floats]
    dots, wanted = (given, made) if jvp else (made, given)
    which, atoms = (forward, [eqn.ins[k] for k in moving]) if jvp else (backward, [eqn.outs[k] for k in floats])
    closed = jax.make_jaxpr(which)([shape(a) for a in eqn.ins], [shape(a) for a in atoms])
    inner = dataclasses.replace(study, inside=study.inside or 0, derivative=not jvp, rules=False, frontier=[], marks=[])
    graph = to_graph(closed)
    env = inner.follow(graph, [*states, *dots])
    for atom, want in zip(graph.outs, wanted, strict=True):
        have = env[atom] if is_var(atom) else Whole()
        if isinstance(want, Rows):
            fit(atom, have if have != TAIL else Whole(), want, f" in a derivative rule{said(eqn)}")
        elif isinstance(have, Rows):
            raise Unprovable(f"a derivative rule makes rows of what has none{said(eqn)}")


# --- a rule for each primitive: (equation, states, number of rows) -> the state of its results


def first(states: list[State], eqn: Eqn) -> Rows:
    """The rows of the first operand; the others must have none."""
    if any(isinstance(s, Rows) for s in states[1:]) or not isinstance(states[0], Rows):
        raise Unprovable(f"{eqn.name} reads its rows from another operand than the first{said(eqn)}")
    return states[0]


def require(true: bool, eqn: Eqn) -> None:
    if not true:
        raise Unprovable(f"{eqn.name} along the batch{said(eqn)}")


def kept(rows: Rows, gone: tuple[int, ...]) -> Rows:
    """The rows after other axes were taken away."""
    return rows.at(rows.axis - sum(a < rows.axis for a in gone))


def broadcast(eqn: Eqn, states: list[State], n: int) -> State:
    rows = first(states, eqn)
    axis = reads.broadcast_axes(eqn.params)[rows.axis]
    require(eqn.outs[0].shape[axis] == shape_of(eqn.ins[0])[rows.axis], eqn)
    return rows.at(axis)


def reshape(eqn: Eqn, states: list[State], n: int) -> State:
    """Position = ((p * n) + row) * post + q before and after."""
    rows, before, after = first(states, eqn), shape_of(eqn.ins[0]), eqn.outs[0].shape
    require(0 not in before, eqn)
    pre, post = math.prod(before[: rows.axis]) * rows.outer, rows.inner * math.prod(before[rows.axis + 1 :])
    found = []
    for axis, size in enumerate(after):
        above, below = math.prod(after[:axis]), math.prod(after[axis + 1 :])
        if pre % above == 0 and post % below == 0 and pre // above * n * (post // below) == size:
            found.append(Rows(axis, pre // above, post // below))
    require(bool(found), eqn)
    return min(found, key=lambda r: (r.inner, r.outer))


def transpose(eqn: Eqn, states: list[State], n: int) -> State:
    rows = first(states, eqn)
    return rows.at(reads.permutation(eqn.params).index(rows.axis))


def squeeze(eqn: Eqn, states: list[State], n: int) -> State:
    rows, gone = first(states, eqn), reads.dropped_axes(eqn.params)
    require(rows.axis not in gone, eqn)
    return kept(rows, gone)


def reduction(eqn: Eqn, states: list[State], n: int) -> State:
    rows, gone = first(states, eqn), reads.reduced_axes(eqn.params)
    if rows.axis in gone and eqn.name == "reduce_sum":
        return SUM
    require(rows.axis not in gone, eqn)
    return kept(rows, gone)


def along(eqn: Eqn, states: list[State], n: int) -> State:
    """Cumulative sums, sorts: along another axis."""
    rows = same_rows(eqn, states)[0]
    require(rows.axis != reads.along_axis(eqn.params), eqn)
    return rows


def rev(eqn: Eqn, states: list[State], n: int) -> State:
    require(first(states, eqn).axis not in reads.dropped_axes(eqn.params), eqn)
    return states[0]


def concatenate(eqn: Eqn, states: list[State], n: int) -> State:
    rows = same_rows(eqn, states)[0]
    require(rows.axis != _jax.concatenated(eqn.params), eqn)
    return rows


def split(eqn: Eqn, states: list[State], n: int) -> State:
    require(first(states, eqn).axis != _jax.split_form(eqn.params)[1], eqn)
    return states[0]


def pad(eqn: Eqn, states: list[State], n: int) -> State:
    rows = first(states, eqn)
    require(tuple(reads.padding(eqn.params)[rows.axis]) == (0, 0, 0), eqn)
    return rows


def plain_slice(eqn: Eqn, states: list[State], n: int) -> State:
    rows = first(states, eqn)
    starts, _, strides = _jax.slice_bounds(eqn.params)
    require(
        starts[rows.axis] == 0 and strides[rows.axis] == 1 and unchanged(eqn.ins[0], rows.axis, eqn.outs[0].shape), eqn
    )
    return rows


def unchanged(atom: Any, axis: int, shape: tuple[int, ...]) -> bool:
    return shape_of(atom)[axis] == shape[axis]


def dynamic_slice(eqn: Eqn, states: list[State], n: int) -> State:
    """A start of 0 is all that a slice of full size can have."""
    rows = first(states, eqn)
    require(unchanged(eqn.ins[0], rows.axis, eqn.outs[0].shape), eqn)
    return rows


def dynamic_update(eqn: Eqn, states: list[State], n: int) -> State:
    require(not any(isinstance(s, Rows) for s in states[2:]), eqn)
    rows = join(eqn.ins[0], states[0], states[1], said(eqn))
    fit(eqn.ins[1], states[1], rows, said(eqn))
    require(unchanged(eqn.ins[1], rows.axis, eqn.outs[0].shape), eqn)
    return rows


def product(eqn: Eqn, states: list[State], n: int) -> State:
    """`dot_general`: rows that are contracted make a sum, in the batch axes they meet their own, otherwise they stay."""
    contract, batch = _jax.dot_axes(eqn.params)
    side = 0 if isinstance(states[0], Rows) else 1
    rows, other, pairs = states[side], 1 - side, (contract, batch)
    for axes, result in zip(pairs, (SUM, None), strict=True):
        if rows.axis in axes[side]:
            at = axes[side].index(rows.axis)
            fit_pair(eqn, other, states[other], rows.at(axes[other][at]))
            return result or rows.at(at)
    require(not isinstance(states[other], Rows), eqn)
    free = [d for d in range(len(shape_of(eqn.ins[side]))) if d not in (*contract[side], *batch[side])]
    before = len(shape_of(eqn.ins[0])) - len(contract[0]) if side else len(batch[0])
    return rows.at(before + free.index(rows.axis))


def fit_pair(eqn: Eqn, which: int, state: State, rows: Rows) -> None:
    fit(eqn.ins[which], state, rows, said(eqn))


def convolution(eqn: Eqn, states: list[State], n: int) -> State:
    axis, out, plain = reads.convolution_rows(eqn.params)
    rows = first(states, eqn)
    require(rows.axis == axis and plain, eqn)
    return rows.at(out)


def gather(eqn: Eqn, states: list[State], n: int) -> State:
    """Rows of the indices read from one table; rows of an operand read each at its own place, or all at the same."""
    offsets, collapsed, own, theirs = reads.gather_axes(eqn.params)
    operand, indices = states
    places = [d for d in range(len(eqn.outs[0].shape)) if d not in offsets]
    if isinstance(indices, Rows):
        require(indices.axis < len(places), eqn)
        if isinstance(operand, Rows):
            require(operand.axis in own and theirs[own.index(operand.axis)] == indices.axis, eqn)
            require((operand.outer, operand.inner) == (indices.outer, indices.inner), eqn)
        return indices.at(places[indices.axis])
    if operand.axis in own:
        place = theirs[own.index(operand.axis)]
        fit(eqn.ins[1], indices, operand.at(place), said(eqn))
        return operand.at(places[place])
    sizes = reads.sizes_sliced(eqn.params)
    require(operand.axis not in collapsed and sizes[operand.axis] == shape_of(eqn.ins[0])[operand.axis], eqn)
    left = [d for d in range(len(sizes)) if d not in (*collapsed, *own)]
    return operand.at(offsets[left.index(operand.axis)])


def scatter(eqn: Eqn, states: list[State], n: int) -> State:
    """Updates of whole rows, at places that are the same for all of them."""
    windows, inserted, places, own = reads.scatter_axes(eqn.params)
    require(isinstance(states[1], Whole), eqn)
    left = [d for d in range(len(shape_of(eqn.ins[0]))) if d not in (*inserted, *own)]
    if isinstance(states[0], Rows):
        rows = states[0]
        require(rows.axis in left and rows.axis not in places, eqn)
        update = rows.at(windows[left.index(rows.axis)])
    else:
        update = states[2]
        require(update.axis in windows, eqn)
        rows = update.at(left[windows.index(update.axis)])
        require(rows.axis not in places, eqn)
    fit(eqn.ins[0], states[0], rows, said(eqn))
    fit(eqn.ins[2], states[2], update, said(eqn))
    require(shape_of(eqn.ins[2])[update.axis] == shape_of(eqn.ins[0])[rows.axis], eqn)
    return rows


def stack(eqn: Eqn, states: list[State], n: int) -> State:
    """Arrays side by side on a new axis."""
    rows = same_rows(eqn, states)[0]
    return rows.at(rows.axis + (reads.along_axis(eqn.params) <= rows.axis))


def fft(eqn: Eqn, states: list[State], n: int) -> State:
    rows = first(states, eqn)
    require(rows.axis < len(shape_of(eqn.ins[0])) - reads.fft_axes(eqn.params), eqn)
    return rows


def keyed(eqn: Eqn, states: list[State], n: int) -> State:
    """One key for each row."""
    rows = same_rows(eqn, states)[0] if eqn.name == "random_fold_in" else first(states, eqn)
    typed = min(len(shape_of(a)) for a in [*eqn.ins, *eqn.outs])
    require(rows.axis < typed, eqn)
    return rows


RULES: dict[str, Callable[[Eqn, list[State], int], State]] = {
    "broadcast_in_dim": broadcast,
    "reshape": reshape,
    "transpose": transpose,
    "squeeze": squeeze,
    "concatenate": concatenate,
    "split": split,
    "pad": pad,
    "rev": rev,
    "slice": plain_slice,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update,
    "dot_general": product,
    "conv_general_dilated": convolution,
    "gather": gather,
    "fft": fft,
    "stack": stack,
    **dict.fromkeys(["scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter-min", "scatter-max"], scatter),
    **dict.fromkeys(["reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"], reduction),
    **dict.fromkeys(["reduce_xor", "argmax", "argmin"], reduction),
    **dict.fromkeys(["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "sort", "top_k"], along),
    **dict.fromkeys(sorted(KEYED), keyed),
}
FILLED = MOVES | PIECES | {"concatenate", "dynamic_update_slice"}  # read constants of the rows' own size


# --- loops and branches


def scan(study: Study, eqn: Eqn, states: list[State]) -> list[State]:
    """The carry's states are those that a step keeps; time must not be the rows' axis."""
    loop = _jax.loop_of_scan(SimpleNamespace(params=eqn.params, invars=eqn.ins))
    n, m = loop.num_consts, loop.num_consts + loop.num_carry
    xs = [shifted(s, -1, eqn) for s in states[m:]]
    carry, ys = steady(study, loop.body, states[:n], states[n:m], xs, eqn)
    return [*carry, *(shifted(s, 1, eqn) for s in ys)]


def steady(study: Study, body: Any, consts: list, carry: list, xs: list, eqn: Eqn) -> tuple[list, list]:
    """The states of a carry and of the other results, once another step does not change them."""
    before = len(study.marks)
    while True:
        del study.marks[before:]
        out = study.outs_of(body, [*consts, *carry, *xs])
        given = eqn.ins[len(consts) :] if eqn.name == "scan" else eqn.ins[-len(carry) :]
        new = [join(a, s, o, said(eqn)) for a, s, o in zip(given, carry, out, strict=False)]
        if new == carry:
            return carry, out[len(carry) :]
        carry = new


def shifted(state: State, by: int, eqn: Eqn) -> State:
    """A state with the axis of time taken away or put first."""
    if isinstance(state, Whole):
        return Whole(frozenset(a + by for a in state.uniform if a + by >= 0))
    require(state.axis + by >= 0, eqn)
    return state.at(state.axis + by)


def cond(study: Study, eqn: Eqn, states: list[State]) -> list[State]:
    """All branches give the same rows."""
    if isinstance(states[0], Rows):
        raise Unprovable(f"a branch chosen by the batch{said(eqn)}")
    outs = [study.outs_of(branch, states[1:]) for branch in reads.branches(eqn.params)]
    joined = outs[0]
    for other in outs[1:]:
        joined = [join(v, a, b, said(eqn)) for v, a, b in zip(eqn.outs, joined, other, strict=True)]
    return joined


def repeat(study: Study, eqn: Eqn, states: list[State]) -> list[State]:
    """A `while`: how often it runs must not depend on the batch."""
    test, n, body, m = reads.while_parts(eqn.params)
    carry, _ = steady(study, body, states[n : n + m], states[n + m :], [], eqn)
    if any(not isinstance(s, Whole) for s in study.outs_of(test, [*states[:n], *carry])):
        raise Unprovable(f"the batch decides how often a loop runs{said(eqn)}")
    return carry


def as_given(study: Study, eqn: Eqn, states: list[State]) -> list[State]:
    """Each operand handed on as it is; `reshard` where no axis is explicit."""
    return list(states)


LOOPS: dict[str, Callable[[Study, Eqn, list[State]], list[State]]] = {
    "scan": scan,
    "cond": cond,
    "while": repeat,
    **dict.fromkeys(["optimization_barrier", "pvary", "pcast", "reshard"], as_given),
}
