"""RHN: a deep highway network within each step."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Key, cell, check_input, param_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.options import check_fields


@published(family="LSTM", paper="Zilly, Srivastava, Koutnik, Schmidhuber 2016, arXiv:1607.03474", year=2016)
@cell
class RHN:
    """Recurrent highway network: L highway layers between one state and the next.

    ``s_0 = h``; for l = 1 .. L: ``g = tanh(x W_g [l = 1] + s_{l-1} R_g^l + b_g^l)``,
    ``t = sigmoid(x W_t [l = 1] + s_{l-1} R_t^l + b_t^l)``, c likewise,
    ``s_l = g t + s_{l-1} c``; ``h' = y = s_L``. The input enters the first layer only.

    features: H. depth: L, 10 as in the paper's best model. coupled: ``c = 1 - t``, as in all the paper's experiments.
    transform_bias: of b_t at the start; negative so that at first the state is carried through, as the paper asks.
    params: ``input`` W ``[I, 2H]``, ``recurrent`` R ``[L, H, 2H]``, ``bias`` b ``[L, 2H]``, blocks (g, t); 3H with c when not coupled.
    carry: s_L ``[*B, H]``.
    Start: W lecun, R orthogonal, other b zero. Errors: ValueError/TypeError for bad sizes or shapes.
    Source: Zilly, Srivastava, Koutnik, Schmidhuber 2016, arXiv:1607.03474.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.RHN(4, depth=3), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    depth: int = 10
    coupled: bool = True
    transform_bias: float = -2.0

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, *k_rec = jax.random.split(key, self.depth + 1)
        gates, n, h, dtype = 2 if self.coupled else 3, x.shape[-1], self.features, param_dtype(x)
        layer = initializers.per_gate(initializers.orthogonal, gates)
        bias = jnp.zeros((self.depth, gates * h), dtype).at[:, h : 2 * h].set(self.transform_bias)
        return {
            "input": initializers.per_gate(initializers.lecun, gates)(k_in, (n, gates * h), dtype),
            "recurrent": jnp.stack([layer(k, (h, gates * h), dtype) for k in k_rec]),
            "bias": bias,
        }

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias"))
        s = carry
        for l in range(self.depth):
            z = s @ params["recurrent"][l] + params["bias"][l]
            z = x @ params["input"] + z if l == 0 else z
            g, t, *c = jnp.split(z, 2 if self.coupled else 3, axis=-1)
            t = jax.nn.sigmoid(t)
            s = jnp.tanh(g) * t + s * (1 - t if self.coupled else jax.nn.sigmoid(c[0]))
        return s, s
