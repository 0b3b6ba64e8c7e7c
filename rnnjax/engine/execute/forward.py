"""The forward loop, and what comes after it: outputs stacked, or computed for all steps at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from rnnjax.engine.binding_times import INPUT, Sorted
from rnnjax.engine.deferral import Taps
from rnnjax.engine.execute.batch import evaluate_stacked, hoist
from rnnjax.engine.execute.linear import Interface
from rnnjax.engine.execute.time import Time
from rnnjax.engine.execute.ways import forward_schedule
from rnnjax.engine.graph import alive, evaluate, read, variables
from rnnjax.engine.schedule import Ways
from rnnjax.engine.stacks import over_time


@dataclasses.dataclass(frozen=True)
class Loop:
    """The loop, on constants, xs and the carry, all flat lists."""

    s: Sorted
    taps: Taps
    face: Interface
    time: Time
    ways: Ways

    def primal(self, consts: list, xs: list, init: list) -> tuple[list, list]:
        known = dict(zip(self.face.constants, consts, strict=True))
        way = self.ways.forward or forward_schedule(self.s, self.face, self.time.length)
        time = self.time.by(way)

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


def finish(s: Sorted, face: Interface, env: dict, xs: list, stacks: list, length: int) -> list:
    """The outputs over time: stacked in the loop, or computed after it for all steps at once."""
    ahead = {**dict(zip(s.xs, xs, strict=True)), **dict(zip(face.emit, stacks, strict=True))}
    need = variables([*s.ys, *(a for e in s.after for a in e.ins)])
    missing = list(dict.fromkeys(v for v in need if s.when[v] == INPUT and v not in ahead))
    ahead.update(zip(missing, hoist(s, missing, env, xs), strict=True))
    stacked = set(ahead)
    inner = {**env, **ahead}
    evaluate_stacked(s.after, inner, stacked)
    return [over_time(a, {v: inner[v] for v in stacked}, env, length) for a in s.ys]
