"""Weights of gates side by side: made, and applied to the input."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import check_input, param_dtype

# -- making and checking params, normalising ---------------------------------------------------------------------------


def gate_params(
    cell: Any,
    key: jax.Array,
    x: Any,
    gates: int,
    recurrent_gates: int | None = None,
    recurrent: initializers.Initializer = initializers.orthogonal,
    use_bias: bool = True,
) -> dict[str, jax.Array]:
    """``input [I, gates H]`` lecun, ``recurrent [H, recurrent_gates H]`` orthogonal, ``bias [gates H]`` zero; gate by gate."""
    check_input(cell, x)
    k_in, k_rec = jax.random.split(key)
    n, h, dtype = x.shape[-1], cell.features, param_dtype(x)
    m = gates if recurrent_gates is None else recurrent_gates
    params = {"input": initializers.per_gate(initializers.lecun, gates)(k_in, (n, gates * h), dtype)}
    if m:
        params["recurrent"] = initializers.per_gate(recurrent, m)(k_rec, (h, m * h), dtype)
    if use_bias:
        params["bias"] = jnp.zeros(gates * h, dtype)
    return params


def input_gates(params: Any, x: jax.Array, gates: int) -> list[jax.Array]:
    """``x W + b`` (b where there is one), split into its gates."""
    z = x @ params["input"]
    return jnp.split(z + params["bias"] if "bias" in params else z, gates, axis=-1)
