"""Strongly typed networks: everything learned depends on inputs only, the state is mixed elementwise.

All three are linear in their state; `TRNN` offers ``method="associative"``, the other two carry their last input as well and
run step by step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.base import Key, cell, check_carry, check_input, check_params, zeros_like_step
from rnnjax.carry_maps import Affine
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields
from rnnjax.cells.shared.recurrence import linear_step


@published(family="strongly typed", paper="Balduzzi, Ghifary 2016, arXiv:1602.02218", year=2016)
@cell
class TRNN:
    """Strongly typed RNN: an average of inputs with weights that depend on inputs.

    ``z = x W``; ``f = sigmoid(x V + b)``; ``h' = f h + (1 - f) z``; ``y = h'``.

    features: H. params: ``input`` ``[I, 2H]``, blocks (W, V), ``bias`` b ``[H]``. carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Start: lecun, b zero. Linear in time. Source: Balduzzi and Ghifary 2016, arXiv:1602.02218.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.TRNN(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params = gate_params(self, key, x, 2, 0)
        return params | {"bias": params["bias"][: self.features]}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    linear_in_time = True

    def linear_maps(self, params: Any, x: jax.Array) -> Affine:
        z, f = jnp.split(x @ params["input"], 2, axis=-1)
        f = jax.nn.sigmoid(f + params["bias"])
        return Affine(decay=f, increment=(1 - f) * z)

    def output_of_carry(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return carry

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "bias"))
        return linear_step(self, params, carry, x)


class TGRUCarry(NamedTuple):
    """h ``[*B, H]``: the state. x ``[*B, I]``: the last input."""

    h: jax.Array
    x: jax.Array


@published(family="strongly typed", paper="Balduzzi, Ghifary 2016, arXiv:1602.02218", year=2016)
@cell
class TGRU:
    """Strongly typed GRU: gates from this input and the last.

    ``z, f, o = split(x_{t-1} V + x_t W + b)``; ``h' = sigmoid(f) h + z tanh(o)``; ``y = h'``; before the first step x is 0.

    features: H. params: ``input`` W and ``previous`` V ``[I, 3H]``, ``bias`` b ``[3H]``, blocks (z, f, o). carry: ``TGRUCarry(h, x)``.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Start: lecun, b zero. Source: Balduzzi and Ghifary 2016, arXiv:1602.02218.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.TGRU(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return _init(self, key, x)

    def initial_carry(self, params: Any, x: Any) -> TGRUCarry:
        return TGRUCarry(zeros_like_step(params, x, self.features), zeros_like_step(params, x, x.shape[-1]))

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[TGRUCarry, jax.Array]:
        z, f, o = _gates(self, params, carry, x, TGRUCarry)
        h = jax.nn.sigmoid(f) * carry.h + z * jnp.tanh(o)
        return TGRUCarry(h, x.astype(h.dtype)), h


class TLSTMCarry(NamedTuple):
    """c ``[*B, H]``: the memory. x ``[*B, I]``: the last input."""

    c: jax.Array
    x: jax.Array


@published(family="strongly typed", paper="Balduzzi, Ghifary 2016, arXiv:1602.02218", year=2016)
@cell
class TLSTM:
    """Strongly typed LSTM: gates from this input and the last, an output gate that does not feed back.

    ``z, f, o = split(x_{t-1} V + x_t W + b)``; ``c' = sigmoid(f) c + (1 - sigmoid(f)) z``; ``y = c' tanh(o)``;
    before the first step x is 0.

    features: H. params: ``input`` W and ``previous`` V ``[I, 3H]``, ``bias`` b ``[3H]``, blocks (z, f, o). carry: ``TLSTMCarry(c, x)``.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    y: ``[*B, H]``. Start: lecun, b zero. Source: Balduzzi and Ghifary 2016, arXiv:1602.02218.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.TLSTM(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return _init(self, key, x)

    def initial_carry(self, params: Any, x: Any) -> TLSTMCarry:
        return TLSTMCarry(zeros_like_step(params, x, self.features), zeros_like_step(params, x, x.shape[-1]))

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[TLSTMCarry, jax.Array]:
        z, f, o = _gates(self, params, carry, x, TLSTMCarry)
        f = jax.nn.sigmoid(f)
        c = f * carry.c + (1 - f) * z
        return TLSTMCarry(c, x.astype(c.dtype)), c * jnp.tanh(o)


def _init(cell: Any, key: jax.Array, x: Any) -> dict[str, jax.Array]:
    k_now, k_before = jax.random.split(key)
    return gate_params(cell, k_now, x, 3, 0) | {"previous": gate_params(cell, k_before, x, 3, 0)["input"]}


def _gates(cell: Any, params: Any, carry: Any, x: jax.Array, kind: Any) -> list[jax.Array]:
    check_params(cell, params, ("input", "previous", "bias"))
    check_input(cell, x, params["input"].shape[0])
    if not isinstance(carry, kind):
        check_carry(cell, carry, x, cell.features, kind)
    check_carry(cell, carry[0], x, cell.features)
    check_carry(cell, carry.x, x, x.shape[-1])
    return jnp.split(carry.x @ params["previous"] + x @ params["input"] + params["bias"], 3, axis=-1)
