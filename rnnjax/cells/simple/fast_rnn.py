"""FastRNN, for small devices: a simple network with a weighted residual."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.activations import ACTIVATIONS
from rnnjax.base import (
    Key,
    cell,
    check_choice,
    param_dtype,
    zeros_like_step,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields


@published(family="simple", paper="Kusupati et al. 2018, arXiv:1901.02358", year=2018)
@cell
class FastRNN:
    """A simple network with a residual connection of two learned weights.

    ``h~ = act(x W + h U + b)``; ``h' = sigmoid(a) h~ + sigmoid(b) h``; ``y = h'``.

    features: H. activation: name as in `Elman`. params: ``input`` W ``[I, H]``, ``recurrent`` U ``[H, H]``, ``bias`` b ``[H]``,
    ``alpha`` and ``beta``, scalars before the sigmoid; they start at -3 and 3 as in the authors' code, near 0.05 and 0.95.
    carry: h ``[*B, H]``. Start: W lecun, U orthogonal, b zero.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Source: Kusupati et al. 2018, FastGRNN, arXiv:1901.02358.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.FastRNN(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    activation: str = "tanh"

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("FastRNN", "activation", self.activation, ACTIVATIONS)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params = gate_params(self, key, x, 1)
        dtype = param_dtype(x)
        return params | {"alpha": jnp.array(-3.0, dtype), "beta": jnp.array(3.0, dtype)}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias", "alpha", "beta"))
        h = carry
        new = ACTIVATIONS[self.activation](x @ params["input"] + h @ params["recurrent"] + params["bias"])
        h = jax.nn.sigmoid(params["alpha"]) * new + jax.nn.sigmoid(params["beta"]) * h
        return h, h
