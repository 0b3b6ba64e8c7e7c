"""Heads: queries, keys and values side by side, features split among them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import check_input, param_dtype, wide
from rnnjax.cells.shared.options import check_fields


def check_heads(cell: Any) -> None:
    """The fields of a cell with heads, which must divide its features."""
    check_fields(cell)
    if cell.features % cell.heads:
        raise ValueError(f"{type(cell).__name__}: features must divide into {cell.heads} heads, got {cell.features}")


def projections(cell: Any, key: jax.Array, x: Any) -> dict[str, jax.Array]:
    """``query``, ``key`` ``[I, N K]``, ``value`` ``[I, H]``, lecun."""
    check_input(cell, x)
    i, dtype, keys = x.shape[-1], param_dtype(x), jax.random.split(key, 3)
    sizes = {"query": cell.heads * cell.size, "key": cell.heads * cell.size, "value": cell.features}
    return {name: initializers.lecun(k, (i, size), dtype) for (name, size), k in zip(sizes.items(), keys, strict=True)}


@property
def key_size(self: Any) -> int:
    """K of each head."""
    return self.features // self.heads if self.key_features is None else self.key_features


def flat(read: jax.Array) -> jax.Array:
    """``[*B, N, V]`` as ``[*B, H]``."""
    return read.reshape(*read.shape[:-2], read.shape[-2] * read.shape[-1])


def heads(z: jax.Array, count: int) -> jax.Array:
    """``[*B, N K]`` as ``[*B, N, K]``."""
    return z.reshape(*z.shape[:-1], count, z.shape[-1] // count)


def unit(z: jax.Array, epsilon: float = 1e-6) -> jax.Array:
    """Each row of length one."""
    w = wide(z)  # in float16 epsilon is 0
    return (w * jax.lax.rsqrt(jnp.sum(w * w, axis=-1, keepdims=True) + epsilon)).astype(z.dtype)
