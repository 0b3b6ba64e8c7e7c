"""What the networks of several recipes are made of."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def dropped(key: Any, rate: float, x: jax.Array, shape: tuple[int, ...] | None = None) -> jax.Array:
    """x, or with a key x under dropout; shape: what is dropped together has size one there, by default nothing.

    >>> dropped(None, 0.5, jnp.ones(2)).tolist(), sorted(set(dropped(jax.random.key(0), 0.5, jnp.ones(99)).tolist()))
    ([1.0, 1.0], [0.0, 2.0])
    """
    if key is None:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape if shape is None else shape), x / (1 - rate), 0.0)


def pooled(ys: jax.Array, lengths: jax.Array) -> jax.Array:
    """The mean and the largest along the valid steps of outputs in -1 .. 1, ``ys [T, B, H]`` with zeros after: ``[B, 2 H]``.

    >>> pooled(jnp.array([[[0.5]], [[-0.5]], [[0.0]]]), jnp.array([2])).tolist()
    [[0.0, 0.5]]
    """
    inside = (jnp.arange(len(ys))[:, None] < lengths)[..., None]
    mean = ys.sum(0) / lengths[:, None].astype(ys.dtype)
    return jnp.concatenate([mean, jnp.where(inside, ys, -1.0).max(0)], -1)
