"""Step 5, run: hoist, loop, finish; and the loop's derivative as `tangent = linear loop(d carry, taps)`."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from rnnjax import _jax
from rnnjax.engine.graph import Var, evaluate, is_float, is_var, read, variables
from rnnjax.engine.linear import Interface, Linear, Live, linearize_step, run_linear
from rnnjax.engine.sort import Sorted
from rnnjax.engine.taps import Sum, Taps, Use, piece_tangents

Time = dict  # length, reverse, unroll: how lax.scan runs


def run(s: Sorted, taps: Taps, init: list, xs: list, time: Time) -> list:
    """Everything: the flat outputs of `lax.scan`, carry first."""
    env = dict(s.graph.consts)
    evaluate(s.once, env)
    face = interface(s, taps)
    hoisted = hoist(s, face.need1, env, xs)
    loop = Loop(s, taps, face, time)
    carry, stacks = loop(([env[v] for v in face.need0]), hoisted, init)
    return [*carry, *finish(s, face, env, hoisted, xs, stacks, time["length"])]


def interface(s: Sorted, taps: Taps) -> Interface:
    """What the loop reads, and what the outputs and the equations after the loop read of it."""
    made = {v for e in s.loop for v in e.outs} | set(s.carry)
    reads = [a for e in s.loop for a in e.ins]
    used = dict.fromkeys(variables([*reads, *s.carry_out]))
    taps.plain |= {v for v in variables(s.carry_out) if s.level[v] < 2}
    out = dict.fromkeys(variables([*s.ys, *(a for e in s.after for a in e.ins)]))
    need0 = [v for v in used if s.level[v] == 0]
    need1 = [v for v in used if s.level[v] == 1]
    return Interface(need0, need1, [v for v in out if v in made])


def hoist(s: Sorted, wanted: list[Var], env: dict[Var, Any], xs: list) -> list:
    """The wanted values that need x alone, for all steps at once."""
    if not wanted:
        return []

    def one(x):
        inner = {**env, **dict(zip(s.xs, x, strict=True))}
        evaluate(s.ahead, inner)
        return [inner[v] for v in wanted]

    return jax.vmap(one)(xs) if s.ahead else [dict(zip(s.xs, xs, strict=True))[v] for v in wanted]


def finish(s: Sorted, face: Interface, env: dict, hoisted: list, xs: list, stacks: list, length: int) -> list:
    """The outputs over time: stacked in the loop, or computed after it for all steps at once."""
    ahead = {**dict(zip(s.xs, xs, strict=True)), **dict(zip(face.need1, hoisted, strict=True))}
    ahead.update(zip(face.emit, stacks, strict=True))
    made = {v for e in s.after for v in e.outs}
    need = variables([*s.ys, *(a for e in s.after for a in e.ins)])
    missing = list(dict.fromkeys(v for v in need if s.level[v] == 1 and v not in ahead))
    ahead.update(zip(missing, hoist(s, missing, env, xs), strict=True))
    given = list(dict.fromkeys(v for v in need if v in ahead))

    def one(values):
        inner = {**env, **dict(zip(given, values, strict=True))}
        evaluate(s.after, inner)
        return [inner[v] for v in dict.fromkeys(v for v in variables(s.ys) if v in made)]

    late = list(dict.fromkeys(v for v in variables(s.ys) if v in made))
    if late:
        ahead.update(zip(late, jax.vmap(one)([ahead[v] for v in given]), strict=True))
    return [over_time(a, ahead, env, length) for a in s.ys]


def over_time(atom: Any, stacked: dict, env: dict, length: int) -> Any:
    if is_var(atom) and atom in stacked:
        return stacked[atom]
    value = jnp.asarray(read(env, atom))
    return jnp.broadcast_to(value, (length, *value.shape))


@dataclasses.dataclass
class Loop:
    """The loop with its derivative rule; called with constants, hoisted values and the carry, all flat lists."""

    s: Sorted
    taps: Taps
    face: Interface
    time: Time

    def __call__(self, consts: list, hoisted: list, init: list) -> tuple[list, list]:
        @jax.custom_jvp
        def loop(consts, hoisted, init):
            return self.primal(consts, hoisted, init)

        loop.defjvp(self.rule, symbolic_zeros=True)
        return loop(consts, hoisted, init)

    def primal(self, consts: list, hoisted: list, init: list) -> tuple[list, list]:
        def step(carry, x):
            env = dict(zip(self.face.need0, consts, strict=True))
            env.update(zip([*self.s.carry, *self.face.need1], [*carry, *x], strict=True))
            evaluate(self.s.loop, env)
            return [jnp.asarray(read(env, a)) for a in self.s.carry_out], [env[v] for v in self.face.emit]

        return lax.scan(step, init, hoisted, **self.time)

    def rule(self, primals: Any, tangents: Any) -> Any:
        consts, hoisted, init = primals
        d0 = perturbed(self.face.need0, tangents[0])
        d1 = perturbed(self.face.need1, tangents[1])
        live = self.live(d0, d1)
        uses = [u for u in self.taps.uses if any(w in d0 for w in u.weights)]
        operands = list(dict.fromkeys(v for u in uses for v in u.operands if self.s.level[v] == 2))
        step = linearize_step(self.s, self.taps, self.face, live, operands)
        values = {**step.graph.consts, **dict(zip(step.consts, consts, strict=True))}
        evaluate(step.once, values)
        out, stacked = self.forward(step, values, hoisted, init)
        given = {**dict(zip(self.face.need0, consts, strict=True)), **dict(zip(self.face.need1, hoisted, strict=True))}
        given.update(zip(operands, [stacked(a) for a in step.operands], strict=True))
        pieces = {v: d for u in uses for v, d in zip(u.pieces, self.pieces(u, d0, given), strict=True)}
        taps = [self.tap(v, d0, d1, pieces) for v in live.taps]
        dcarry = [instantiate(d, v) for d, v in zip(tangents[2], init, strict=True) if is_float(typed(v))]
        dots = [dcarry, taps, [d0[v] for v in live.plain0], [d1[v] for v in live.plain1]]
        dout = run_linear(step, values, [stacked(v) for v in step.store], dots, self.time)
        return out, tuple(with_float0(o, d) for o, d in zip(out, dout, strict=True))

    def live(self, d0: dict, d1: dict) -> Live:
        """The taps and plain inputs that have a tangent."""
        sums = {t.out: t for t in self.taps.sums}

        def moves(v: Var) -> bool:
            if v in sums:
                leaves = [a for _, a in sums[v].leaves if is_var(a)]
                return any(a in d0 or a in d1 for a in leaves) or any(
                    w in d0 for u, _ in sums[v].taken.values() for w in u.weights
                )
            return any(w in d0 for w in self.taps.free[v][0].weights)

        plain = self.taps.plain
        return Live(
            [v for v in self.taps.points if moves(v)], [v for v in d0 if v in plain], [v for v in d1 if v in plain]
        )

    def forward(self, step: Linear, consts: dict, hoisted: list, init: list) -> tuple[Any, Any]:
        """((carry, emitted), a function from a value of the step to its stack over time)."""
        given = dict(zip(step.hoisted, hoisted, strict=True))
        want = dict.fromkeys(variables([*step.emit, *step.operands, *step.store]))
        shifted = {}  # a carry is its own output of the step before: stored once
        for v, after in zip(step.carry, step.carry_out, strict=True):
            if v in want and is_var(after) and after in want and after not in given and after not in step.carry:
                shifted[v] = after
        stack = [v for v in want if v not in given and v not in consts and v not in shifted]

        def body(carry, x):
            env = {**consts, **dict(zip([*step.carry, *step.hoisted], [*carry, *x], strict=True))}
            evaluate(step.forward, env)
            return [jnp.asarray(read(env, a)) for a in step.carry_out], [env[v] for v in stack]

        carry, stacks = lax.scan(body, init, hoisted, **self.time)
        given.update(zip(stack, stacks, strict=True))
        start = dict(zip(step.carry, init, strict=True))
        for v, after in shifted.items():
            given[v] = shift(start[v], given[after], self.time["reverse"])

        def stacked(atom):
            return over_time(atom, given, consts, self.time["length"])

        return (carry, [stacked(a) for a in step.emit]), stacked

    def tap(self, point: Var, d0: dict, d1: dict, pieces: dict) -> jax.Array:
        """`d hoisted + d bias + a @ dW` of one tapped value, for all steps at once."""
        if point in self.taps.free:
            parts = [(1, pieces[point])]
        else:
            total = next(t for t in self.taps.sums if t.out is point)
            found = [(sign, leaf_tangent(total, a, d0, d1, pieces)) for sign, a in total.leaves if is_var(a)]
            parts = [(sign, d) for sign, d in found if d is not None]
        whole = None
        for sign, d in parts:
            d = d if sign > 0 else -d
            whole = d if whole is None else jnp.add(whole, d)
        return jnp.broadcast_to(whole, (self.time["length"], *point.shape))

    def pieces(self, use: Use, d0: dict, given: dict) -> list:
        """Tangents of the pieces of a use, for all steps at once."""
        over = [v for v in use.operands if self.s.level[v] > 0]
        dot = {w: d0[w] for w in use.weights if w in d0}
        rest = {v: given[v] for v in variables(use.eqn.ins) if v not in over}

        def one(values):
            found = piece_tangents(use, {**rest, **dict(zip(over, values, strict=True))}, dot)
            return [d for d in found if d is not None]

        found = iter(jax.vmap(one)([given[v] for v in over]))
        return [next(found) if is_float(v) else None for v in use.pieces]


def leaf_tangent(total: Sum, leaf: Var, d0: dict, d1: dict, pieces: dict) -> Any:
    """Tangent of one part of a sum, with the time axis first; None where there is none outside the loop."""
    if leaf in d0:
        return spread(d0[leaf], 0, total.out)
    if leaf in d1:
        return spread(d1[leaf], 1, total.out)
    return pieces.get(leaf) if leaf in total.taken else None


def spread(d: Any, time_axes: int, like: Var) -> Any:
    """Insert axes of size one after the time axis (there may be none), to the rank of a stack of `like`."""
    missing = len(like.shape) - (d.ndim - time_axes)
    lead = d.shape[:1] if time_axes else (1,)
    return d.reshape(*lead, *(1,) * missing, *d.shape[time_axes:])


def typed(value: Any) -> Var:
    return Var(jax.typeof(value))


def perturbed(names: list[Var], tangents: list) -> dict[Var, Any]:
    """The tangents that are there: not symbolic zeros, not those of integers."""
    return {v: d for v, d in zip(names, tangents, strict=True) if not isinstance(d, SymbolicZero) and is_float(v)}


def instantiate(tangent: Any, value: Any) -> Any:
    return jnp.zeros(value.shape, value.dtype) if isinstance(tangent, SymbolicZero) else tangent


def with_float0(values: list, tangents: list) -> list:
    """Tangents of all outputs: those computed for the floats, `float0` for the rest."""
    found = iter(tangents)
    return [next(found) if is_float(typed(v)) else np.zeros(v.shape, _jax.tangent_dtype(v.dtype)) for v in values]


def shift(start: Any, after: Any, reverse: bool) -> Any:
    """The carry before each step, from the carry before the first and that after each."""
    parts = [after[1:], start[None]] if reverse else [start[None], after[:-1]]
    return jnp.concatenate(parts)
