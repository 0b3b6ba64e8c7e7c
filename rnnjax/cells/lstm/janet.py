"""JANET: just another network, a forget gate only."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Key, cell, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_chrono, check_fields


@published(family="LSTM", paper="van der Westhuizen, Lasenby 2018, arXiv:1804.04849", year=2018)
@cell
class JANET:
    """LSTM with the forget gate alone: what is not kept is written.

    ``s = x W_f + h U_f + b_f``; ``c~ = tanh(x W_c + h U_c + b_c)``; ``h' = sigmoid(s) h + (1 - sigmoid(s - beta)) c~``; ``y = h'``.

    features: H. beta: lets more be written than is forgotten; 1 as in the paper's experiments, 0 is its first form (and that of
    most ports). chrono: longest memory in steps for b_f, as in the paper; without it b_f starts at ``forget_bias``.
    params: ``input`` W ``[I, 2H]``, ``recurrent`` U ``[H, 2H]``, ``bias`` b ``[2H]``, blocks (f, c). carry: h ``[*B, H]``.

    Start: W lecun, U orthogonal, b_c zero. Errors: ValueError/TypeError for a bad size or shapes.
    Source: van der Westhuizen and Lasenby 2018, The unreasonable effectiveness of the forget gate, arXiv:1804.04849.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.JANET(4, chrono=50.0), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    beta: float = 1.0
    forget_bias: float = 1.0
    chrono: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_chrono(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_gates, k_bias = jax.random.split(key)
        params, h = gate_params(self, k_gates, x, 2), self.features
        b = params["bias"]
        f = self.forget_bias if self.chrono is None else initializers.chrono(self.chrono)(k_bias, (h,), b.dtype)
        return params | {"bias": b.at[:h].set(f)}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias"))
        h = carry
        s, c = jnp.split(x @ params["input"] + h @ params["recurrent"] + params["bias"], 2, axis=-1)
        h = jax.nn.sigmoid(s) * h + (1 - jax.nn.sigmoid(s - self.beta)) * jnp.tanh(c)
        return h, h
