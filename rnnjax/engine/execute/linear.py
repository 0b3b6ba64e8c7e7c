"""Step 4a, the linear part of a loop's step: split one step into what the forward loop does, what it stores, and the
linear map of tangents that is left for the second loop (whose transpose is the reverse loop)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax import _jax
from rnnjax.engine import residuals
from rnnjax.engine.binding_times import Sorted
from rnnjax.engine.capture import to_graph
from rnnjax.engine.deferral import Taps
from rnnjax.engine.execute.batchable import batchable
from rnnjax.engine.execute.taps import run_tapped
from rnnjax.engine.graph import (
    Atom,
    Eqn,
    Graph,
    Var,
    alive,
    depends,
    evaluate,
    is_float,
    is_var,
    read,
    variables,
)


@dataclasses.dataclass(frozen=True)
class Interface:
    """What a loop reads and gives, apart from its carry."""

    constants: list[Var]
    per_step: list[Var]  # hoisted values and xs
    emit: list[Var]  # values stacked over time


@dataclasses.dataclass(frozen=True)
class Live:
    """What has a tangent in one call of the rule."""

    taps: list[Var]
    plain_constants: list[Var]
    plain_per_step: list[Var]


@dataclasses.dataclass(frozen=True)
class Dots:
    """Tangents that a step takes, as variables of its graph or as arrays."""

    carry: list[Any]  # of what moves
    taps: list[Any]
    plain_constants: list[Any]
    plain_per_step: list[Any]

    @property
    def all(self) -> list[Any]:
        return [*self.carry, *self.taps, *self.plain_constants, *self.plain_per_step]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a step and its tangent read."""

    consts: list[Var]  # as Interface.constants
    carry: list[Var]
    hoisted: list[Var]  # as Interface.per_step
    dots: Dots


@dataclasses.dataclass(frozen=True)
class Outputs:
    """What a step and its tangent give."""

    carry: list[Atom]
    emit: list[Atom]
    operands: list[Atom]
    dot_carry: list[Atom]
    dot_emit: list[Atom]


@dataclasses.dataclass(frozen=True)
class Moves:
    """Places of what has a tangent that is not zero at every step."""

    carry: list[int]  # among all of the carry
    emit: list[int]  # among all that is emitted


@dataclasses.dataclass(frozen=True)
class Step:
    """One step and its tangent, traced."""

    graph: Graph
    ins: Inputs
    outs: Outputs
    moves: Moves


@dataclasses.dataclass(frozen=True)
class Forward:
    """The forward loop's share of a step."""

    eqns: list[Eqn]
    keep: list[Atom]  # what it stacks: what is emitted and what the rest is made of


@dataclasses.dataclass(frozen=True)
class Tangent:
    """The linear loop's share of a step."""

    store: list[Var]  # what it reads of each step
    again: list[Eqn]  # made again step by step
    eqns: list[Eqn]


@dataclasses.dataclass(frozen=True)
class Linear:
    """One step, split. All values are variables of one graph of the step and its tangent."""

    graph: Graph
    ins: Inputs
    outs: Outputs
    moves: Moves
    once: list[Eqn]
    forward: Forward
    replay: list[Eqn]  # made again for all steps of a block at once, from the carries and the hoisted values
    tangent: Tangent


def trace_step(
    s: Sorted, taps: Taps, face: Interface, live: Live, operands: list[Var], start: set[int] | None = None
) -> Step:
    """Trace one step and its tangent. `start`: places of the carry that have one before the first step, all unless given.

    As in `lax.scan`, what no tangent reaches, step after step, has none: a rule without a forward mode may stand there.
    """
    floats = Moves(*([n for n, v in enumerate(vs) if is_float(v)] for vs in (s.carry, face.emit)))
    step = trace_moving(s, taps, face, live, operands, floats)
    moves = floats if start is None else reached(step, start)
    return step if moves == floats else trace_moving(s, taps, face, live, operands, moves)


def reached(step: Step, start: set[int]) -> Moves:
    """What the tangents reach, step after step, that are there at the first: those of the carry at `start`, and all others."""
    dots, carry = step.ins.dots, [n for n in step.moves.carry if n in start]
    while True:
        begin = [d for n, d in zip(step.moves.carry, dots.carry, strict=True) if n in carry]
        found = depends(step.graph.eqns, [*begin, *dots.taps, *dots.plain_constants, *dots.plain_per_step])
        moved = lambda places, outs: [n for n, d in zip(places, outs, strict=True) if is_var(d) and d in found]
        more = [n for n in step.moves.carry if n in {*carry, *moved(step.moves.carry, step.outs.dot_carry)}]
        if more == carry:
            return Moves(carry, moved(step.moves.emit, step.outs.dot_emit))
        carry = more


def trace_moving(s: Sorted, taps: Taps, face: Interface, live: Live, operands: list[Var], moves: Moves) -> Step:
    """Trace one step and its tangent, in what may move."""
    groups = [
        face.constants,
        s.carry,
        face.per_step,
        [s.carry[n] for n in moves.carry],
        live.taps,
        live.plain_constants,
        live.plain_per_step,
    ]
    step = make_step(s, taps, face, live, operands, moves)
    closed, shape = jax.make_jaxpr(step, return_shape=True)(*[[v.aval for v in g] for g in groups])
    graph = to_graph(closed)
    graph = dataclasses.replace(graph, eqns=alive(graph.eqns, graph.outs))
    consts, carry, hoisted, *dots = take(graph.ins, groups)
    ins = Inputs(consts, carry, hoisted, Dots(*dots))
    outs = Outputs(*take(graph.outs, shape))
    return Step(batchable(graph, ins.dots.all), ins, outs, moves)


def take(flat: list, groups: Any) -> list[list]:
    """Cut a flat list into groups of the given lengths."""
    it = iter(flat)
    return [[next(it) for _ in g] for g in groups]


def make_step(s: Sorted, taps: Taps, face: Interface, live: Live, operands: list[Var], moves: Moves) -> Any:
    """`(constants, carry, hoisted, tangents...) -> (carry, emitted, operands, tangents of carry and emitted)`."""

    def step(consts, carry, hoisted, dcarry, dtaps, d0, d1):
        held = dict(zip([*face.constants, *face.per_step], [*consts, *hoisted], strict=True))

        def primal(cf, tap, p0, p1):
            env = {**held, **dict(zip(s.carry, carry, strict=True))}
            names = [*(s.carry[n] for n in moves.carry), *live.plain_constants, *live.plain_per_step]
            env.update(zip(names, [*cf, *p0, *p1], strict=True))
            run_tapped(s.loop, taps, env, held, dict(zip(live.taps, tap, strict=True)))
            all_carry = [jnp.asarray(read(env, a)) for a in s.carry_out]
            all_emit = [env[v] for v in face.emit]
            aux = all_carry, all_emit, [env[v] for v in operands]
            return ([all_carry[n] for n in moves.carry], [all_emit[n] for n in moves.emit]), aux

        zeros = [_jax.zeros(v.aval) for v in live.taps]
        at = (
            [carry[n] for n in moves.carry],
            zeros,
            [held[v] for v in live.plain_constants],
            [held[v] for v in live.plain_per_step],
        )
        _, lin, aux = jax.linearize(primal, *at, has_aux=True)
        return *aux, *lin(dcarry, dtaps, d0, d1)

    return step


def cut(step: Step, replay: bool = False) -> Linear:
    """Cut a step into a forward and a linear part. `replay`: the forward part keeps its carries alone."""
    graph = step.graph
    ins, outs = step.ins, step.outs
    carry, hoisted, emit, operands = ins.carry, ins.hoisted, outs.emit, outs.operands
    dots_out = [*outs.dot_carry, *outs.dot_emit]
    moving = depends(graph.eqns, ins.dots.all)
    if any(a in moving for a in variables([*outs.carry, *emit, *operands])):
        raise _jax.Unsupported("a value depends on a tangent")
    primal = [e for e in graph.eqns if not any(v in moving for v in e.outs)]
    tangent = alive([e for e in graph.eqns if any(v in moving for v in e.outs)], dots_out)
    varying = depends(primal, [*carry, *hoisted])
    once = [e for e in primal if not any(v in varying for v in e.outs)]
    primal = [e for e in primal if any(v in varying for v in e.outs)]
    tangent, transposes = transpose_weights(tangent, varying | moving)
    once = once + transposes
    needed = dict.fromkeys(v for e in tangent for v in variables(e.ins) if v in varying)
    needed.update(dict.fromkeys(v for v in variables(dots_out) if v in varying))
    kept = {v for v in variables([*emit, *operands]) if v in varying} | set(hoisted)
    free = (set(graph.consts) | set(ins.consts) | {v for e in once for v in e.outs}) - varying
    store = residuals.choose(primal, needed, free, kept, residuals.STACK if replay else residuals.STORE)
    again = alive(primal, needed, set(store))
    keep: list[Atom] = [*emit, *operands, *store]
    replayed = []
    if replay:
        start = {*carry, *hoisted}
        replayed = alive(primal, keep[len(emit) :], start)
        reads = {*(v for e in replayed for v in variables(e.ins)), *variables(keep[len(emit) :])}
        keep = [*emit, *(v for v in carry if v in reads)]
    forward = Forward(alive(primal, [*outs.carry, *keep]), keep)
    return Linear(graph, ins, outs, step.moves, once, forward, replayed, Tangent(store, again, tangent))


def transpose_weights(tangent: list[Eqn], inside: set[Var]) -> tuple[list[Eqn], list[Eqn]]:
    """`da @ W` becomes a product with `W.T`, made once: its transpose, in the reverse loop, reads it row by row."""
    turned: dict[Var, Eqn] = {}
    new = []
    for eqn in tangent:
        weight = eqn.ins[1] if eqn.name == "dot_general" else None
        if weight is None or not is_var(weight) or weight in inside or len(weight.shape) != 2:
            new.append(eqn)
            continue
        (lhs, rhs), batch = _jax.dot_axes(eqn.params)
        rows = math.prod(eqn.outs[0].shape[:-1])  # a product with one row reads W by rows as it is
        if len(rhs) != 1 or batch[0] or rhs[0] != 0 or rows == 1:
            new.append(eqn)
            continue
        if weight not in turned:
            out = weight.reshaped(weight.shape[::-1])
            turned[weight] = Eqn(lax.transpose_p, _jax.transpose_params((1, 0)), [weight], [out])
        ins = [eqn.ins[0], turned[weight].outs[0]]
        new.append(dataclasses.replace(eqn, ins=ins, params=_jax.with_dot_axes(eqn.params, (lhs, (1,)), batch)))
    return new, list(turned.values())


def run_linear(step: Linear, consts: dict[Var, Any], stored: list, dots: Dots, time: Any) -> tuple[list, list]:
    """The tangents of the carry after the loop and of what is emitted, for tangents `dots`."""

    def tangent_step(dc, x):
        values, dt, dx = x
        env = {**consts, **dict(zip(step.tangent.store, values, strict=True))}
        env.update(zip(step.ins.dots.all, Dots(dc, dt, dots.plain_constants, dx).all, strict=True))
        evaluate([*step.tangent.again, *step.tangent.eqns], env)
        read_all = lambda atoms: [jnp.asarray(read(env, a)) for a in atoms]
        return read_all(step.outs.dot_carry), read_all(step.outs.dot_emit)

    body = jax.checkpoint(tangent_step, policy=jax.checkpoint_policies.nothing_saveable, prevent_cse=False)
    return time.scan(body, dots.carry, (stored, dots.taps, dots.plain_per_step))
