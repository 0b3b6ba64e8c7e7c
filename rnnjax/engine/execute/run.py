"""Step 5, run: once, ahead, loop, after."""

from __future__ import annotations

from rnnjax import _jax
from rnnjax.engine.binding_times import Sorted
from rnnjax.engine.deferral import Taps
from rnnjax.engine.execute.derivative import with_derivative
from rnnjax.engine.execute.forward import Loop, finish
from rnnjax.engine.execute.time import Time
from rnnjax.engine.execute.ways import interface
from rnnjax.engine.graph import evaluate
from rnnjax.engine.schedule import Schedule, Ways


def run(s: Sorted, taps: Taps, init: list, xs: list, time: Time, ways: Ways) -> list:
    """Everything: the flat outputs of `lax.scan`, carry first."""
    env = dict(s.graph.consts)
    evaluate(s.once, env)
    face = interface(s, taps)
    if any(map(_jax.partitioned, [*s.graph.consts.values(), *xs, *init])):
        ways = Ways(ways.forward or Schedule(), ways.gradient or Schedule())  # blocks would sum over devices once each
    carry, stacks = with_derivative(Loop(s, taps, face, time, ways), [env[v] for v in face.constants], xs, init)
    return [*carry, *finish(s, face, env, xs, stacks, time.length)]
