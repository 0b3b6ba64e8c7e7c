"""The multiplicative LSTM: a recurrence of its own for every input."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Key, cell, check_input, param_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.options import check_fields


class MultiplicativeLSTMCarry(NamedTuple):
    """h ``[*B, H]``: what the cell shows. c ``[*B, H]``: what it remembers."""

    h: jax.Array
    c: jax.Array


@published(family="LSTM", paper="Krause, Lu, Murray, Renals 2016, arXiv:1609.07959", year=2016)
@cell
class MultiplicativeLSTM:
    """LSTM whose gates see ``m``, the old state changed by the input, in place of the old state.

    ``m = (x W_m) (h U_m)``; ``g, i, o, f = split(x W + m U + b)``; ``c' = sigmoid(f) c + sigmoid(i) g``;
    ``h' = tanh(c' sigmoid(o))``; ``y = h'``.

    features: H. params: ``input`` ``[I, 5H]``, blocks (W_m, then W for g, i, o, f), ``recurrent`` U_m ``[H, H]``,
    ``latent`` U ``[H, 4H]`` and ``bias`` b ``[4H]``, blocks (g, i, o, f). carry: ``MultiplicativeLSTMCarry(h, c)``.

    Variant: g is not squashed and the output gate acts inside the tanh, as in the paper and its authors' code; most ports write
    ``tanh(g)`` and ``sigmoid(o) tanh(c')``. m has the size of h, as in the paper's experiments.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Start: inputs and U lecun, U_m orthogonal, b zero. Source: Krause, Lu, Murray, Renals 2016, arXiv:1609.07959.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.MultiplicativeLSTM(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    blocks_by_unit = True

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_rec, k_latent = jax.random.split(key, 3)
        n, h, dtype = x.shape[-1], self.features, param_dtype(x)
        return {
            "input": initializers.per_gate(initializers.lecun, 5)(k_in, (n, 5 * h), dtype),
            "recurrent": initializers.orthogonal(k_rec, (h, h), dtype),
            "latent": initializers.per_gate(initializers.lecun, 4)(k_latent, (h, 4 * h), dtype),
            "bias": jnp.zeros(4 * h, dtype),
        }

    def initial_carry(self, params: Any, x: Any) -> MultiplicativeLSTMCarry:
        zeros = zeros_like_step(params, x, self.features)
        return MultiplicativeLSTMCarry(zeros, zeros)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[MultiplicativeLSTMCarry, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "latent", "bias"), MultiplicativeLSTMCarry)
        h, c = carry
        xm, xz = jnp.split(x @ params["input"], [self.features], axis=-1)
        m = xm * (h @ params["recurrent"])
        g, i, o, f = jnp.split(xz + m @ params["latent"] + params["bias"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * g
        h = jnp.tanh(c * jax.nn.sigmoid(o))
        return MultiplicativeLSTMCarry(h, c), h
