"""Long short-term memory."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Key, cell, check_carry, check_input, check_params, check_size, param_dtype, zeros_like_step

GATES = ("input", "forget", "cell", "output")  # order of the blocks in every weight; torch, flax and keras agree


class LSTMCarry(NamedTuple):
    """h ``[*B, H]``: what the cell shows. c ``[*B, H]``: what it remembers."""

    h: jax.Array
    c: jax.Array


@cell
class LSTM:
    """Long short-term memory with forget gate.

    ``i, f, g, o = split(x_t W + h_{t-1} U + b)``; ``c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)``;
    ``h_t = sigmoid(o) tanh(c_t)``; ``y_t = h_t``.

    features: H. forget_bias: added to the forget gate's bias *at the start* (haiku adds 1 at every step instead; torch 0).
    chrono: longest memory in steps; gates' biases start by `rnnjax.initializers.chrono` in place of ``forget_bias``.
    params: ``input`` W ``[I, 4H]``, ``recurrent`` U ``[H, 4H]``, ``bias`` b ``[4H]``, gates in the order of ``GATES``.
    carry: ``LSTMCarry(h, c)``, each ``[*B, H]``. y: ``[*B, H]``.

    Variant: one bias (torch has two whose sum this is). Start: W lecun, U orthogonal for each gate.
    Errors: ValueError/TypeError for a bad size, or an x or carry of the wrong shape.
    Source: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000 (the forget gate).

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LSTM(4), jnp.ones((5, 2, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> carry, ys = rj.unroll(cell, params, xs)
    >>> carry.c.shape, ys.shape
    ((2, 4), (5, 2, 4))
    """

    features: int
    _: KW_ONLY
    forget_bias: float = 1.0
    chrono: float | None = None
    use_bias: bool = True

    def __post_init__(self) -> None:
        check_size("LSTM", "features", self.features)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        n, h, dtype = x.shape[-1], self.features, param_dtype(x)
        params = {
            "input": initializers.per_gate(initializers.lecun, 4)(k_in, (n, 4 * h), dtype),
            "recurrent": initializers.per_gate(initializers.orthogonal, 4)(k_rec, (h, 4 * h), dtype),
        }
        if self.use_bias:
            params["bias"] = self._bias(k_bias, dtype)
        return params

    def _bias(self, key: jax.Array, dtype: Any) -> jax.Array:
        b = jnp.zeros((4, self.features), dtype)
        if self.chrono is None:
            return b.at[1].set(self.forget_bias).reshape(-1)
        f = initializers.chrono(self.chrono)(key, (self.features,), dtype)
        return b.at[0].set(-f).at[1].set(f).reshape(-1)

    def initial_carry(self, params: Any, x: Any) -> LSTMCarry:
        zeros = zeros_like_step(params, x, self.features)
        return LSTMCarry(h=zeros, c=zeros)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[LSTMCarry, jax.Array]:
        check_params(self, params, ("input", "recurrent"))
        check_input(self, x, params["input"].shape[0])
        check_carry(self, carry, x, self.features)
        h, c = carry
        z = x @ params["input"] + h @ params["recurrent"]
        i, f, g, o = jnp.split(z + params["bias"] if "bias" in params else z, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMCarry(h, c), h
