"""sLSTM of xLSTM: an LSTM with exponential gates and mixing of memories."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import FORGET
from rnnjax.base import Key, cell, check_choice, param_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.heads import check_heads, flat, heads


class SLSTMCarry(NamedTuple):
    """h: what the cell shows. c: what it remembers. n: normaliser. m: stabiliser; each ``[*B, H]``."""

    h: jax.Array
    c: jax.Array
    n: jax.Array
    m: jax.Array


@published(family="xLSTM", paper="Beck et al. 2024, arXiv:2405.04517", year=2024)
@cell
class SLSTM:
    """The LSTM of xLSTM with exponential gates and a normaliser.

    ``z, i, f, o = split(x W + h R + b)``; ``m' = max(log f + m, i)``; ``i' = exp(i - m')``; ``f' = exp(log f + m - m')``;
    ``c' = f' c + i' tanh(z)``; ``n' = f' n + i'``; ``h' = sigmoid(o) c' / n'``; ``y = h'``, log f being ``log sigmoid(f)`` or f itself.

    features: H. heads: N; memories mix within a head only, so R is block-diagonal. forget: "sigmoid" or "exp".
    params: ``input`` W ``[I, 4H]``, ``recurrent`` R ``[N, H/N, 4H/N]``, ``bias`` b ``[4H]``, gates in the order (candidate,
    input, forget,
    output), within each head for R. carry: ``SLSTMCarry(h, c, n, m)``. y: ``[*B, H]``.

    Variant: the paper allows both forget gates; "sigmoid" is the default of the authors' code. The group norm after the cell is left
    to the block round it. With c = n = 0 the start has no effect, whatever m. Not linear in time: its gates see h.
    Errors: ValueError for heads that do not divide or an unknown gate. Source: Beck et al. 2024, arXiv:2405.04517, section 2.2.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.SLSTM(4, heads=2), jnp.ones((5, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)
    >>> carry.n.shape, ys.shape
    ((4,), (5, 4))
    """

    features: int
    _: KW_ONLY
    heads: int = 1
    forget: str = "sigmoid"
    forget_bias: float = 1.0

    blocks_by_unit = True

    def __post_init__(self) -> None:
        check_heads(self)
        check_choice("SLSTM", "forget", self.forget, FORGET)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_in, k_rec = jax.random.split(key)
        h, d = self.features, self.features // self.heads
        params = gate_params(self, k_in, x, 4, 0)
        draw = initializers.per_gate(initializers.orthogonal, 4)
        blocks = [draw(k, (d, 4 * d), param_dtype(x)) for k in jax.random.split(k_rec, self.heads)]
        bias = params["bias"].at[2 * h : 3 * h].set(self.forget_bias)
        return params | {"recurrent": jnp.stack(blocks), "bias": bias}

    def initial_carry(self, params: Any, x: Any) -> SLSTMCarry:
        zeros = zeros_like_step(params, x, self.features)
        return SLSTMCarry(zeros, zeros, zeros, zeros)

    def _recurrent(self, params: Any, h: jax.Array) -> list[jax.Array]:
        if self.heads == 1:
            return jnp.split(h @ params["recurrent"][0], 4, axis=-1)
        mixed = jnp.einsum("...nd,nde->...ne", heads(h, self.heads), params["recurrent"])
        return [flat(z) for z in jnp.split(mixed, 4, axis=-1)]

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[SLSTMCarry, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias"), SLSTMCarry)
        h, c, n, m = carry
        pre = jnp.split(x @ params["input"] + params["bias"], 4, axis=-1)
        z, i, f, o = (a + b for a, b in zip(pre, self._recurrent(params, h), strict=True))
        least = float(jnp.finfo(m.dtype).min) / 2
        old = jnp.where(n == 0, least, FORGET[self.forget](f) + m)  # nothing written yet: nothing to keep
        m = jnp.maximum(old, i)
        i, f = jnp.exp(i - m), jnp.exp(old - m)
        c, n = f * c + i * jnp.tanh(z), f * n + i
        h = jax.nn.sigmoid(o) * c / n
        return SLSTMCarry(h, c, n, m), h
