"""Step 5, run: hoist, loop, finish; and the loop's derivative as `tangent = linear loop(d carry, taps)`.

With `blocks > 1` time is cut into that many blocks, and hoisting, taps and weight gradients are done block by block:
the wide arrays over time (hoisted inputs, cotangents of the sums) are then never larger than one block.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnnjax import _jax
from rnnjax.engine.batch import evaluate_stacked, hoist
from rnnjax.engine.graph import PRODUCTS, Eqn, alive, evaluate, is_float, nbytes, read, variables
from rnnjax.engine.linear import Interface, Linear, Live, Step, cut, run_linear, trace_step
from rnnjax.engine.plan import Plan, hoisted_bytes
from rnnjax.engine.schedule import Schedule, Sizes, Ways, choose
from rnnjax.engine.sort import CHEAP, ELEMENTWISE_COSTLY, Sorted, may_run_at_once
from rnnjax.engine.store import Store, over_time
from rnnjax.engine.tangents import Tangents, instantiate, typed, with_float0
from rnnjax.engine.taps import Taps


@dataclasses.dataclass(frozen=True)
class Time:
    """How to go through time."""

    length: int
    reverse: bool = False
    unroll: int = 1
    blocks: int = 1

    @property
    def steps(self) -> int:
        """Steps of one block."""
        return self.length // self.blocks

    def scan(self, body: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
        """`lax.scan` over the steps of one block."""
        unroll = min(self.unroll, self.steps)
        return lax.scan(body, carry, xs, length=self.steps, reverse=self.reverse, unroll=unroll)

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


def run(s: Sorted, taps: Taps, init: list, xs: list, time: Time, ways: Ways) -> list:
    """Everything: the flat outputs of `lax.scan`, carry first."""
    env = dict(s.graph.consts)
    evaluate(s.once, env)
    face = interface(s, taps)
    if any(map(_jax.partitioned, [*s.graph.consts.values(), *xs, *init])):
        ways = Ways(ways.forward or Schedule(), ways.gradient or Schedule())  # blocks would sum over devices once each
    carry, stacks = Loop(s, taps, face, time, ways)([env[v] for v in face.constants], xs, init)
    return [*carry, *finish(s, face, env, xs, stacks, time.length)]


def interface(s: Sorted, taps: Taps) -> Interface:
    """What the loop reads, and what the outputs and the equations after the loop read of it."""
    made = {v for e in s.loop for v in e.outs} | set(s.carry)
    reads = [a for e in s.loop for a in e.ins]
    used = dict.fromkeys(variables([*reads, *s.carry_out]))
    out = dict.fromkeys(variables([*s.ys, *(a for e in s.after for a in e.ins)]))
    per_step = [v for v in used if s.level[v] == 1]
    used.update(dict.fromkeys(v for e in alive(s.ahead, per_step) for v in variables(e.ins)))
    return Interface([v for v in used if s.level[v] == 0], per_step, [v for v in out if v in made])


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


@dataclasses.dataclass(frozen=True)
class Loop:
    """The loop with its derivative rule; called with constants, xs and the carry, all flat lists."""

    s: Sorted
    taps: Taps
    face: Interface
    time: Time
    ways: Ways

    def __call__(self, consts: list, xs: list, init: list) -> tuple[list, list]:
        @jax.custom_jvp
        def loop(consts, xs, init):
            return self.primal(consts, xs, init)

        axes = _jax.named_axes()

        def rule(primals, tangents):
            with _jax.inside_axes(axes):
                return self.rule(primals, tangents)

        loop.defjvp(rule, symbolic_zeros=True)
        return loop(consts, xs, init)

    def primal(self, consts: list, xs: list, init: list) -> tuple[list, list]:
        known = dict(zip(self.face.constants, consts, strict=True))
        way = self.ways.forward or forward_schedule(self.s, self.face, self.time.length)
        time = dataclasses.replace(self.time, blocks=way.blocks)

        def step(carry, hoisted):
            env = {**known, **dict(zip([*self.s.carry, *self.face.per_step], [*carry, *hoisted], strict=True))}
            evaluate(self.s.loop, env)
            return [jnp.asarray(read(env, a)) for a in self.s.carry_out], [env[v] for v in self.face.emit]

        def block(carry, xs, _):
            return *self.scan(step, carry, xs, known, time, way.hoist, [])[:2], ()

        return time.over_blocks(block, init, xs)[:2]

    def scan(
        self, step: Callable, carry: Any, xs: list, known: dict, time: Time, hoisting: bool, keep: list[int]
    ) -> tuple[Any, Any, list]:
        """`step(carry, hoisted values)` over one block: (carry, ys, the stacks of those hoisted values in `keep`)."""
        per_step = self.face.per_step
        if hoisting:
            hoisted = hoist(self.s, per_step, known, xs)
            return *time.scan(step, carry, hoisted), [hoisted[n] for n in keep]
        ahead = alive(self.s.ahead, per_step)

        def whole(carry, x):
            env = {**known, **dict(zip(self.s.xs, x, strict=True))}
            evaluate(ahead, env)
            carry, ys = step(carry, [env[v] for v in per_step])
            return carry, (ys, [env[per_step[n]] for n in keep])

        carry, (ys, hoisted) = time.scan(whole, carry, xs)
        return carry, ys, hoisted

    def rule(self, primals: Any, tangents: Any) -> Any:
        try:
            dot = Tangents.of(self.s, self.taps, self.face, *tangents[:2])
            traced = trace_step(self.s, self.taps, self.face, dot.live, dot.operands)
            step, way = schedule_step(self.s, traced, self.time.length, self.ways.gradient)
        except _jax.Unsupported as error:
            warnings.warn(f"rnnjax.scan differentiates as jax.lax.scan: {error}", RuntimeWarning, 2)
            return jax.jvp(self.primal, primals, jax.tree.map(instantiate, tangents, tuple(primals)))
        return self.derivative(primals, tangents, dot, step, way)

    def derivative(self, primals: Any, tangents: Any, dot: Tangents, step: Linear, way: Schedule) -> Any:
        """Outputs and their tangents, by a forward loop and a linear one."""
        consts, xs, init = primals
        time = dataclasses.replace(self.time, blocks=way.blocks)
        known = dict(zip(self.face.constants, consts, strict=True))
        values = {**step.graph.consts, **dict(zip(step.consts, consts, strict=True))}
        evaluate(step.once, values)
        store = Store.of(step, values)

        def forward(carry, xs, _):
            keep = [step.hoisted.index(v) for v in store.hoisted]
            out, stacks, hoisted = self.scan(store.step, carry, xs, known, time, way.hoist, keep)
            return out, [*stacks, *hoisted], [carry[n] for n in store.shifted]

        out, stacks, starts = time.over_blocks(forward, init, xs)
        if time.blocks == 1:
            starts = [v[None] for v in starts]

        def linear(dcarry, given, starts):
            (xs, stacks), dxs = given
            hoisted = hoist(self.s, self.face.per_step, known, xs) if step.replay else []
            stacked = store.read(stacks, starts, dict(zip(step.hoisted, hoisted, strict=False)), time)
            held = lambda a: over_time(a, stacked, values, time.steps)
            d1 = dot.hoisted(known, xs, dxs)
            here = {**known, **dict(zip(dot.operands, [held(a) for a in step.operands], strict=True))}
            here.update({v: stacked[w] for v, w in zip(self.face.per_step, step.hoisted, strict=True) if w in stacked})
            dtaps = dot.make_taps(d1, here, time.steps)
            dots = [
                dcarry,
                dtaps,
                [dot.consts[v] for v in dot.live.plain_constants],
                [d1[v] for v in dot.live.plain_per_step],
            ]
            return *run_linear(step, values, [held(v) for v in step.store], dots, time), ()

        if time.blocks > 1:
            linear = jax.checkpoint(linear, policy=jax.checkpoint_policies.nothing_saveable, prevent_cse=False)
        dcarry = [instantiate(d, v) for d, v in zip(tangents[2], init, strict=True) if is_float(typed(v))]
        dout = time.over_blocks(linear, dcarry, ((xs, stacks), list(dot.xs.values())), starts)[:2]
        emitted = [store.whole(a, stacks, init, time) for a in step.emit]
        return (out, emitted), tuple(with_float0(o, d) for o, d in zip((out, emitted), dout, strict=True))


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
    plain = [[v for v in taps.plain if is_float(v) and (s.level[v] == 0) is once] for once in (True, False)]
    operands = list(dict.fromkeys(v for u in taps.uses for v in u.operands if s.level[v] > 0))
    live = Live([t.point for t in taps.taps], *plain)
    return schedule_step(s, trace_step(s, taps, face, live, operands), length, plan.ways.gradient)[1]


def schedule_step(s: Sorted, traced: Step, length: int, given: Schedule | None) -> tuple[Linear, Schedule]:
    """How a gradient goes through time, as `given` or the cheapest, and its step cut accordingly."""
    if given is not None and not given.replay:
        return cut(traced), given
    step, replayed = cut(traced), cut(traced, replay=True)
    hoisted, taps = sum(map(nbytes, step.hoisted)), sum(map(nbytes, step.dots[1]))
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
        shifted=sum(nbytes(step.carry[n]) for n in store.shifted),
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
    return 2 * size * math.prod(kernel) // kernel[_jax.kernel_outputs(eqn.params)]
