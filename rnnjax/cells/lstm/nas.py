"""The cell that a controller network found."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.base import Key, cell, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields


class NASCarry(NamedTuple):
    """h ``[*B, H]``: what the cell shows. c ``[*B, H]``: what it remembers."""

    h: jax.Array
    c: jax.Array


@published(family="LSTM", paper="Zoph, Le 2016, arXiv:1611.01578", year=2016)
@cell
class NAS:
    """The recurrent cell of neural architecture search: a tree of eight products, three levels deep.

    With ``a_k = x W_k`` and ``b_k = h U_k`` (``+ d_k``), k = 1 .. 8:
    ``l1 = sigmoid(a1 + b1)``, ``l2 = relu(a2 + b2)``, ``l3 = sigmoid(a3 + b3)``, ``l4 = relu(a4 b4)``,
    ``l5 = tanh(a5 + b5)``, ``l6 = sigmoid(a6 + b6)``, ``l7 = tanh(a7 + b7)``, ``l8 = sigmoid(a8 + b8)``;
    ``m1 = tanh(l1 l2)``, ``m2 = tanh(l3 + l4)``, ``m3 = tanh(l5 l6)``, ``m4 = sigmoid(l7 + l8)``;
    ``c' = tanh(m1 + c) m2``; ``h' = tanh(c' tanh(m3 + m4))``; ``y = h'``.

    features: H. use_bias: d, off as in the authors' TensorFlow cell, whose wiring this is (the paper gives a picture).
    params: ``input`` W ``[I, 8H]``, ``recurrent`` U ``[H, 8H]``, ``recurrent_bias`` d ``[8H]``. carry: ``NASCarry(h, c)``.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Start: W lecun, U orthogonal, d zero. Source: Zoph and Le 2016, arXiv:1611.01578, figure 8.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.NAS(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    use_bias: bool = False

    blocks_by_unit = True

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params = gate_params(self, key, x, 8, use_bias=False)
        bias = {"recurrent_bias": jnp.zeros(8 * self.features, params["input"].dtype)}
        return params | (bias if self.use_bias else {})

    def initial_carry(self, params: Any, x: Any) -> NASCarry:
        zeros = zeros_like_step(params, x, self.features)
        return NASCarry(zeros, zeros)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[NASCarry, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent"), NASCarry)
        h, c = carry
        b = h @ params["recurrent"]
        b = b + params["recurrent_bias"] if "recurrent_bias" in params else b
        a1, a2, a3, a4, a5, a6, a7, a8 = jnp.split(x @ params["input"], 8, axis=-1)
        b1, b2, b3, b4, b5, b6, b7, b8 = jnp.split(b, 8, axis=-1)
        sigmoid, relu, tanh = jax.nn.sigmoid, jax.nn.relu, jnp.tanh
        m1 = tanh(sigmoid(a1 + b1) * relu(a2 + b2))
        m2 = tanh(sigmoid(a3 + b3) + relu(a4 * b4))
        m3 = tanh(tanh(a5 + b5) * sigmoid(a6 + b6))
        m4 = sigmoid(tanh(a7 + b7) + sigmoid(a8 + b8))
        c = tanh(m1 + c) * m2
        h = tanh(c * tanh(m3 + m4))
        return NASCarry(h, c), h
