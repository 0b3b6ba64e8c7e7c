"""Which way through time a loop takes: its sizes in bytes and operations, for `schedule`."""

from __future__ import annotations

import dataclasses
import math

from rnnjax import _jax
from rnnjax.engine.binding_times import CHEAP, CONSTANT, ELEMENTWISE_COSTLY, INPUT, Sorted, may_run_at_once
from rnnjax.engine.deferral import Taps
from rnnjax.engine.execute.linear import Interface, Linear, Live, Step, cut, trace_step
from rnnjax.engine.graph import PRODUCTS, Eqn, alive, is_float, nbytes, variables
from rnnjax.engine.plan import Plan, hoisted_bytes
from rnnjax.engine.schedule import Schedule, Sizes, choose
from rnnjax.engine.stacks import Store


def interface(s: Sorted, taps: Taps) -> Interface:
    """What the loop reads, and what the outputs and the equations after the loop read of it."""
    made = {v for e in s.loop for v in e.outs} | set(s.carry)
    reads = [a for e in s.loop for a in e.ins]
    used = dict.fromkeys(variables([*reads, *s.carry_out]))
    out = dict.fromkeys(variables([*s.ys, *(a for e in s.after for a in e.ins)]))
    per_step = [v for v in used if s.when[v] == INPUT]
    used.update(dict.fromkeys(v for e in alive(s.ahead, per_step) for v in variables(e.ins)))
    return Interface([v for v in used if s.when[v] == CONSTANT], per_step, [v for v in out if v in made])


def forward_schedule(s: Sorted, face: Interface, length: int) -> Schedule:
    """How a forward pass alone goes through time."""
    stored = sum(map(nbytes, face.emit)) // 2  # outputs are not read back: half the copies
    ahead = sum(map(product_flops, s.ahead))
    return choose(length, Sizes(hoisted_bytes(s), 0, stored, ahead, outside=ahead, can_stay=can_stay(s)))


def gradient_schedule(plan: Plan, length: int) -> Schedule:
    """How the gradient for everything goes through time."""
    s, taps = plan.sorted, plan.taps
    if s is None or taps is None:
        return Schedule()
    face = interface(s, taps)
    plain = [[v for v in taps.plain if is_float(v) and (s.when[v] == CONSTANT) is once] for once in (True, False)]
    operands = list(dict.fromkeys(v for u in taps.uses for v in u.operands if s.when[v] > CONSTANT))
    live = Live([t.point for t in taps.taps], *plain)
    return schedule_step(s, trace_step(s, taps, face, live, operands), length, plan.ways.gradient)[1]


def schedule_step(s: Sorted, traced: Step, length: int, given: Schedule | None) -> tuple[Linear, Schedule]:
    """How a gradient goes through time, as `given` or the cheapest, and its step cut accordingly."""
    if given is not None and not given.replay:
        return cut(traced), given
    step, replayed = cut(traced), cut(traced, replay=True)
    hoisted, taps = sum(map(nbytes, step.ins.hoisted)), sum(map(nbytes, step.ins.dots.taps))
    store, less = Store.of(step, {}), Store.of(replayed, {})
    ahead, loop = (sum(map(product_flops, eqns)) for eqns in (s.ahead, s.loop))
    possible = bool(replayed.replay) and all(map(may_run_at_once, replayed.replay))
    if given is not None:  # where some gradients are not asked for there may be nothing to make again
        return (replayed, given) if possible else (step, dataclasses.replace(given, replay=False))
    sizes = Sizes(
        hoisted,
        taps,
        stored=sum(map(nbytes, [*store.stack, *store.hoisted])),
        ahead=ahead,
        loop=loop,
        outside=2 * ahead + loop,
        shifted=sum(nbytes(step.ins.carry[n]) for n in store.shifted),
        kept=sum(map(nbytes, less.stack)),
        again=sum(nbytes(v) for e in replayed.replay if e.name not in CHEAP for v in e.outs),
        curves=sum(nbytes(v) for e in replayed.replay if e.name in ELEMENTWISE_COSTLY for v in e.outs),
        saved=len(store.stack) - len(less.stack),
        can_replay=possible,
        can_stay=can_stay(s),
    )
    way = choose(length, sizes)
    return (replayed if way.replay else step), way


def can_stay(s: Sorted) -> bool:
    """Whether what is hoisted may as well be made step by step: products; but one over a single feature, which XLA makes
    element by element, only where it is not split into gates."""
    products = [e for e in s.ahead if e.name == "dot_general"]
    split = {e.ins[0] for e in s.ahead if e.name == "split"}
    sums = [product_flops(e) > 2 * math.prod(e.outs[0].shape) or e.outs[0] not in split for e in products]
    return bool(products) and all(sums)


def product_flops(eqn: Eqn) -> int:
    """Floating-point operations of a product; 0 for any other equation."""
    if eqn.name not in PRODUCTS:
        return 0
    size = math.prod(eqn.outs[0].shape)
    if eqn.name == "dot_general":
        (contract, _), _ = _jax.dot_axes(eqn.params)
        return 2 * size * math.prod(eqn.ins[0].aval.shape[d] for d in contract)
    kernel = eqn.ins[1].aval.shape
    return 2 * size * math.prod(kernel) // kernel[_jax.convolution(eqn.params).kernel[0]]
