"""Step 3, rewrite: move slices, splits and concatenations to where the loop does not pay for them.

    several slices of one array                      ->  one split
    concat(x, h) @ W                                 ->  x @ W[:I] + h @ W[I:]
    a @ U, a @ V                                     ->  split(a @ [U V])           (file `join`)
    split(a + b), where a does not need the carry    ->  split(a) + split(b)
    split(a @ W), features on several devices        ->  a @ split(W)

The values are the same up to the order of sums. `level` is kept up to date for new values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jax import lax

from rnnjax import _jax
from rnnjax.engine.graph import (
    Atom,
    Eqn,
    Graph,
    Var,
    alive,
    checked,
    is_var,
    part_shape,
    producers,
    split_eqn,
    users,
    variables,
)
from rnnjax.engine.join import join_products
from rnnjax.engine.sort import assign_levels


def rewrite(graph: Graph, num_carry: int, join: bool) -> Graph:
    """All rewrites, in order. `join`: make one product of those that read the same operand."""
    graph = checked(slices_to_splits(checked(graph)))
    graph = checked(open_concats(graph, assign_levels(graph, num_carry)))
    if join:
        graph = checked(join_products(graph, num_carry, assign_levels(graph, num_carry)))
    graph = checked(push_splits(graph, assign_levels(graph, num_carry)))
    return checked(part_gates(graph, assign_levels(graph, num_carry)))


# --- several slices of one array are one split


def slice_range(eqn: Eqn) -> tuple[Var, int, int, int] | None:
    """(array, axis, start, stop) of a slice along one axis with stride one."""
    if eqn.name != "slice" or not is_var(eqn.ins[0]):
        return None
    start, stop, strides = _jax.slice_bounds(eqn.params)
    shape = eqn.ins[0].shape
    axes = [d for d, n in enumerate(shape) if (start[d], stop[d]) != (0, n)]
    if len(axes) != 1 or any(s != 1 for s in strides):
        return None
    return eqn.ins[0], axes[0], start[axes[0]], stop[axes[0]]


def slices_to_splits(graph: Graph) -> Graph:
    """`split` transposes to one concatenate, `slice` to a pad and an add."""
    found: dict[tuple[Var, int], list[tuple[int, int, Eqn]]] = {}
    for eqn in graph.eqns:
        if (at := slice_range(eqn)) is not None:
            found.setdefault(at[:2], []).append((at[2], at[3], eqn))
    replaced: dict[Eqn, Eqn | None] = {}
    for (var, axis), slices in found.items():
        slices.sort(key=lambda s: s[:2])
        apart = all(a[1] <= b[0] for a, b in zip(slices, slices[1:], strict=False))
        if len(slices) < 2 or not apart or any(a == b for a, b, _ in slices):
            continue
        cuts = sorted({0, var.shape[axis], *(c for s in slices for c in s[:2])})
        outs = [var.reshaped(part_shape(var, axis, b - a)) for a, b in zip(cuts, cuts[1:], strict=False)]
        for start, _, eqn in slices:
            outs[cuts.index(start)] = eqn.outs[0]
            replaced[eqn] = None
        first = next(e for e in graph.eqns if e in {s[2] for s in slices})
        replaced[first] = split_eqn(var, [v.shape[axis] for v in outs], axis, outs)
    eqns = [new for e in graph.eqns if (new := replaced.get(e, e)) is not None]
    return dataclasses.replace(graph, eqns=eqns)


# --- a product of a concatenation is a sum of products


def contraction(eqn: Eqn) -> tuple[int, int] | None:
    """(lhs axis, rhs axis) of a `dot_general` that contracts one axis and has no batch axes."""
    (lhs, rhs), (batch, _) = _jax.dot_axes(eqn.params)
    return (lhs[0], rhs[0]) if len(lhs) == 1 and not batch else None


def open_concats(graph: Graph, level: dict[Var, int]) -> Graph:
    """`concat(x, h) @ W` with constant W: x's part does not need the carry."""
    made = producers(graph.eqns)
    eqns: list[Eqn] = []
    for eqn in graph.eqns:
        opened = open_concat(eqn, made, level) if eqn.name == "dot_general" else None
        eqns.extend(opened or [eqn])
    return dataclasses.replace(graph, eqns=eqns)


def open_concat(eqn: Eqn, made: dict[Var, Eqn], level: dict[Var, int]) -> list[Eqn] | None:
    """The products that replace one of a concatenation with a constant weight; None where it is none."""
    axes = contraction(eqn)
    if axes is None or not all(is_var(a) for a in eqn.ins):
        return None
    for side in (0, 1):
        cat, weight = made.get(eqn.ins[side]), eqn.ins[1 - side]
        if (
            cat is None
            or cat.name != "concatenate"
            or _jax.concatenated(cat.params) != axes[side]
            or level[weight] != 0
        ):
            continue
        if not all(is_var(a) for a in cat.ins) or len({level[a] for a in cat.ins}) < 2:
            continue
        parts = split_eqn(weight, [a.shape[axes[side]] for a in cat.ins], axes[1 - side])
        level.update({v: 0 for v in parts.outs})
        return [parts, *sum_of_products(eqn, side, cat.ins, parts.outs)]
    return None


def sum_of_products(eqn: Eqn, side: int, operands: list[Atom], weights: list[Var]) -> list[Eqn]:
    """One product per pair, added up into `eqn`'s output; what needs the carry comes last."""
    out = eqn.outs[0]
    new, total = [], None
    for n, (a, w) in enumerate(zip(operands, weights, strict=True)):
        piece = Var(out.aval)
        new.append(eqn.like([a, w] if side == 0 else [w, a], [piece]))
        if total is not None:
            to = out if n == len(operands) - 1 else Var(out.aval)
            new.append(Eqn(lax.add_p, {}, [total, piece], [to]))
            piece = to
        total = piece
    return new


# --- splits move to the side that need not be in the loop


def push_splits(graph: Graph, level: dict[Var, int]) -> Graph:
    """Push each split through the sums that end in the loop: what is hoisted is then split before the loop, for all steps at
    once, and no wide array is stored per step and sliced again."""
    pusher = Pusher(producers(graph.eqns), level)
    renamed: dict[Var, Var] = {}
    for eqn in graph.eqns:
        eqn = dataclasses.replace(eqn, ins=[renamed.get(a, a) if is_var(a) else a for a in eqn.ins])
        pusher.made.update({v: eqn for v in eqn.outs})
        source = eqn.ins[0] if eqn.name == "split" else None
        if source is not None and is_var(source) and (pusher.worth(source) or level[source] == 1):
            parts = pusher.split(source, *_jax.split_form(eqn.params))
            renamed.update(zip(eqn.outs, parts, strict=True))
        else:
            pusher.out.append(eqn)
    outs = [renamed.get(a, a) if is_var(a) else a for a in graph.outs]
    return dataclasses.replace(graph, eqns=pusher.out, outs=outs)


@dataclasses.dataclass
class Pusher:
    """State of `push_splits`: the equations written so far and the splits already made."""

    made: dict[Var, Eqn]
    level: dict[Var, int]
    out: list[Eqn] = dataclasses.field(default_factory=list)
    done: dict[Any, list[Var]] = dataclasses.field(default_factory=dict)

    def name(self, atom: Atom) -> str:
        return self.made[atom].name if is_var(atom) and atom in self.made else ""

    def worth(self, atom: Atom) -> bool:
        """A sum in the loop some part of which does not need the loop."""
        if self.name(atom) not in ("add", "sub") or self.level[atom] != 2:
            return False
        ins = variables(self.made[atom].ins)
        return any(self.level[a] < 2 for a in ins) or any(self.worth(a) for a in ins)

    def split(self, var: Var, sizes: Any, axis: int) -> list[Var]:
        key = (var, tuple(sizes), axis)
        if key not in self.done:
            self.done[key] = self.split_anew(var, sizes, axis)
        return self.done[key]

    def split_anew(self, var: Var, sizes: Any, axis: int) -> list[Var]:
        eqn = self.made.get(var)
        if eqn is not None and (self.worth(var) or (self.level[var] == 1 and eqn.name in ("add", "sub"))):
            columns = [self.columns(a, var, sizes, axis) for a in eqn.ins]
            return self.emit(eqn, zip(*columns, strict=True), var, sizes, axis)
        new = split_eqn(var, sizes, axis)
        self.level.update({v: self.level[var] for v in new.outs})
        self.out.append(new)
        return new.outs

    def columns(self, atom: Atom, like: Var, sizes: Any, axis: int) -> list[Atom]:
        """The parts of one operand of a sum; an operand of size 1 along the axis serves every part."""
        narrow = not is_var(atom) or len(atom.shape) != len(like.shape) or atom.shape[axis] == 1 != like.shape[axis]
        return [atom] * len(sizes) if narrow else list(self.split(atom, sizes, axis))

    def emit(self, eqn: Eqn, operands: Any, var: Var, sizes: Any, axis: int) -> list[Var]:
        """One copy of `eqn` for each part."""
        parts = [var.reshaped(part_shape(var, axis, s)) for s in sizes]
        for ins, part in zip(operands, parts, strict=True):
            self.level[part] = self.level[var]
            self.made[part] = eqn.like(list(ins), [part])
            self.out.append(self.made[part])
        return parts


# --- evaluated for all steps at once: the parts of a product, or the product and then its parts


def narrow_products(eqns: list[Eqn], keep: set[Var], constant: Callable[[Var], bool]) -> list[Eqn]:
    """`split(x @ W)` as `x @ split(W)`, where nothing else reads the product: no wide array is made and copied apart."""
    read_by, made = users(eqns), producers(eqns)
    parts: dict[Eqn, list[Eqn]] = {}
    for eqn in eqns:
        product = made.get(eqn.ins[0]) if eqn.name == "split" else None
        if product is None or product.name != "dot_general" or eqn.ins[0] in keep or len(read_by[eqn.ins[0]]) > 1:
            continue
        if (side := constant_side(product, _jax.split_form(eqn.params)[1], constant)) is not None:
            axis, n = side
            cut = split_eqn(product.ins[n], _jax.split_form(eqn.params)[0], axis)
            pairs = [(product.ins[0], w) if n == 1 else (w, product.ins[1]) for w in cut.outs]
            parts[product] = []
            parts[eqn] = [cut, *(product.like(list(p), [v]) for p, v in zip(pairs, eqn.outs, strict=True))]
    return [new for e in eqns for new in parts.get(e, [e])]


def part_gates(graph: Graph, level: dict[Var, int]) -> Graph:
    """Where features lie on several devices, a product that is split into gates becomes a product for each: the weight is
    taken apart before the loop, and each device then holds its slice of every gate."""
    if not any(
        e.name == "split" and _jax.perhaps_split(e.ins[0].aval, _jax.split_form(e.params)[1]) for e in graph.eqns
    ):
        return graph
    eqns = narrow_products(alive(graph.eqns, graph.outs), set(variables(graph.outs)), lambda v: level[v] == 0)
    return dataclasses.replace(graph, eqns=eqns)


def constant_side(eqn: Eqn, axis: int, constant: Callable[[Var], bool]) -> tuple[int, int] | None:
    """(axis of the weight, which operand it is) if output `axis` of a product comes from a constant operand."""
    contract, batch = _jax.dot_axes(eqn.params)
    free = [[d for d in range(len(a.aval.shape)) if d not in contract[n]] for n, a in enumerate(eqn.ins)]
    if batch[0] or _jax.placed(eqn.params):
        return None
    for n, offset in ((0, 0), (1, len(free[0]))):
        if is_var(eqn.ins[n]) and constant(eqn.ins[n]) and offset <= axis < offset + len(free[n]):
            return free[n][axis - offset], n
    return None
