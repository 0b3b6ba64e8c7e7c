"""Step 4, deferral: which gradients of constants wait until after the loop, and where
the loop takes one tangent for everything in a value that it need not compute.

A *use* is an equation of a carry-dependent operand `a_t` and a constant `W` (`a_t @ W`, `a_t * w`, `conv(a_t, W)`,
`W[a_t]`, ...). A *sum* is a tree of additions: product pieces + hoisted input + bias. Each sum takes ONE tap,

    tap_t = d hoisted_t + d bias + a_t @ dW        formed outside the loop, for all t at once

and so does each use that ends in no sum. Where a use is split into gates that each end in a sum of their own, one tap on
the unsplit product serves them all: one wide product makes it, from unsplit inputs where their parts line up.
In the loop W, bias and hoisted inputs are then held constant.
Transposed, a tap is one stored cotangent, and its formula ONE product over T*B per weight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from rnnjax import _jax
from rnnjax.engine.binding_times import CARRY, CONSTANT, Sorted, folds_time
from rnnjax.engine.graph import Eqn, Var, is_float, is_var, producers, users, variables

BILINEAR = frozenset({"dot_general", "conv_general_dilated", "mul"})
USUAL = BILINEAR | {"gather", "dynamic_slice"}
SUMS = {"add": 1, "add_any": 1, "sub": -1}

Terms = list[tuple[int, Var]]  # signed; each a constant, a hoisted value, or an output of a use


@dataclasses.dataclass(frozen=True, eq=False)
class Use:
    """An equation that reads constants; `pieces` are its outputs, or those of the split that follows it."""

    eqn: Eqn
    weights: list[Var]
    split: Eqn | None
    pieces: list[Var]

    @property
    def operands(self) -> list[Var]:
        return [v for v in variables(self.eqn.ins) if v not in self.weights]


@dataclasses.dataclass(frozen=True, eq=False)
class Sum:
    """`out = sum(sign * leaf)`; `taken` are the leaves that are pieces of a use."""

    eqn: Eqn
    leaves: list[tuple[int, Any]]
    taken: set[Var]

    @property
    def out(self) -> Var:
        return self.eqn.outs[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Tap:
    """The tangent to add at `point`: the sum of `terms`, and side by side along `axis` the sums of each of `columns`."""

    point: Var
    terms: Terms
    axis: int = 0
    sizes: tuple[int, ...] = ()
    columns: list[Terms] = dataclasses.field(default_factory=list)

    @property
    def sources(self) -> list[Var]:
        return [v for terms in (self.terms, *self.columns) for _, v in terms]


@dataclasses.dataclass(frozen=True)
class Taps:
    """All taps of a loop, and the constants and hoisted values that the loop still reads otherwise (`plain`)."""

    uses: list[Use]
    taps: list[Tap]
    plain: set[Var]
    served: dict[Eqn, set[Var]]  # what an equation in a use or sum reads by way of a tap


def find_taps(s: Sorted, wanted: Callable[[Eqn], bool]) -> Taps:
    """Find the uses that `wanted` asks to defer and the sums that they end in."""
    read_by = users(s.loop)
    given = set(variables([*s.graph.outs, *(v for e in s.after for v in e.ins)]))
    uses = [u for e in s.loop if (u := as_use(e, s, read_by, given)) is not None and wanted(e)]
    sums, inside = find_sums(s, read_by, given, {v for u in uses for v in u.pieces})
    served = inside | {u.eqn: set(u.weights) for u in uses}
    reads = [v for e in s.loop for v in variables(e.ins) if v not in served.get(e, ())]
    plain = {v for v in [*reads, *variables(s.carry_out)] if s.when[v] < CARRY}
    return Taps(uses, place_taps(s, uses, sums), plain, served)


def as_use(eqn: Eqn, s: Sorted, read_by: dict[Var, list[Eqn]], given: set[Var]) -> Use | None:
    """`eqn` as a use, if it reads float constants beside something that needs the carry."""
    if eqn.name in SUMS or eqn.name == "split" or folds_time(eqn):
        return None
    weights = [v for v in dict.fromkeys(variables(eqn.ins)) if s.when[v] == CONSTANT and is_float(v)]
    if not weights or not any(s.when[v] > CONSTANT for v in variables(eqn.ins)):
        return None
    after = read_by.get(eqn.outs[0], [])
    if len(eqn.outs) == 1 and len(after) == 1 and after[0].name == "split" and eqn.outs[0] not in given:
        return Use(eqn, weights, after[0], after[0].outs)
    return Use(eqn, weights, None, eqn.outs)


def find_sums(s: Sorted, read_by: dict, given: set[Var], pieces: set[Var]) -> tuple[list[Sum], dict[Eqn, set[Var]]]:
    """(the sums worth a tap, what each equation in them reads by way of it)."""
    made = producers(s.loop)

    def inner(v: Var) -> bool:  # an addition that only another addition of the same shape reads
        eqn, after = made.get(v), read_by.get(v, [])
        return (
            eqn is not None
            and eqn.name in SUMS
            and v not in given
            and len(after) == 1
            and after[0].name in SUMS
            and after[0].outs[0].shape == v.shape
        )

    def leaves(eqn: Eqn, sign: int, seen: list[Eqn]) -> list[tuple[int, Any]]:
        seen.append(eqn)
        found = []
        for n, v in enumerate(eqn.ins):
            at = sign * (SUMS[eqn.name] if n else 1)
            found += leaves(made[v], at, seen) if is_var(v) and inner(v) else [(at, v)]
        return found

    sums, inside = [], {}
    for eqn in s.loop:
        if eqn.name not in SUMS or inner(eqn.outs[0]) or not is_float(eqn.outs[0]):
            continue
        seen: list[Eqn] = []
        parts = leaves(eqn, 1, seen)
        taken = {v for _, v in parts if is_var(v) and v in pieces and len(read_by[v]) == 1 and v not in given}
        if taken or any(is_var(v) and s.when[v] < CARRY for _, v in parts):
            sums.append(Sum(eqn, parts, taken))
            inside |= {e: {v for v in variables(e.ins) if s.when[v] < CARRY} for e in seen}
    return sums, inside


def place_taps(s: Sorted, uses: list[Use], sums: list[Sum]) -> list[Tap]:
    """One tap for each split product whose gates end in sums of their own, each other sum, and each piece left."""
    sum_of = {v: total for total in sums for v in total.taken}
    part_of = {v: (e, k) for e in [*s.ahead, *(u.split for u in uses if u.split)] if e.name == "split"
               for k, v in enumerate(e.outs)}  # fmt: skip
    taps, owned = [], set()
    for use in uses:
        ends = [sum_of.get(v) for v in use.pieces]
        mine = [total for total in ends if total is not None]
        fits = all(total.out.shape == v.shape for v, total in zip(use.pieces, ends, strict=True) if total)
        if use.split is not None and fits and len(set(mine)) == len(mine) and not owned & set(mine):
            taps.append(wide_tap(use, ends, s, part_of))
            owned |= set(mine)
    served = {v for tap in taps for v in tap.sources}
    served |= {v for u in uses if u.eqn.outs[0] in served for v in u.pieces}
    taps += [Tap(t.out, outside(t.leaves, t.taken, s)) for t in sums if t not in owned]
    served |= {v for t in sums for v in t.taken}
    taps += [Tap(v, [(1, v)]) for u in uses for v in u.pieces if v not in served and is_float(v)]
    return taps


def outside(leaves: Iterable[tuple[int, Any]], taken: set[Var], s: Sorted) -> Terms:
    """The leaves of a sum whose tangents the loop need not compute."""
    return [(sign, v) for sign, v in leaves if is_var(v) and (v in taken or s.when[v] < CARRY)]


def wide_tap(use: Use, ends: list[Sum | None], s: Sorted, part_of: dict[Var, tuple[Eqn, int]]) -> Tap:
    """A tap on a product before it is split. What is added to every piece alike, part for part, stays unsplit too."""
    assert use.split is not None
    columns: list[Terms] = []
    for piece, total in zip(use.pieces, ends, strict=True):
        found = outside(total.leaves, total.taken, s) if total else []
        sign = next((sign for sign, v in found if v is piece), 1)
        columns.append([(sign * at, v) for at, v in found if v is not piece])
    terms: Terms = [(1, use.eqn.outs[0])]
    for sign, v in list(columns[0]):
        cut, k = part_of.get(v, (use.split, -1))
        parts = [(sign, part) for part in cut.outs]
        alike = k == 0 and cut.params == use.split.params
        if alike and all(part in column for part, column in zip(parts, columns, strict=True)):
            terms.append((sign, cut.ins[0]))
            for part, column in zip(parts, columns, strict=True):
                column.remove(part)
    if not any(columns):
        columns = []
    sizes, axis = _jax.split_form(use.split.params)
    return Tap(use.eqn.outs[0], terms, axis, sizes, columns)
