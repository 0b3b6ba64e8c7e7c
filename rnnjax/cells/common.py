"""What many cells share: making gates' weights, checking a step's arguments, normalising. Functions only."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import check_carry, check_input, check_params, param_dtype


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


def check_step(cell: Any, params: Any, carry: Any, x: Any, names: tuple[str, ...], kind: Any = None) -> None:
    """Params have these names, ``x [*B, I]`` fits ``params["input"]``, the carry is ``[*B, H]`` or a ``kind`` of such."""
    check_params(cell, params, names)
    check_input(cell, x, params["input"].shape[0])
    check_carry(cell, carry, x, cell.features, kind)


def input_gates(params: Any, x: jax.Array, gates: int) -> list[jax.Array]:
    """``x W + b`` (b where there is one), split into its gates."""
    z = x @ params["input"]
    return jnp.split(z + params["bias"] if "bias" in params else z, gates, axis=-1)


def layer_norm(z: jax.Array, gain: jax.Array, epsilon: float = 1e-5) -> jax.Array:
    """``gain (z - mean) / sqrt(variance + epsilon)`` over the last axis (Ba, Kiros, Hinton 2016, arXiv:1607.06450).

    The mean and variance of half precision are taken in float32.
    """
    wide = z.astype(jnp.float32) if z.dtype.itemsize < 4 else z
    centred = wide - wide.mean(-1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return (centred * scale).astype(z.dtype) * gain
