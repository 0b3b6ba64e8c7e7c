"""Step 3b, taps: where the loop takes one tangent for everything in a value that the loop need not compute.

A *use* is an equation of a carry-dependent operand `a_t` and a constant `W` (`a_t @ W`, `a_t * w`, `conv(a_t, W)`,
`W[a_t]`, ...). A *sum* is a tree of additions: product pieces + hoisted input + bias. Each sum takes ONE tap,

    tap_t = d hoisted_t + d bias + a_t @ dW        formed outside the loop, for all t at once

and each use that ends in no sum has a tap of its own. In the loop W, bias and hoisted inputs are then held constant.
Transposed, a tap is one stored cotangent per sum, and its formula ONE product over T*B per weight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.engine.batch import run_stacked
from rnnjax.engine.graph import Eqn, Var, is_float, is_var, producers, read, run_eqn, users, variables
from rnnjax.engine.rewrite import splits_weight
from rnnjax.engine.sort import Sorted

BILINEAR = frozenset({"dot_general", "conv_general_dilated", "mul"})
USUAL = BILINEAR | {"gather", "dynamic_slice"}
SUMS = {"add": 1, "add_any": 1, "sub": -1}


@dataclasses.dataclass(eq=False)
class Use:
    """An equation that reads constants; `pieces` are its outputs, or those of the split that follows it."""

    eqn: Eqn
    weights: list[Var]
    split: Eqn | None
    pieces: list[Var]

    @property
    def operands(self) -> list[Var]:
        return [v for v in variables(self.eqn.ins) if v not in self.weights]


@dataclasses.dataclass(eq=False)
class Sum:
    """`out = sum(sign * leaf)`; `taken` maps a leaf that is a piece of a use to its place there."""

    eqn: Eqn
    leaves: list[tuple[int, Any]]
    taken: dict[Var, tuple[Use, int]]

    @property
    def out(self) -> Var:
        return self.eqn.outs[0]


@dataclasses.dataclass
class Taps:
    """All taps of a loop, and the constants and hoisted values that the loop still reads otherwise (`plain`)."""

    uses: list[Use]
    sums: list[Sum]
    points: list[Var]  # the tapped values: sums first, then the pieces that end in no sum
    free: dict[Var, tuple[Use, int]]  # those pieces
    plain: set[Var]
    quiet: dict[int, set[Var]]  # by id of an equation in a use or sum: what it reads by way of a tap


def find_taps(s: Sorted, wanted: Callable[[Eqn], bool]) -> Taps:
    """Find the uses that `wanted` asks to defer and the sums that they end in."""
    read_by = users(s.loop)
    given = set(variables([*s.graph.outs, *(v for e in s.after for v in e.ins)]))
    uses = [u for e in s.loop if (u := as_use(e, s, read_by, given)) is not None and wanted(e)]
    piece_of = {v: (u, k) for u in uses for k, v in enumerate(u.pieces)}
    sums, inside = find_sums(s, read_by, given, piece_of)
    taken = {v for total in sums for v in total.taken}
    free = {v: at for v, at in piece_of.items() if v not in taken and is_float(v)}
    quiet = inside | {id(u.eqn): set(u.weights) for u in uses}
    reads = [v for e in s.loop for v in variables(e.ins) if v not in quiet.get(id(e), ())]
    plain = {v for v in reads if s.level[v] < 2}
    return Taps(uses, sums, [t.out for t in sums] + list(free), free, plain, quiet)


def as_use(eqn: Eqn, s: Sorted, read_by: dict[Var, list[Eqn]], given: set[Var]) -> Use | None:
    """`eqn` as a use, if it reads float constants beside something that needs the carry."""
    if eqn.name in SUMS or eqn.name == "split":
        return None
    weights = [v for v in dict.fromkeys(variables(eqn.ins)) if s.level[v] == 0 and is_float(v)]
    if not weights or not any(s.level[v] > 0 for v in variables(eqn.ins)):
        return None
    after = read_by.get(eqn.outs[0], [])
    if len(eqn.outs) == 1 and len(after) == 1 and after[0].name == "split" and eqn.outs[0] not in given:
        return Use(eqn, weights, after[0], after[0].outs)
    return Use(eqn, weights, None, eqn.outs)


def find_sums(s: Sorted, read_by: dict, given: set[Var], piece_of: dict) -> tuple[list[Sum], dict[int, set[Var]]]:
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
        taken = {
            v: piece_of[v] for _, v in parts if is_var(v) and v in piece_of and len(read_by[v]) == 1 and v not in given
        }
        if taken or any(is_var(v) and s.level[v] < 2 for _, v in parts):
            sums.append(Sum(eqn, parts, taken))
            inside |= {id(e): {v for v in variables(e.ins) if s.level[v] < 2} for e in seen}
    return sums, inside


@jax.custom_jvp
def tapped(value: jax.Array, tap: jax.Array) -> jax.Array:
    """`value`, whose tangent is that of `value` plus that of `tap`."""
    del tap
    return value


@tapped.defjvp
def _tapped_jvp(primals, tangents):
    return primals[0], tangents[0] + tangents[1]


def run_tapped(loop: Sequence[Eqn], taps: Taps, env: dict, held: dict, tap: dict[Var, jax.Array]) -> None:
    """Run the loop's equations with taps; uses and sums read constants and hoisted values from `held`."""
    for eqn in loop:
        quiet = taps.quiet.get(id(eqn), ())
        values = [held[a] if is_var(a) and a in quiet else read(env, a) for a in eqn.ins]
        out = run_eqn(eqn, values)
        env.update({v: tapped(r, tap[v]) if v in tap else r for v, r in zip(eqn.outs, out, strict=True)})


def piece_tangents(use: Use, env: dict[Var, Any], dot: dict[Var, Any], stacked: set[Var], steps: int) -> list[Any]:
    """Tangents of the pieces of a use for tangents `dot` of its constants, all steps at once; None for integers."""
    eqn = use.eqn
    over = [is_var(a) and a in stacked for a in eqn.ins]
    if eqn.name in BILINEAR:
        ins = [dot[a] if is_var(a) and a in dot else read(env, a) for a in eqn.ins]
        if use.split is not None and (axis := split_axis(use, steps)) is not None:
            ends = [sum(use.split.params["sizes"][: n + 1]) for n in range(len(use.pieces) - 1)]
            return [run_stacked(eqn, [ins[0], w], over)[0] for w in jnp.split(ins[1], ends, axis)]
        out = run_stacked(eqn, ins, over)
    else:
        out = other_tangents(eqn, env, dot, over)
    return run_stacked(use.split, out, [True]) if use.split is not None else out


def split_axis(use: Use, steps: int) -> int | None:
    """The axis of W along which to split it: `a @ split(dW)` needs no wide cotangent, `split(a @ dW)` does."""
    eqn = use.eqn
    axis = use.split.params["axis"] if use.split is not None else 0
    if eqn.name != "dot_general" or eqn.ins[1] not in use.weights or eqn.ins[0] in use.weights:
        return None
    if not splits_weight(eqn, 1, steps):
        return None
    (_, contract), (batch, _) = eqn.params["dimension_numbers"]
    free = [d for d in range(len(eqn.ins[1].shape)) if d not in contract]
    first = len(eqn.outs[0].shape) - len(free)
    return None if batch or axis < first else free[axis - first]


def other_tangents(eqn: Eqn, env: dict[Var, Any], dot: dict[Var, Any], over: list[bool]) -> list[Any]:
    """Tangents of any equation for tangents of its constants."""
    names = [v for v in dict.fromkeys(variables(eqn.ins)) if v in dot]
    floats = [n for n, v in enumerate(eqn.outs) if is_float(v)]

    def of(values):
        inner = {**env, **dict(zip(names, values, strict=True))}
        out = run_stacked(eqn, [read(inner, a) for a in eqn.ins], over)
        return [out[n] for n in floats]

    _, out = jax.jvp(of, ([env[v] for v in names],), ([dot[v] for v in names],))
    found = dict(zip(floats, out, strict=True))
    return [found.get(n) for n in range(len(eqn.outs))]
