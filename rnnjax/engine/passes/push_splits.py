"""Splits move to the side that need not be in the loop.

split(a + b), where a does not need the carry  ->  split(a) + split(b)
"""

from __future__ import annotations

import dataclasses
from typing import Any

from rnnjax import _jax
from rnnjax.engine.binding_times import CARRY, INPUT, BindingTime
from rnnjax.engine.graph import (
    Atom,
    Eqn,
    Graph,
    Var,
    is_var,
    part_shape,
    producers,
    split_eqn,
    variables,
)


def push_splits(graph: Graph, num_carry: int, when: dict[Var, BindingTime]) -> Graph:
    """Push each split through the sums that end in the loop: what is hoisted is then split before the loop, for all steps at
    once, and no wide array is stored per step and sliced again."""
    pusher = Pusher(producers(graph.eqns), dict(when))
    renamed: dict[Var, Var] = {}
    for eqn in graph.eqns:
        eqn = dataclasses.replace(eqn, ins=[renamed.get(a, a) if is_var(a) else a for a in eqn.ins])
        pusher.made.update({v: eqn for v in eqn.outs})
        source = eqn.ins[0] if eqn.name == "split" else None
        if source is not None and is_var(source) and (pusher.worth(source) or when[source] == INPUT):
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
    when: dict[Var, BindingTime]
    out: list[Eqn] = dataclasses.field(default_factory=list)
    done: dict[Any, list[Var]] = dataclasses.field(default_factory=dict)

    def name(self, atom: Atom) -> str:
        return self.made[atom].name if is_var(atom) and atom in self.made else ""

    def worth(self, atom: Atom) -> bool:
        """A sum in the loop some part of which does not need the loop."""
        if self.name(atom) not in ("add", "sub") or self.when[atom] != CARRY:
            return False
        ins = variables(self.made[atom].ins)
        return any(self.when[a] < CARRY for a in ins) or any(self.worth(a) for a in ins)

    def split(self, var: Var, sizes: Any, axis: int) -> list[Var]:
        key = (var, tuple(sizes), axis)
        if key not in self.done:
            self.done[key] = self.split_anew(var, sizes, axis)
        return self.done[key]

    def split_anew(self, var: Var, sizes: Any, axis: int) -> list[Var]:
        eqn = self.made.get(var)
        if eqn is not None and (self.worth(var) or (self.when[var] == INPUT and eqn.name in ("add", "sub"))):
            columns = [self.columns(a, var, sizes, axis) for a in eqn.ins]
            return self.emit(eqn, zip(*columns, strict=True), var, sizes, axis)
        new = split_eqn(var, sizes, axis)
        self.when.update({v: self.when[var] for v in new.outs})
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
            self.when[part] = self.when[var]
            self.made[part] = eqn.like(list(ins), [part])
            self.out.append(self.made[part])
        return parts
