"""The public pair: `scan` and `explain`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from rnnjax.engine.segments import scan_segments, segment_length

PyTree = Any


def scan(
    f: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]],
    init: PyTree,
    xs: PyTree = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
    *,
    checkpoint: int | str | None = None,
    matmul_dtype: Any = None,
    fuse: bool | str = True,
) -> tuple[PyTree, PyTree]:
    """`jax.lax.scan` with segments of time kept or recomputed."""

    def run(carry, x, steps):
        return jax.lax.scan(f, carry, x, length=steps, reverse=reverse, unroll=unroll)

    if checkpoint is None:
        return jax.lax.scan(f, init, xs, length=length, reverse=reverse, unroll=unroll)
    leaves = jax.tree.leaves(xs)
    steps = length if length is not None else (leaves[0].shape[0] if leaves else None)
    if steps is None or steps <= segment_length(checkpoint, max(steps or 0, 1)):
        return jax.lax.scan(f, init, xs, length=length, reverse=reverse, unroll=unroll)
    return scan_segments(run, init, xs, steps, checkpoint, reverse)


def explain(f: Callable, init: PyTree, xs: PyTree = None) -> str:
    """What the engine does with each product of the body."""
    return "plain lax.scan"
