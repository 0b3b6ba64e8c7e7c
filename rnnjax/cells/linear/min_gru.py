"""MinGRU and MinLSTM: gated cells whose gates see the input only, so that time is linear."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import Key, cell, zeros_like_step
from rnnjax.carry_maps import Affine
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params, input_gates
from rnnjax.cells.shared.options import check_fields
from rnnjax.cells.shared.recurrence import linear_step


def positive(z: jax.Array) -> jax.Array:
    """``z + 1/2`` above zero, ``sigmoid(z)`` below: minGRU's g, continuous and positive."""
    return jnp.where(z >= 0, z + 0.5, jax.nn.sigmoid(z))


@published(family="linear in time", paper="Feng et al. 2024, arXiv:2410.01201", year=2024)
@cell
class MinGRU:
    """The GRU without what made it sequential.

    ``z = sigmoid(x W_z + b_z)``; ``n = x W_n + b_n``; ``h' = (1 - z) h + z n``; ``y = h'``.

    features: H. positive: candidates ``g(n)``, above zero, of the paper's log-space form (appendix B).
    params: ``input`` W ``[I, 2H]``, ``bias`` ``[2H]``, gates (update, candidate). carry: h ``[*B, H]``. y: ``[*B, H]``.

    Variant: z weighs the *new* value, as in the paper; `GRU` here (and torch) has it the other way round.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Start: W lecun, b zero. Linear in time. Source: Feng et al. 2024, arXiv:2410.01201.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.MinGRU(4), jnp.ones((5, 2, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")
    >>> carry.shape, ys.shape
    ((2, 4), (5, 2, 4))
    """

    features: int
    _: KW_ONLY
    positive: bool = False
    use_bias: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 2, 0, use_bias=self.use_bias)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    linear_in_time = True

    def linear_maps(self, params: Any, x: jax.Array) -> Affine:
        z, n = input_gates(params, x, 2)
        z = jax.nn.sigmoid(z)
        return Affine(decay=1 - z, increment=z * (positive(n) if self.positive else n))

    def output_of_carry(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return carry

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input",))
        return linear_step(self, params, carry, x)


@published(family="linear in time", paper="Feng et al. 2024, arXiv:2410.01201", year=2024)
@cell
class MinLSTM:
    """The LSTM without what made it sequential.

    ``f = sigmoid(x W_f + b_f)``; ``i = sigmoid(x W_i + b_i)``; ``n = x W_n + b_n``;
    ``h' = f / (f + i) h + i / (f + i) n``; ``y = h'``.

    features: H. normalize: False leaves out the division by f + i (the paper's version for time-varying scale).
    positive: candidates ``g(n)``, above zero, of the paper's log-space form (appendix B).
    params: ``input`` W ``[I, 3H]``, ``bias`` ``[3H]``, gates (forget, input, candidate). carry: h ``[*B, H]``. y: ``[*B, H]``.

    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Start: W lecun, b zero. Linear in time. Source: Feng et al. 2024, arXiv:2410.01201.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.MinLSTM(4), jnp.ones((5, 2, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")[1].shape
    (5, 2, 4)
    """

    features: int
    _: KW_ONLY
    normalize: bool = True
    positive: bool = False
    use_bias: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 3, 0, use_bias=self.use_bias)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    linear_in_time = True

    def linear_maps(self, params: Any, x: jax.Array) -> Affine:
        f, i, n = input_gates(params, x, 3)
        if self.normalize:  # f / (f + i) = sigmoid(log f - log i), which neither over- nor underflows
            keep = jax.nn.sigmoid(jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i))
            write = jax.nn.sigmoid(jax.nn.log_sigmoid(i) - jax.nn.log_sigmoid(f))
        else:
            keep, write = jax.nn.sigmoid(f), jax.nn.sigmoid(i)
        return Affine(decay=keep, increment=write * (positive(n) if self.positive else n))

    def output_of_carry(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return carry

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input",))
        return linear_step(self, params, carry, x)
