"""Noise drawn once per sequence: how a wrapper hands it from `prepare` to its steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Drawn(NamedTuple):
    """What ``prepare`` of a wrapper gives in place of its params: those of the inner cell, and the noise of the sequence."""

    params: Any
    noise: Any


def plain(params: Any) -> Any:
    """The params without the noise."""
    return params.params if isinstance(params, Drawn) else params


def is_float(a: Any) -> bool:
    """An array of real or complex numbers, whose parts noise and limits act on."""
    return hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jnp.inexact)


def keep_masks(key: jax.Array, rate: float, tree: Any, dtype: Any = None) -> Any:
    """For every float array (or its shape): ``1 / (1 - rate)`` with probability ``1 - rate``, else 0. Ones for others."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, max(len(leaves), 1))

    def mask(k: jax.Array, a: Any) -> Any:
        if not is_float(a):
            return jnp.ones((), a.dtype)
        return jax.random.bernoulli(k, 1 - rate, a.shape).astype(dtype or a.dtype) / (1 - rate)

    return jax.tree.unflatten(structure, [mask(k, a) for k, a in zip(keys, leaves)])


def times(tree: Any, masks: Any) -> Any:
    """Array by array; what is not floating point stays."""
    return jax.tree.map(lambda a, m: a * m.astype(a.dtype) if is_float(a) else a, tree, masks)
