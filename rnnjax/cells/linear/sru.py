"""SRU: a forget gate in time and a highway gate in depth."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Key, cell, check_input, param_dtype, zeros_like_step
from rnnjax.carry_maps import Affine
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields


@published(family="linear in time", paper="Lei et al. 2018, arXiv:1709.02755", year=2018)
@cell
class SRU:
    """The simple recurrent unit: a forget gate in time, a highway gate in depth.

    ``u = x W``; ``f = sigmoid(x W_f + b_f)``; ``r = sigmoid(x W_r + b_r)``; ``c' = f c + (1 - f) u``;
    ``y = r g(c') + (1 - r) s``, with ``s = x``, or ``s = x W_s`` where I differs from H.

    features: H. peephole: gates see the state, ``f = sigmoid(x W_f + v_f c + b_f)`` and so r, as in the published version;
    then time is no longer linear. activation: g, "identity" or "tanh". highway_bias: start of b_r.
    params: ``input`` ``[I, 3H]``, or ``[I, 4H]`` where I differs from H, gates (candidate, forget, reset, skip); ``bias`` ``[2H]``
    (forget, reset); ``peephole`` ``[2H]`` v where asked for. carry: c ``[*B, H]``. y: ``[*B, H]``.

    Variant: the first version, arXiv:1709.02755v1, whose gates see x only (there with g = tanh), is the default because it runs in
    parallel; the published one (v5, EMNLP 2018) has ``peephole=True``. Its scaling of the highway by sqrt(3) is left out.
    Errors: ValueError for an unknown activation. Source: Lei et al. 2018, arXiv:1709.02755.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.SRU(4), jnp.ones((5, 2, 4))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")[1].shape
    (5, 2, 4)
    """

    features: int
    _: KW_ONLY
    peephole: bool = False
    activation: str = "identity"
    highway_bias: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.activation not in ("identity", "tanh"):
            raise ValueError(f"SRU: activation must be 'identity' or 'tanh', got {self.activation!r}")

    @property
    def linear_in_time(self) -> bool:
        return not self.peephole

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_peep = jax.random.split(key)
        h, dtype = self.features, param_dtype(x)
        params = gate_params(self, k_in, x, 3 if x.shape[-1] == h else 4, 0, use_bias=False)
        params["bias"] = jnp.zeros(2 * h, dtype).at[h:].set(self.highway_bias)
        if self.peephole:
            params["peephole"] = jax.random.uniform(k_peep, (2 * h,), dtype, -1.0, 1.0)
        return params

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def linear_maps(self, params: Any, x: jax.Array, carry: jax.Array | None = None) -> Affine:
        h = self.features
        f = self._gate(params, x @ params["input"][:, h : 2 * h], 0, carry)
        return Affine(decay=f, increment=(1 - f) * (x @ params["input"][:, :h]))

    def output_of_carry(
        self, params: Any, carry: jax.Array, x: jax.Array, before: jax.Array | None = None
    ) -> jax.Array:
        h = self.features
        r = self._gate(params, x @ params["input"][:, 2 * h : 3 * h], 1, before)
        skip = x if params["input"].shape[1] == 3 * h else x @ params["input"][:, 3 * h :]
        return r * (jnp.tanh(carry) if self.activation == "tanh" else carry) + (1 - r) * skip

    def _gate(self, params: Any, z: jax.Array, index: int, carry: jax.Array | None) -> jax.Array:
        block = slice(index * self.features, (index + 1) * self.features)
        z = z + params["bias"][block]
        return jax.nn.sigmoid(z + params["peephole"][block] * carry if self.peephole else z)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "bias", "peephole") if self.peephole else ("input", "bias"))
        after = self.linear_maps(params, x, carry).apply(carry)
        return after, self.output_of_carry(params, after, x, carry)
