"""FastGRNN, for small devices: FastRNN's residual made a gate, low rank if wanted."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import (
    Key,
    cell,
    check_input,
    param_dtype,
    zeros_like_step,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.options import check_fields


@published(family="GRU", paper="Kusupati et al. 2018, arXiv:1901.02358", year=2018)
@cell
class FastGRNN:
    """One pair of matrices for gate and candidate, low rank if wanted.

    ``p = x W + h U``; ``z = sigmoid(p + b_z)``; ``h~ = tanh(p + b_h)``;
    ``h' = (sigmoid(zeta) (1 - z) + sigmoid(nu)) h~ + z h``; ``y = h'``.

    features: H. input_rank, recurrent_rank: r for ``W = W_1 W_2``, ``U = U_1 U_2``; None for full matrices.
    params: ``input`` W ``[I, H]``, ``recurrent`` U ``[H, H]`` (low rank: ``input`` ``[I, r]`` and ``input_out`` ``[r, H]``,
    ``recurrent`` ``[H, r]`` and ``recurrent_out`` ``[r, H]``), ``bias`` (b_z, b_h) ``[2H]``, scalars ``zeta`` and ``nu``, which start
    at 1 and -4 before the sigmoid as in the authors' code; the biases start at one as there. carry: h ``[*B, H]``.
    The paper's sparsity and bytes of weights are a matter of training, not of the cell.
    Errors: ValueError/TypeError for bad sizes, a recurrent_rank above H, or shapes. Source: Kusupati et al. 2018, arXiv:1901.02358.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.FastGRNN(4, recurrent_rank=2), jnp.ones((5, 3))
    >>> cell.init(jax.random.key(0), xs[0])["recurrent"].shape
    (4, 2)
    """

    features: int
    _: KW_ONLY
    input_rank: int | None = None
    recurrent_rank: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("input_rank", "recurrent_rank"):
            rank = getattr(self, name)
            if rank is not None and rank > self.features:
                raise ValueError(f"FastGRNN: {name} must be at most features={self.features}, got {rank}")

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        keys, h, dtype = jax.random.split(key, 4), self.features, param_dtype(x)
        weights = _factors("input", keys[:2], x.shape[-1], h, self.input_rank, initializers.lecun, dtype)
        weights |= _factors("recurrent", keys[2:], h, h, self.recurrent_rank, initializers.orthogonal, dtype)
        scalars = {"zeta": jnp.array(1.0, dtype), "nu": jnp.array(-4.0, dtype)}
        return weights | {"bias": jnp.ones(2 * h, dtype)} | scalars

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias", "zeta", "nu"))
        h = carry
        p = _product(params, "input", x) + _product(params, "recurrent", h)
        b_z, b_h = jnp.split(params["bias"], 2)
        z, new = jax.nn.sigmoid(p + b_z), jnp.tanh(p + b_h)
        h = (jax.nn.sigmoid(params["zeta"]) * (1 - z) + jax.nn.sigmoid(params["nu"])) * new + z * h
        return h, h


def _factors(name: str, keys: Any, n: int, h: int, rank: int | None, start: Any, dtype: Any) -> dict[str, jax.Array]:
    if rank is None:
        return {name: start(keys[0], (n, h), dtype)}
    return {name: start(keys[0], (n, rank), dtype), f"{name}_out": start(keys[1], (rank, h), dtype)}


def _product(params: Any, name: str, x: jax.Array) -> jax.Array:
    x = x @ params[name]
    return x @ params[f"{name}_out"] if f"{name}_out" in params else x
