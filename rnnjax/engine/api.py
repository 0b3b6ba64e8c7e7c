"""The public pair: `scan` and `explain`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rnnjax.engine.rewrite import rewrite
from rnnjax.engine.run import Time, run
from rnnjax.engine.sort import sort
from rnnjax.engine.taps import find_taps
from rnnjax.engine.trace import trace

PyTree = Any
BLOCKS = 1


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
    traced = trace(f, init, xs, length, reverse, unroll)
    if traced.graph is None or fuse is False or traced.length < 2:
        return traced.plain()
    graph = rewrite(traced.graph, traced.num_carry)
    s = sort(graph, traced.num_carry, everything=fuse == "all")
    taps = find_taps(s, lambda e: True)
    time = Time(traced.length, traced.reverse, traced.unroll, BLOCKS)
    return traced.finish(run(s, taps, traced.init, traced.xs, time))


def explain(f: Callable, init: PyTree, xs: PyTree = None) -> str:
    """What the engine does with each product of the body."""
    return "plain lax.scan"
