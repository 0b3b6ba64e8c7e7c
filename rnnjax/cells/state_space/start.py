"""What the state spaces share: ranges of step lengths, the way round the state."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from rnnjax import initializers
from rnnjax.base import wide_dtype


def skip(params: Any, x: jax.Array) -> jax.Array:
    """``x D``: feature by feature where D is a vector, a product where I differs from H."""
    d = params["skip"]
    return x * d if d.ndim == 1 else x @ d


def init_skip(key: jax.Array, inputs: int, features: int, dtype: Any) -> jax.Array:
    """D ``[H]``, normal, or ``[I, H]``, lecun, where I differs from H."""
    if inputs == features:
        return jax.random.normal(key, (features,), dtype)
    return initializers.lecun(key, (inputs, features), dtype)


def log_uniform(key: jax.Array, shape: tuple[int, ...], low: float, high: float, dtype: Any) -> jax.Array:
    """Logarithms of numbers between ``low`` and ``high``, uniform in the logarithm."""
    draw = wide_dtype(dtype)
    return jax.random.uniform(key, shape, draw, np.log(low), np.log(high)).astype(dtype)


def check_steps(owner: str, low: float, high: float) -> None:
    """ValueError unless the range of step lengths is one."""
    if not 0 < low <= high:
        raise ValueError(f"{owner}: dt_min and dt_max must have 0 < dt_min <= dt_max, got {low} and {high}")
