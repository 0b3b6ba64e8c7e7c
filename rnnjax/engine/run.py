"""Step 5, run: hoist, loop, finish; and the loop's derivative as `tangent = linear loop(d carry, taps)`.

With `blocks > 1` time is cut into that many blocks, and hoisting, taps and weight gradients are done block by block:
the wide arrays over time (hoisted inputs, cotangents of the sums) are then never larger than one block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero

from rnnjax import _jax
from rnnjax.engine.batch import evaluate_stacked
from rnnjax.engine.graph import Var, alive, depends, evaluate, is_float, is_var, nbytes, read, variables
from rnnjax.engine.linear import Interface, Linear, Live, linearize_step, run_linear
from rnnjax.engine.rewrite import narrow_products
from rnnjax.engine.sort import Sorted
from rnnjax.engine.taps import Tap, Taps, Use, make_tap, use_tangents

WIDE = 2 * 2**20  # up to here a product over time stays in the cache while it is cut apart; one wide product is faster


@dataclasses.dataclass(frozen=True)
class Time:
    """How to go through time."""

    length: int
    reverse: bool = False
    unroll: int = 1
    blocks: int = 1

    def scan(self, body: Callable, carry: Any, xs: Any, length: int | None = None) -> tuple[Any, Any]:
        """`lax.scan` over the steps of one block."""
        steps = self.length // self.blocks
        return lax.scan(body, carry, xs, length=steps, reverse=self.reverse, unroll=min(self.unroll, steps))

    def over_blocks(self, body: Callable, carry: Any, xs: Any, per_block: Any = ()) -> tuple[Any, Any, Any]:
        """`body(carry, xs of a block, per_block of it) -> (carry, ys, one value per block)`, block after block."""
        if self.blocks == 1:
            return body(carry, xs, jax.tree.map(lambda p: p[0], per_block)) if per_block else body(carry, xs, ())
        cut = jax.tree.map(lambda x: x.reshape(self.blocks, -1, *x.shape[1:]), xs)

        def step(c, x):
            c, ys, one = body(c, *x)
            return c, (ys, one)

        carry, (ys, ones) = lax.scan(step, carry, (cut, per_block), length=self.blocks, reverse=self.reverse)
        return carry, jax.tree.map(lambda y: y.reshape(self.length, *y.shape[2:]), ys), ones


def run(s: Sorted, taps: Taps, init: list, xs: list, time: Time, forward_blocks: int = 1) -> list:
    """Everything: the flat outputs of `lax.scan`, carry first. `forward_blocks`: where no gradient is taken."""
    env = dict(s.graph.consts)
    evaluate(s.once, env)
    face = interface(s, taps)
    carry, stacks = Loop(s, taps, face, time, dataclasses.replace(time, blocks=forward_blocks))(
        [env[v] for v in face.need0], xs, init
    )
    return [*carry, *finish(s, face, env, xs, stacks, time.length)]


def interface(s: Sorted, taps: Taps) -> Interface:
    """What the loop reads, and what the outputs and the equations after the loop read of it."""
    made = {v for e in s.loop for v in e.outs} | set(s.carry)
    reads = [a for e in s.loop for a in e.ins]
    used = dict.fromkeys(variables([*reads, *s.carry_out]))
    taps.plain |= {v for v in variables(s.carry_out) if s.level[v] < 2}
    out = dict.fromkeys(variables([*s.ys, *(a for e in s.after for a in e.ins)]))
    need1 = [v for v in used if s.level[v] == 1]
    used.update(dict.fromkeys(v for e in alive(s.ahead, need1) for v in variables(e.ins)))
    return Interface([v for v in used if s.level[v] == 0], need1, [v for v in out if v in made])


def hoist(s: Sorted, wanted: list[Var], env: dict[Var, Any], xs: list) -> list:
    """The wanted values that need x alone, for all steps at once."""
    stacked = dict(zip(s.xs, xs, strict=True))
    inner = {**env, **stacked}
    eqns = alive(s.ahead, wanted)
    steps = xs[0].shape[0] if xs else 0
    if any(steps * nbytes(v) > WIDE for e in eqns if e.name == "dot_general" for v in e.outs):
        eqns = narrow_products(eqns, set(wanted), lambda v: s.level[v] == 0)
    evaluate_stacked(eqns, inner, set(stacked))
    return [inner[v] for v in wanted]


def finish(s: Sorted, face: Interface, env: dict, xs: list, stacks: list, length: int) -> list:
    """The outputs over time: stacked in the loop, or computed after it for all steps at once."""
    ahead = {**dict(zip(s.xs, xs, strict=True)), **dict(zip(face.emit, stacks, strict=True))}
    need = variables([*s.ys, *(a for e in s.after for a in e.ins)])
    missing = list(dict.fromkeys(v for v in need if s.level[v] == 1 and v not in ahead))
    ahead.update(zip(missing, hoist(s, missing, env, xs), strict=True))
    stacked = set(ahead)
    inner = {**env, **ahead}
    evaluate_stacked(s.after, inner, stacked)
    return [over_time(a, {v: inner[v] for v in stacked}, env, length) for a in s.ys]


def over_time(atom: Any, stacked: dict, env: dict, length: int) -> Any:
    if is_var(atom) and atom in stacked:
        return stacked[atom]
    value = jnp.asarray(read(env, atom))
    return jnp.broadcast_to(value, (length, *value.shape))


@dataclasses.dataclass
class Loop:
    """The loop with its derivative rule; called with constants, xs and the carry, all flat lists."""

    s: Sorted
    taps: Taps
    face: Interface
    time: Time
    forward_time: Time

    def __call__(self, consts: list, xs: list, init: list) -> tuple[list, list]:
        @jax.custom_jvp
        def loop(consts, xs, init):
            return self.primal(consts, xs, init)

        loop.defjvp(self.rule, symbolic_zeros=True)
        return loop(consts, xs, init)

    def primal(self, consts: list, xs: list, init: list) -> tuple[list, list]:
        known = dict(zip(self.face.need0, consts, strict=True))

        def step(carry, x):
            env = {**known, **dict(zip([*self.s.carry, *self.face.need1], [*carry, *x], strict=True))}
            evaluate(self.s.loop, env)
            return [jnp.asarray(read(env, a)) for a in self.s.carry_out], [env[v] for v in self.face.emit]

        def block(carry, xs, _):
            return *self.forward_time.scan(step, carry, hoist(self.s, self.face.need1, known, xs)), ()

        return self.forward_time.over_blocks(block, init, xs)[:2]

    def rule(self, primals: Any, tangents: Any) -> Any:
        consts, xs, init = primals
        dot = Tangents.of(self, *tangents)
        step = linearize_step(self.s, self.taps, self.face, dot.live, dot.operands)
        known = dict(zip(self.face.need0, consts, strict=True))
        values = {**step.graph.consts, **dict(zip(step.consts, consts, strict=True))}
        evaluate(step.once, values)
        store = Store.of(step, values)

        def forward(carry, xs, _):
            hoisted = hoist(self.s, self.face.need1, known, xs)
            out, stacks = self.time.scan(store.step, carry, hoisted)
            kept = dict(zip(step.hoisted, hoisted, strict=True))
            return out, [*stacks, *(kept[v] for v in store.hoisted)], [carry[n] for n in store.shifted]

        out, stacks, starts = self.time.over_blocks(forward, init, xs)
        if self.time.blocks == 1:
            starts = [v[None] for v in starts]

        def linear(dcarry, given, starts):
            (xs, stacks), dxs = given
            held = store.read(stacks, starts, self.time)
            d1 = dot.hoisted(self, known, xs, dxs)
            here = {**known, **dict(zip(dot.operands, [held(a) for a in step.operands], strict=True))}
            here.update({v: held(w) for v, w in zip(self.face.need1, step.hoisted, strict=True) if w in store.want})
            dtaps = dot.make_taps(self, d1, here)
            dots = [dcarry, dtaps, [dot.consts[v] for v in dot.live.plain0], [d1[v] for v in dot.live.plain1]]
            return *run_linear(step, values, [held(v) for v in step.store], dots, self.time), ()

        if self.time.blocks > 1:
            linear = jax.checkpoint(linear, policy=jax.checkpoint_policies.nothing_saveable, prevent_cse=False)
        dcarry = [instantiate(d, v) for d, v in zip(tangents[2], init, strict=True) if is_float(typed(v))]
        dout = self.time.over_blocks(linear, dcarry, ((xs, stacks), list(dot.xs.values())), starts)[:2]
        emitted = [store.whole(a, stacks, init, self.time) for a in step.emit]
        return (out, emitted), tuple(with_float0(o, d) for o, d in zip((out, emitted), dout, strict=True))


@dataclasses.dataclass
class Store:
    """What the forward loop stacks. A carry is its own output of the step before: it is stored once, and shifted."""

    linear: Linear
    consts: dict[Var, Any]
    want: dict[Var, None]
    stack: list[Var]
    hoisted: list[Var]
    shifted: dict[int, Var]  # which carry -> its value after the step

    @classmethod
    def of(cls, step: Linear, consts: dict[Var, Any], operands: Any = ()) -> Store:
        want = dict.fromkeys(v for v in variables([*step.emit, *step.operands, *step.store]) if v not in consts)
        inputs = {*step.carry, *step.hoisted}
        shifted = {
            n: after
            for n, (v, after) in enumerate(zip(step.carry, step.carry_out, strict=True))
            if v in want and is_var(after) and after in want and after not in inputs
        }
        skip = {step.carry[n] for n in shifted} | set(step.hoisted)
        hoisted = [v for v in step.hoisted if v in want]
        return cls(step, consts, want, [v for v in want if v not in skip], hoisted, shifted)

    def step(self, carry: list, x: list) -> tuple[list, list]:
        """One step of the forward loop."""
        env = {**self.consts, **dict(zip([*self.linear.carry, *self.linear.hoisted], [*carry, *x], strict=True))}
        evaluate(self.linear.forward, env)
        return [jnp.asarray(read(env, a)) for a in self.linear.carry_out], [env[v] for v in self.stack]

    def read(self, stacks: list, starts: list, time: Time) -> Callable[[Any], Any]:
        """A function from a value of the step to its stack over one block."""
        given = dict(zip([*self.stack, *self.hoisted], stacks, strict=True))
        for (n, after), start in zip(self.shifted.items(), starts, strict=True):
            given[self.linear.carry[n]] = shift(start, given[after], time.reverse)
        return lambda a: over_time(a, given, self.consts, time.length // time.blocks)

    def whole(self, atom: Any, stacks: list, init: list, time: Time) -> Any:
        """The stack of an emitted value over all of time."""
        given = dict(zip([*self.stack, *self.hoisted], stacks, strict=True))
        for n, after in self.shifted.items():
            if self.linear.carry[n] is atom:
                return shift(init[n], given[after], time.reverse)
        return over_time(atom, given, self.consts, time.length)


@dataclasses.dataclass
class Tangents:
    """The tangents of one call of the rule: only those that are there."""

    consts: dict[Var, Any]
    xs: dict[Var, Any]
    moving: list[Var]  # hoisted values that have a tangent
    live: Live
    taps: list[Tap]
    uses: list[Use]
    operands: list[Var]

    @classmethod
    def of(cls, loop: Loop, d0: list, dxs: list, _: list) -> Tangents:
        consts, xs = perturbed(loop.face.need0, d0), perturbed(loop.s.xs, dxs)
        reach = depends(loop.s.ahead, [*consts, *xs])
        read = dict.fromkeys([*loop.face.need1, *(v for t in loop.taps.taps for v in t.sources)])
        moving = {v for v in read if v in reach and loop.s.level[v] == 1 and is_float(v)}
        uses = [u for u in loop.taps.uses if any(w in consts for w in u.weights)]
        operands = list(dict.fromkeys(v for u in uses for v in u.operands if loop.s.level[v] > 0))
        moves = {*consts, *moving, *(v for u in uses for v in (*u.eqn.outs, *u.pieces))}
        taps = [t for t in loop.taps.taps if any(v in moves for v in t.sources)]
        plain = [v for v in loop.taps.plain if v in moves]
        live = Live([t.point for t in taps], [v for v in plain if v in consts], [v for v in plain if v not in consts])
        asked = {*live.plain1, *(v for t in taps for v in t.sources)}
        moving = [v for v in read if v in moving and v in asked]
        return cls(consts, xs, moving, live, taps, uses, operands)

    def hoisted(self, loop: Loop, known: dict, xs: list, dxs: list) -> dict[Var, Any]:
        """Tangents of the hoisted values, for all steps at once."""
        if not self.moving:
            return {}
        names = list(self.consts)
        where = {v: n for n, v in enumerate(loop.s.xs)}

        def values(consts, some):
            every = list(xs)
            for v, x in zip(self.xs, some, strict=True):
                every[where[v]] = x
            return hoist(loop.s, self.moving, {**known, **dict(zip(names, consts, strict=True))}, every)

        at = [known[v] for v in names], [xs[where[v]] for v in self.xs]
        return dict(zip(self.moving, jax.jvp(values, at, ([*self.consts.values()], dxs))[1], strict=True))

    def make_taps(self, loop: Loop, d1: dict, given: dict) -> list:
        """`d hoisted + d bias + a @ dW` of each live tap, for all steps at once."""
        outs: dict[Var, Any] = {}
        for use in self.uses:
            dot = {w: self.consts[w] for w in use.weights if w in self.consts}
            stacked = {v for v in use.operands if loop.s.level[v] > 0}
            outs.update(use_tangents(use, given, dot, stacked))

        def tangent(v: Var, like: Var) -> Any:
            if v in self.consts:
                return spread(self.consts[v], 0, like)
            return spread(d1[v], 1, like) if v in d1 else outs.get(v)

        steps = loop.time.length // loop.time.blocks
        return [make_tap(t, lambda v, p=t.point: tangent(v, p), steps) for t in self.taps]


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
    return _jax.zeros(jax.typeof(value)) if isinstance(tangent, SymbolicZero) else tangent


def with_float0(values: list, tangents: list) -> list:
    """Tangents of all outputs: those computed for the floats, `float0` for the rest."""
    found = iter(tangents)
    return [next(found) if is_float(typed(v)) else np.zeros(v.shape, _jax.tangent_dtype(v.dtype)) for v in values]


def shift(start: Any, after: Any, reverse: bool) -> Any:
    """The carry before each step, from the carry before the first and that after each."""
    parts = [after[1:], start[None]] if reverse else [start[None], after[:-1]]
    return jnp.concatenate(parts)
