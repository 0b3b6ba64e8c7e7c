"""The loop's derivative, as `tangent = linear loop(d carry, taps)` and formulas over all of time.

With `blocks > 1` hoisting, taps and weight gradients are done block by block: the wide arrays over time (hoisted inputs,
cotangents of the sums) are then never larger than one block.
"""

from __future__ import annotations

import warnings
from typing import Any

import jax

from rnnjax import _jax
from rnnjax.engine.execute.batch import hoist
from rnnjax.engine.execute.forward import Loop
from rnnjax.engine.execute.linear import Dots, Linear, run_linear, trace_step
from rnnjax.engine.execute.tangents import Tangents, everywhere, instantiate
from rnnjax.engine.execute.ways import schedule_step
from rnnjax.engine.graph import evaluate
from rnnjax.engine.schedule import Schedule
from rnnjax.engine.stacks import Store, over_time


def with_derivative(body: Loop, consts: list, xs: list, init: list) -> tuple[list, list]:
    """The loop under its derivative rule."""

    @jax.custom_jvp
    def loop(consts, xs, init):
        return body.primal(consts, xs, init)

    axes = _jax.named_axes()

    def rule(primals, tangents):
        with _jax.inside_axes(axes):
            return differentiate(body, primals, tangents)

    loop.defjvp(rule, symbolic_zeros=True)
    return loop(consts, xs, init)


def differentiate(body: Loop, primals: Any, tangents: Any) -> Any:
    """The rule: outputs and their tangents; those of `lax.scan` where the step cannot be split."""
    try:
        dot = Tangents.of(body.s, body.taps, body.face, *tangents)
        traced = trace_step(body.s, body.taps, body.face, dot.live, dot.operands, dot.start)
        step, way = schedule_step(body.s, traced, body.time.length, body.ways.gradient)
    except _jax.Unsupported as error:
        warnings.warn(f"rnnjax.scan differentiates as jax.lax.scan: {error}", RuntimeWarning, 2)
        return jax.jvp(body.primal, primals, jax.tree.map(instantiate, tangents, tuple(primals)))
    return derivative(body, primals, tangents, dot, step, way)


def derivative(body: Loop, primals: Any, tangents: Any, dot: Tangents, step: Linear, way: Schedule) -> Any:
    """Outputs and their tangents, by a forward loop and a linear one."""
    consts, xs, init = primals
    time = body.time.by(way)
    known = dict(zip(body.face.constants, consts, strict=True))
    values = {**step.graph.consts, **dict(zip(step.ins.consts, consts, strict=True))}
    evaluate(step.once, values)
    store = Store.of(step, values)

    def forward(carry, xs, _):
        keep = [step.ins.hoisted.index(v) for v in store.hoisted]
        out, stacks, hoisted = body.scan(store.step, carry, xs, known, time, way.hoist, keep)
        return out, [*stacks, *hoisted], [carry[n] for n in store.shifted]

    out, stacks, starts = time.over_blocks(forward, init, xs)
    if time.blocks == 1:
        starts = [v[None] for v in starts]

    def linear(dcarry, given, starts):
        (xs, stacks), dxs = given
        hoisted = hoist(body.s, body.face.per_step, known, xs) if step.replay else []
        stacked = store.read(stacks, starts, dict(zip(step.ins.hoisted, hoisted, strict=False)), time)
        held = lambda a: over_time(a, stacked, values, time.steps)
        d1 = dot.hoisted(known, xs, dxs)
        here = {**known, **dict(zip(dot.operands, [held(a) for a in step.outs.operands], strict=True))}
        here.update({v: stacked[w] for v, w in zip(body.face.per_step, step.ins.hoisted, strict=True) if w in stacked})
        dtaps = dot.make_taps(d1, here, time.steps)
        dots = Dots(
            dcarry,
            dtaps,
            [dot.consts[v] for v in dot.live.plain_constants],
            [d1[v] for v in dot.live.plain_per_step],
        )
        return *run_linear(step, values, [held(v) for v in step.tangent.store], dots, time), ()

    if time.blocks > 1:
        linear = jax.checkpoint(linear, policy=jax.checkpoint_policies.nothing_saveable, prevent_cse=False)
    dcarry = [instantiate(tangents[2][n], init[n]) for n in step.moves.carry]
    dout = time.over_blocks(linear, dcarry, ((xs, stacks), list(dot.xs.values())), starts)[:2]
    emitted = [store.whole(a, stacks, init, time) for a in step.outs.emit]
    return (out, emitted), (everywhere(out, step.moves.carry, dout[0]), everywhere(emitted, step.moves.emit, dout[1]))
