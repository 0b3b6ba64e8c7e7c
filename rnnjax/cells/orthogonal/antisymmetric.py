"""A recurrence with an antisymmetric matrix: signals neither grow nor fade."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import (
    Key,
    cell,
    zeros_like_step,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_at_least_zero, check_fields, check_positive


@published(family="stable", paper="Chang et al. 2019, arXiv:1902.09689", year=2019)
@cell
class AntisymmetricRNN:
    """Euler steps of an equation whose Jacobian has eigenvalues near the imaginary axis: signals neither grow nor fade.

    ``A = W - W^T - gamma I``; ``h' = h + epsilon tanh(h A + x V + b)``; gated: ``h' = h + epsilon sigmoid(h A + x V_z + b_z) tanh(...)``;
    ``y = h'``.

    features: H. epsilon: step length. gamma: diffusion, which keeps Euler's method stable. gated: the paper's second form.
    params: ``input`` V ``[I, H]`` (gated: ``[I, 2H]``, order (update, gate)), ``recurrent`` W ``[H, H]`` whose
    antisymmetric part alone acts,
    ``bias`` b. carry: h ``[*B, H]``. y: ``[*B, H]``. Start: W normal / sqrt(H), V lecun.

    Variant: row vectors, so A here is the paper's transposed. Errors: ValueError unless epsilon > 0 and gamma >= 0.
    Source: Chang et al. 2019, arXiv:1902.09689.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.AntisymmetricRNN(4, gated=True), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    epsilon: float = 0.01
    gamma: float = 0.01
    gated: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive("AntisymmetricRNN", epsilon=self.epsilon)
        check_at_least_zero("AntisymmetricRNN", gamma=self.gamma)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 1 + self.gated, 1, recurrent=initializers.lecun)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias"))
        w = params["recurrent"]
        drive = carry @ (w - w.T) - self.gamma * carry
        update, *gate = jnp.split(x @ params["input"] + params["bias"], 1 + self.gated, axis=-1)
        step = self.epsilon * jnp.tanh(drive + update)
        h = carry + (jax.nn.sigmoid(drive + gate[0]) * step if gate else step)
        return h, h
