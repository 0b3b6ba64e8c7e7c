"""Bistable cells: units that can latch. BRC with memory of their own, NBRC with neighbours' too."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Key, cell, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params, input_gates
from rnnjax.cells.shared.options import check_fields


@published(family="GRU", paper="Vecoven, Ernst, Drion 2020, arXiv:2006.05252", year=2020)
@cell
class BRC:
    """Bistable recurrent cell: each unit feeds back on itself, bistable while its feedback a is above one.

    ``a = 1 + tanh(x U_a + w_a h)``; ``c = sigmoid(x U_c + w_c h)``; ``h' = c h + (1 - c) tanh(x U_h + a h)``; ``y = h'``;
    w_a, w_c elementwise.

    features: H. use_bias: adds b to ``x U``; the paper has none, its authors' code does.
    params: ``input`` U ``[I, 3H]``, blocks (a, c, h), ``recurrent`` ``[2, H]``, rows (w_a, w_c), ``bias`` b ``[3H]``. carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Start: U lecun, w ~ U(-1, 1), b zero. Source: Vecoven, Ernst, Drion 2020, arXiv:2006.05252.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.BRC(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    use_bias: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_in, k_rec = jax.random.split(key)
        params = gate_params(self, k_in, x, 3, 0, use_bias=self.use_bias)
        w = jax.random.uniform(k_rec, (2, self.features), params["input"].dtype, -1.0, 1.0)
        return params | {"recurrent": w}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent"))
        w_a, w_c = params["recurrent"]
        h = _latch(params, carry, x, w_a * carry, w_c * carry)
        return h, h


@published(family="GRU", paper="Vecoven, Ernst, Drion 2020, arXiv:2006.05252", year=2020)
@cell
class NBRC:
    """Recurrently neuromodulated bistable cell: BRC whose feedback and gate see all units.

    ``a = 1 + tanh(x U_a + h W_a)``; ``c = sigmoid(x U_c + h W_c)``; ``h' = c h + (1 - c) tanh(x U_h + a h)``; ``y = h'``.

    features: H. use_bias: adds b to ``x U``; the paper has none, its authors' code does.
    params: ``input`` U ``[I, 3H]``, blocks (a, c, h), ``recurrent`` W ``[H, 2H]``, blocks (a, c), ``bias`` b ``[3H]``.
    carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Start: U lecun, W orthogonal, b zero. Source: Vecoven, Ernst, Drion 2020, arXiv:2006.05252.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.NBRC(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    use_bias: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 3, 2, use_bias=self.use_bias)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent"))
        h_a, h_c = jnp.split(carry @ params["recurrent"], 2, axis=-1)
        h = _latch(params, carry, x, h_a, h_c)
        return h, h


def _latch(params: Any, h: jax.Array, x: jax.Array, h_a: jax.Array, h_c: jax.Array) -> jax.Array:
    """The step of both, given what of the old state enters the feedback a and the gate c."""
    xa, xc, xh = input_gates(params, x, 3)
    a, c = 1 + jnp.tanh(xa + h_a), jax.nn.sigmoid(xc + h_c)
    return c * h + (1 - c) * jnp.tanh(xh + a * h)
