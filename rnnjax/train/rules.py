"""A rule for each primitive: (equation, states, number of rows) -> the state of its results. Nothing here looks at values."""

from __future__ import annotations

import math
from collections.abc import Callable

from rnnjax import _jax
from rnnjax.engine.examples import CARRIED, ELEMENTWISE, carried
from rnnjax.engine.graph import Eqn, Var
from rnnjax.train.states import (
    SUM,
    Rows,
    State,
    Unprovable,
    Whole,
    first,
    fit,
    join,
    require,
    said,
    same_rows,
    shape_of,
    unchanged,
)

KEYED = frozenset({"random_bits", "random_split", "random_fold_in", "random_wrap", "random_unwrap", "random_seed"})
MOVES = frozenset({"broadcast_in_dim", "reshape", "transpose", "squeeze"})  # what is uniform stays so
PIECES = frozenset({"slice", "split", "dynamic_slice", "rev"})  # so does what is taken out of it


def carry(eqn: Eqn, states: list[State], n: int) -> State:
    """Rows go where `carried` has their axis; what has an axis there too has the same rows, or is uniform along it."""
    mine, rows = next((a, s) for a, s in zip(eqn.ins, states, strict=True) if isinstance(s, Rows))
    groups = [group for group in carried(eqn) if (mine, rows.axis) in group]
    require(len(groups) == 1, eqn)  # one value read twice may go two ways
    at = dict(groups[0])
    for atom, state in zip(eqn.ins, states, strict=True):
        require(atom in at or not isinstance(state, Rows), eqn)
        if atom in at:
            fit(atom, state, rows.at(at[atom]), said(eqn))
    return rows.at(at[eqn.outs[0]])


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


def reduction(eqn: Eqn, states: list[State], n: int) -> State:
    """Over the rows: a sum, which is the frontier, and nothing else; over other axes: the rows stay."""
    return SUM if first(states, eqn).axis in _jax.reduced(eqn.params) else carry(eqn, states, n)


def dynamic_slice(eqn: Eqn, states: list[State], n: int) -> State:
    """A start of 0 is all that a slice of full size can have."""
    rows = first(states, eqn)
    require(unchanged(eqn.ins[0], rows.axis, eqn.outs[0].shape), eqn)
    return rows


def dynamic_update(eqn: Eqn, states: list[State], n: int) -> State:
    """Whole rows are written, at places that are the same for all of them."""
    require(not any(isinstance(s, Rows) for s in states[2:]), eqn)
    rows = join(eqn.ins[0], states[0], states[1], said(eqn))
    fit(eqn.ins[1], states[1], rows, said(eqn))
    require(unchanged(eqn.ins[1], rows.axis, eqn.outs[0].shape), eqn)
    return rows


def product(eqn: Eqn, states: list[State], n: int) -> State:
    """`dot_general`: rows that are contracted make a sum."""
    contract, _ = _jax.dot_axes(eqn.params)
    side = 0 if isinstance(states[0], Rows) else 1
    if states[side].axis not in contract[side]:
        return carry(eqn, states, n)
    at = contract[1 - side][contract[side].index(states[side].axis)]
    fit(eqn.ins[1 - side], states[1 - side], states[side].at(at), said(eqn))
    return SUM


def gather(eqn: Eqn, states: list[State], n: int) -> State:
    """Rows of the indices read from one table; rows of an operand read each at its own place, or all at the same."""
    offsets, collapsed, own, theirs = _jax.gather_axes(eqn.params)
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
    sizes = _jax.sizes_sliced(eqn.params)
    require(operand.axis not in collapsed and sizes[operand.axis] == shape_of(eqn.ins[0])[operand.axis], eqn)
    left = [d for d in range(len(sizes)) if d not in (*collapsed, *own)]
    return operand.at(offsets[left.index(operand.axis)])


def scatter(eqn: Eqn, states: list[State], n: int) -> State:
    """Updates of whole rows, at places that are the same for all of them."""
    windows, inserted, places, own = _jax.scatter_axes(eqn.params)
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
    return rows.at(rows.axis + (_jax.touched_axes(eqn.params)[0] <= rows.axis))


def fft(eqn: Eqn, states: list[State], n: int) -> State:
    """Over other axes."""
    rows = first(states, eqn)
    require(rows.axis < len(shape_of(eqn.ins[0])) - _jax.fft_axes(eqn.params), eqn)
    return rows


def keyed(eqn: Eqn, states: list[State], n: int) -> State:
    """One key for each row."""
    rows = same_rows(eqn, states)[0] if eqn.name == "random_fold_in" else first(states, eqn)
    typed = min(len(shape_of(a)) for a in [*eqn.ins, *eqn.outs])
    require(rows.axis < typed, eqn)
    return rows


RULES: dict[str, Callable[[Eqn, list[State], int], State]] = {
    **dict.fromkeys(CARRIED, carry),
    "reshape": reshape,
    "reduce_sum": reduction,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update,
    "dot_general": product,
    "gather": gather,
    "fft": fft,
    "stack": stack,
    **dict.fromkeys(["scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter-min", "scatter-max"], scatter),
    **dict.fromkeys(sorted(KEYED), keyed),
}
FILLED = MOVES | PIECES | {"concatenate", "dynamic_update_slice"}  # read constants of the rows' own size


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
        return Whole(every - set(_jax.touched_axes(eqn.params))) if eqn.name == "iota" else Whole()
    before = shape_of(eqn.ins[0])
    differ = [a for a, size in enumerate(before) if size != 1 and a not in states[0].uniform]
    moved = [led_to(eqn, [Rows(a), *states[1:]], before[a]) for a in differ]
    return Whole() if None in moved else Whole(every - set(moved))
