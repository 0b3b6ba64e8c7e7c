"""The tangents that one call of the loop's rule is given, and the taps made of them outside the loop."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero

from rnnjax import _jax
from rnnjax.engine.binding_times import CONSTANT, INPUT, Sorted
from rnnjax.engine.deferral import Tap, Taps, Use
from rnnjax.engine.execute.batch import hoist
from rnnjax.engine.execute.batchable import push_forward
from rnnjax.engine.execute.linear import Interface, Live
from rnnjax.engine.execute.taps import make_tap, use_tangents
from rnnjax.engine.graph import Var, alive, depends, is_float


@dataclasses.dataclass(frozen=True)
class Tangents:
    """The tangents of one call of the rule: only those that are there."""

    consts: dict[Var, Any]
    xs: dict[Var, Any]
    moving: list[Var]  # hoisted values that have a tangent
    live: Live
    taps: list[Tap]
    uses: list[Use]
    operands: list[Var]
    start: set[int]  # places of the carry

    s: Sorted

    @classmethod
    def of(cls, s: Sorted, every: Taps, face: Interface, d0: list, dxs: list, dinit: list) -> Tangents:
        """`d0`, `dxs`, `dinit`: tangents of the loop's constants, inputs and first carry, symbolic zeros among them."""
        consts, xs = perturbed(face.constants, d0), perturbed(s.xs, dxs)
        reach = depends(s.ahead, [*consts, *xs])
        read = dict.fromkeys([*face.per_step, *(v for t in every.taps for v in t.sources)])
        found = {v for v in read if v in reach and s.when[v] == INPUT and is_float(v)}
        uses = [u for u in every.uses if any(w in consts for w in u.weights)]
        operands = list(dict.fromkeys(v for u in uses for v in u.operands if s.when[v] > CONSTANT))
        moves = {*consts, *found, *(v for u in uses for v in (*u.eqn.outs, *u.pieces))}
        taps = [t for t in every.taps if any(v in moves for v in t.sources)]
        plain = [v for v in every.plain if v in moves]
        live = Live([t.point for t in taps], [v for v in plain if v in consts], [v for v in plain if v not in consts])
        asked = {*live.plain_per_step, *(v for t in taps for v in t.sources)}
        moving = [v for v in read if v in found and v in asked]
        start = {n for n, d in enumerate(dinit) if not isinstance(d, SymbolicZero)}
        return cls(consts, xs, moving, live, taps, uses, operands, start, s)

    def hoisted(self, known: dict, xs: list, dxs: list) -> dict[Var, Any]:
        """Tangents of the hoisted values, for all steps at once."""
        if not self.moving:
            return {}
        names = list(self.consts)
        where = {v: n for n, v in enumerate(self.s.xs)}

        def values(consts, some):
            every = list(xs)
            for v, x in zip(self.xs, some, strict=True):
                every[where[v]] = x
            return hoist(self.s, self.moving, {**known, **dict(zip(names, consts, strict=True))}, every)

        at = [known[v] for v in names], [xs[where[v]] for v in self.xs]
        dots = push_forward(values, at, ([*self.consts.values()], dxs), alive(self.s.ahead, self.moving))
        return dict(zip(self.moving, dots, strict=True))

    def make_taps(self, d1: dict, given: dict, steps: int) -> list:
        """`d hoisted + d bias + a @ dW` of each live tap, for all steps at once."""
        outs: dict[Var, Any] = {}
        for use in self.uses:
            dot = {w: self.consts[w] for w in use.weights if w in self.consts}
            stacked = {v for v in use.operands if self.s.when[v] > CONSTANT}
            outs.update(use_tangents(use, given, dot, stacked))

        def tangent(v: Var, like: Var) -> Any:
            if v in self.consts:
                return spread(self.consts[v], 0, like)
            return spread(d1[v], 1, like) if v in d1 else outs.get(v)

        return [make_tap(t, lambda v, p=t.point: tangent(v, p), steps) for t in self.taps]


def spread(d: Any, time_axes: int, like: Var) -> Any:
    """Insert axes of size one after the time axis (there may be none), to the rank of a stack of `like`."""
    missing = len(like.shape) - (d.ndim - time_axes)
    lead = d.shape[:1] if time_axes else (1,)
    return d.reshape(*lead, *(1,) * missing, *d.shape[time_axes:])


def perturbed(names: list[Var], tangents: list) -> dict[Var, Any]:
    """The tangents that are there: not symbolic zeros, not those of integers."""
    return {v: d for v, d in zip(names, tangents, strict=True) if not isinstance(d, SymbolicZero) and is_float(v)}


def instantiate(tangent: Any, value: Any) -> Any:
    """A tangent, zeros where it is a symbolic zero."""
    return _jax.zeros(jax.typeof(value).to_tangent_aval()) if isinstance(tangent, SymbolicZero) else tangent


def everywhere(values: list, places: list[int], tangents: list) -> list:
    """Tangents of all values: those that were computed, of the values at `places`, and none for the rest."""
    found = dict(zip(places, tangents, strict=True))
    return [found[n] if n in found else _jax.no_tangent(v) for n, v in enumerate(values)]
