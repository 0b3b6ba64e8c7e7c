"""``method="loop"``: the slow, obvious definition that every other method is tested against."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.engine import lowered
from rnnjax.sequence.arguments import one_step
from rnnjax.sequence.options import Options
from rnnjax.sequence.run import Rolled, Run
from rnnjax.sequence.step import loop_body


def run(its: Run, options: Options) -> Rolled:
    """A Python loop over the steps; nothing is taken apart, so that nobody asks for its carries."""
    body, carry, steps = loop_body(its.cell, its.params, its.start, its.fresh), its.start, its.steps
    body = body if options.matmul_dtype is None else lowered(body, options.matmul_dtype)
    time = jax.tree.leaves(steps.x)[0].shape[0]
    ys: list[Any] = [None] * time
    for t in reversed(range(time)) if options.reverse else range(time):
        carry, ys[t] = body(carry, jax.tree.map(lambda a, t=t: a[t], steps))
    if time:
        return Rolled(carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *ys))
    _, y = jax.eval_shape(body, carry, one_step(steps))
    return Rolled(carry, jax.tree.map(lambda leaf: jnp.zeros((0, *leaf.shape), leaf.dtype), y))
