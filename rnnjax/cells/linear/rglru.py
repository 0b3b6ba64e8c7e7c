"""RG-LRU, the recurrence of Griffin: a decay that the input sets."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import log_softplus, sqrt_one_minus_exp
from rnnjax.base import Key, cell, param_dtype, wide, wide_dtype, zeros_like_step
from rnnjax.carry_maps import Affine
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields
from rnnjax.cells.shared.recurrence import linear_step


@published(family="linear in time", paper="De et al. 2024, arXiv:2402.19427", year=2024)
@cell
class RGLRU:
    """The real-gated linear recurrent unit of Griffin and RecurrentGemma.

    ``r = sigmoid(x W_r + b_r)``; ``i = sigmoid(x W_i + b_i)``; ``a = exp(-c softplus(Lambda) r)``;
    ``h' = a h + sqrt(1 - a^2) (i u)``; ``y = h'``, with ``u = x``, or ``u = x V`` where I differs from H.

    features: H. power: c. low, high: between them a at r = 1 starts, uniformly.
    params: ``gates`` W ``[I, 2H]``, ``bias`` ``[2H]`` (recurrence, input), ``decay`` Lambda ``[H]``, and only where I differs
    from H ``input`` V ``[I, H]`` (the paper's block has the same width in and out). carry: h ``[*B, H]``. y: ``[*B, H]``.

    Variant: the paper writes ``a = sigmoid(Lambda')``, its authors' code ``exp(-c softplus(Lambda) r)`` as here (Lambda = -Lambda').
    It starts a, not ``a^c``, in that range, uniformly by area, and multiplies the first step after a reset by 1 in place of
    ``sqrt(1 - a^2)``; here neither is done, as in the paper.
    Linear in time. Errors: ValueError unless 0 < low < high < 1 and power > 0. Source: De et al. 2024, arXiv:2402.19427, section 2.4.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.RGLRU(3), jnp.ones((5, 2, 3))
    >>> sorted(cell.init(jax.random.key(0), xs[0]))
    ['bias', 'decay', 'gates']
    """

    features: int
    _: KW_ONLY
    power: float = 8.0
    low: float = 0.9
    high: float = 0.999

    def __post_init__(self) -> None:
        check_fields(self)
        if not (0 < self.low < self.high < 1 and self.power > 0):
            raise ValueError(
                f"RGLRU: must have 0 < low < high < 1 and power > 0, got {self.low}, {self.high}, {self.power}"
            )

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_gates, k_decay, k_in = jax.random.split(key, 3)
        made = gate_params(self, k_gates, x, 2, 0)
        params = {"gates": made["input"], "bias": made["bias"], "decay": self._decay(k_decay, param_dtype(x))}
        if x.shape[-1] != self.features:
            params["input"] = initializers.lecun(k_in, (x.shape[-1], self.features), param_dtype(x))
        return params

    def _decay(self, key: jax.Array, dtype: Any) -> jax.Array:
        """Lambda such that ``exp(-power softplus(Lambda))`` is uniform in low .. high."""
        draw = wide_dtype(dtype)
        rate = -jnp.log(jax.random.uniform(key, (self.features,), draw, self.low, self.high)) / self.power
        return jnp.log(jnp.expm1(rate)).astype(dtype)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    linear_in_time = True

    def linear_maps(self, params: Any, x: jax.Array) -> Affine:
        r, i = jnp.split(x @ params["gates"] + params["bias"], 2, axis=-1)
        log_rate = (
            math.log(self.power) + log_softplus(wide(params["decay"])) + jax.nn.log_sigmoid(wide(r))
        )  # a = exp(-rate)
        u = x @ params["input"] if "input" in params else x
        scale = sqrt_one_minus_exp(log_rate + math.log(2)).astype(u.dtype)
        return Affine(decay=jnp.exp(-jnp.exp(log_rate)).astype(u.dtype), increment=scale * (jax.nn.sigmoid(i) * u))

    def output_of_carry(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return carry

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("gates", "bias", "decay"))
        return linear_step(self, params, carry, x)
