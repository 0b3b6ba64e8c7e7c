"""What the functions of this folder, and losses over whole sequences, ask of their arguments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax._jax import place_batch_as, step_type
from rnnjax.base import is_known


def check_whole(owner: str, name: str, value: Any, least: int) -> int:
    """An int of at least ``least``."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{owner}: {name} must be an int, got {value!r} ({type(value).__name__})")
    if value < least:
        raise ValueError(f"{owner}: {name} must be at least {least}, got {value}")
    return int(value)


def check_logits(owner: str, logits: jax.Array, blank: int | None = None) -> None:
    """Floating ``logits [T, *B, V]``; ``blank`` one of V."""
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"{owner}: logits must be floating point [T, *B, V], got {logits.dtype}")
    if logits.ndim < 2 or logits.shape[-1] == 0:
        raise ValueError(f"{owner}: logits must be [T, *B, V] with V at least 1, got shape {logits.shape}")
    if blank is not None and check_whole(owner, "blank", blank, 0) >= logits.shape[-1]:
        raise ValueError(f"{owner}: blank must be one of 0..{logits.shape[-1] - 1}, as logits have it, got {blank}")


def widened(logits: jax.Array) -> jax.Array:
    """In single precision at least: log probabilities are summed over time."""
    return logits.astype(jnp.float32) if logits.dtype.itemsize < 4 else logits


def check_lengths(owner: str, name: str, lengths: Any, shape: tuple[int, ...], like: Any = None) -> jax.Array:
    """Integers ``[*B]`` in ``0..T`` for ``shape = [T, *B]``; None is T everywhere, its batch placed as that of ``like [T, *B, V]``."""
    time, batch = shape[0], shape[1:]
    if lengths is None:
        full = jnp.full(batch, time)
        return full if like is None else place_batch_as(full, step_type(like), len(batch))
    array = jnp.asarray(lengths)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{owner}: {name} must be integers [*B], got {array.dtype}")
    if array.shape != batch:
        raise ValueError(f"{owner}: {name} must be [*B] of shape {batch}, got {array.shape}")
    if is_known(array) and array.size:
        low, high = np.asarray(array).min(), np.asarray(array).max()  # by numpy: inside jit JAX would trace them
        if low < 0 or high > time:
            raise ValueError(f"{owner}: {name} must lie in 0..{time}, got {low}..{high}")
    return array
