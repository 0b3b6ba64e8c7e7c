"""Rows of a table by number."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from rnnjax._jax import placement


def lookup(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """``table[tokens]``: ``[V, ...]`` and integers ``[*B]`` -> ``[*B, ...]``, placed as the tokens are; NaN outside ``0..V-1``.

    >>> import jax.numpy as jnp
    >>> lookup(jnp.array([1.0, 2.0]), jnp.array([1, 0, 2])).tolist()
    [2.0, 1.0, nan]
    """
    at = placement(tokens)
    where = None if at is None else NamedSharding(at.mesh, PartitionSpec(*at.spec, *(None,) * (table.ndim - 1)))
    return table.at[tokens].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False, out_sharding=where)
