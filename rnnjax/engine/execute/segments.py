"""Segments of time: recompute a segment in the reverse pass instead of keeping its residuals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
Runner = Callable[[PyTree, PyTree, int], tuple[PyTree, PyTree]]


def segment_length(checkpoint: int | str, steps: int) -> int:
    """Steps per segment: the number itself, or for `"sqrt"` the length that keeps about `2 * sqrt(T)` states."""
    if checkpoint == "sqrt":
        return max(1, math.isqrt(steps))
    if isinstance(checkpoint, bool) or not isinstance(checkpoint, int) or checkpoint < 1:
        raise ValueError(f'scan: checkpoint must be None, an int >= 1 or "sqrt", got {checkpoint!r}')
    return checkpoint


def split_time(xs: PyTree, steps: int, segment: int, reverse: bool) -> tuple[PyTree, PyTree]:
    """(whole segments `[N, segment, ...]`, the remainder that runs last)."""
    whole, rest = divmod(steps, segment)
    start = rest if reverse else 0
    body = jax.tree.map(lambda x: x[start : start + whole * segment].reshape(whole, segment, *x.shape[1:]), xs)
    tail = jax.tree.map(lambda x: x[:rest] if reverse else x[whole * segment :], xs)
    return body, tail


def join_time(body: PyTree, tail: PyTree, reverse: bool) -> PyTree:
    """Inverse of `split_time` for the outputs."""

    def join(a, b):
        a = a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])
        return jnp.concatenate([b, a] if reverse else [a, b])

    return jax.tree.map(join, body, tail)


def scan_segments(
    run: Runner, init: PyTree, xs: PyTree, steps: int, checkpoint: int | str, reverse: bool
) -> tuple[PyTree, PyTree]:
    """`run(carry, xs, steps)` over segments, each under `jax.checkpoint`: only carries between segments are kept."""
    segment = segment_length(checkpoint, steps)
    whole, rest = divmod(steps, segment)
    body, tail = split_time(xs, steps, segment, reverse)

    def one(carry, x):
        return jax.checkpoint(lambda c, s: run(c, s, segment), prevent_cse=False)(carry, x)

    carry, ys = out = jax.lax.scan(one, init, body, length=whole, reverse=reverse)
    pair = jax.tree.structure(out, is_leaf=lambda node: node is not out)  # a body may return its two in a list
    if not rest:
        ys = jax.tree.map(lambda y: y.reshape(whole * segment, *y.shape[2:]), ys)
        return jax.tree.unflatten(pair, (carry, ys))
    carry, last = run(carry, tail, rest)
    return jax.tree.unflatten(pair, (carry, join_time(ys, last, reverse)))
