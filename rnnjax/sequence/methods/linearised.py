"""Trajectories linearised: the Jacobians of all steps, the affine recurrences that they make, and how errors grow along them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax._jax import place_as, vary_over, varying_axes
from rnnjax.sequence.methods.kalman import times

WINDOW = 64  # steps over which errors are followed in order, all windows at once

Push = Callable[[jax.Array], jax.Array]  # directions [T, *B, d] -> J_t directions_t


# -- Jacobians ---------------------------------------------------------------------------------------------------------


def jacobians(push: Push, like: jax.Array) -> jax.Array:
    """Of every step the whole, ``[T, *B, d, d]``. like: ``[T, *B, d]``."""
    along = lambda e: push(_spread(e, like))
    return jax.vmap(along, out_axes=-1)(jnp.eye(like.shape[-1], dtype=like.dtype))


def blocks(push: Push, like: jax.Array, units: np.ndarray) -> jax.Array:
    """Of every step what joins the numbers of one unit, ``[T, *B, m, n, n]``: one column at a time, so that no matrix is kept.

    units: int ``[m, n]``, where the n numbers of each of the m units stand among the d = m n.
    """
    m, n = units.shape

    def column(at: Any) -> jax.Array:
        k, rows = at
        pushed = push(_spread(jax.nn.one_hot(k, m * n, dtype=like.dtype), like))
        return jnp.take(pushed, rows, axis=-1)

    found = jax.lax.map(column, (jnp.asarray(units.ravel()), jnp.asarray(np.repeat(units, n, axis=0))))
    found = found.reshape(m, n, *found.shape[1:])  # unit, column, T, *B, row
    return jnp.moveaxis(found, (0, 1), (-3, -1))


def _spread(direction: jax.Array, like: jax.Array) -> jax.Array:
    """One direction for all of ``like``, placed as it is and differing between devices where it does."""
    spread = jnp.broadcast_to(direction, like.shape)
    return place_as(vary_over(spread, varying_axes(like)), like)


# -- affine recurrences ------------------------------------------------------------------------------------------------


def affine_scan(a: jax.Array, b: jax.Array) -> jax.Array:
    """e with ``e_t = A_t e_{t-1} + b_t``, ``e_0 = b_0``. a ``[T, ..., d, d]``, b ``[T, ..., d]``."""

    def then(p: Any, q: Any) -> Any:
        return q[0] @ p[0], times(q[0], p[1]) + q[1]

    return jax.lax.associative_scan(then, (a, b))[1]


def block_scan(a: jax.Array, b: jax.Array, units: np.ndarray) -> jax.Array:
    """The same with blocks ``a [T, ..., m, n, n]`` on the numbers of each unit."""
    apart = b[..., units]
    if units.shape[1] == 1:
        pairs = (a[..., 0], apart)
        e = jax.lax.associative_scan(lambda p, q: (q[0] * p[0], q[0] * p[1] + q[1]), pairs)[1]
    else:
        e = affine_scan(a, apart)
    return e.reshape(b.shape)[..., np.argsort(units.ravel())]


def in_order(a: jax.Array, b: jax.Array) -> jax.Array:
    """`affine_scan` by a loop, which forms no products of Jacobians."""

    def step(e: jax.Array, at: Any) -> Any:
        e = times(at[0], e) + at[1]
        return e, e

    return jax.lax.scan(step, jnp.zeros_like(b[0]), (a, b))[1]


# -- growth of errors --------------------------------------------------------------------------------------------------


def amplification(
    step: Callable[[jax.Array, Any], jax.Array], before: jax.Array, after: jax.Array, steps: Any
) -> jax.Array:
    """How much longer the steps make a small error, relative to ``1 + |s|``, from where it arises to where it is largest.

    All windows of `WINDOW` steps at once are followed in order, by two errors: a random one at the start of each, of the logarithms
    of whose growth in each step the largest sum over steps in a row counts, through windows; and one with something random
    added in each step, so that no step that kills errors hides what grows after it, whose length counts. So it is an
    estimate. before, after: ``[T, *B, d]``, the carries that steps read and make.
    """
    time, width = len(before), min(len(before), WINDOW)
    first = np.minimum(np.arange(0, time, width), time - width)  # the last window may overlap the one before
    at = first + np.arange(width)[:, None]  # [step in the window, window]
    noise = jax.random.normal(jax.random.key(0), (width, *before.shape[1:]), jnp.float32).astype(before.dtype)
    noise = noise / jnp.linalg.norm(noise, axis=-1, keepdims=True)

    def follow(state: Any, of_step: Any) -> Any:
        first, fed, grown = (
            state  # two directions, and the logarithm of the second one's length where that is above one
        )
        s, made, step_of, new = of_step
        _, push = jax.linearize(lambda s: jax.vmap(step)(s, step_of), s)
        first, size = _unit(push(first * (1 + jnp.abs(s))) / (1 + jnp.abs(made)))
        fed, length = _unit(push(fed * (1 + jnp.abs(s))) / (1 + jnp.abs(made)) + _spread(new, s) * jnp.exp(-grown))
        grown = jnp.maximum(grown + jnp.log(length), 0)
        return (first, fed, grown), (jnp.log(size[..., 0]), jnp.max(grown, initial=0))

    v = _spread(noise[0], before[first])
    windows = *jax.tree.map(lambda a: a[at], (before, after, steps)), noise
    _, (logs, grown) = jax.lax.scan(follow, (v, v, jnp.zeros_like(v[..., :1])), windows)
    logs = jnp.swapaxes(logs, 0, 1).reshape(at.size, *logs.shape[2:])
    total = jnp.concatenate([jnp.zeros_like(logs[:1]), jnp.cumsum(logs, axis=0)])
    through = jnp.max(total - jax.lax.cummin(total, axis=0), initial=0)
    return jnp.exp(jnp.maximum(through, jnp.max(grown)))


def _unit(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A direction and its length."""
    size = jnp.maximum(jnp.linalg.norm(v, axis=-1, keepdims=True), 1e-30)
    return v / size, size
