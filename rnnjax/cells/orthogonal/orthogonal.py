"""A recurrence with an exactly orthogonal matrix."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnnjax.activations import ACTIVATIONS, modrelu
from rnnjax.base import (
    Key,
    cell,
    check_choice,
    param_dtype,
    wide,
    zeros_like_step,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields
from rnnjax.linear_algebra import exponential, solve_positive


def skew(a: jax.Array) -> jax.Array:
    """The antisymmetric matrix with the strict upper triangle of ``a``."""
    upper = jnp.triu(wide(a), 1)
    return upper - upper.T


def cayley(a: jax.Array) -> jax.Array:
    """``(1 + A)^{-1} (1 - A)``: orthogonal for antisymmetric A, never with an eigenvalue -1."""
    one = jnp.eye(len(a), dtype=a.dtype)
    return solve_positive(one + a, one - a)


@published(family="orthogonal", paper="Lezcano-Casado, Martinez-Rubio 2019, arXiv:1901.08428", year=2019)
@cell
class OrthogonalRNN:
    """A simple network whose recurrence is exactly orthogonal, whatever the optimiser does to its parameters.

    ``h' = act(x W + h Q + b)``; ``Q = expm(A)`` ("exp", expRNN) or ``Q = (1 + A)^{-1} (1 - A) D`` ("cayley", scoRNN),
    ``A = K - K^T`` with K
    strictly upper triangular, D a fixed diagonal of signs. ``y = h'``.

    features: H. parametrization: "exp" or "cayley". negative: how many of D's signs are -1 (with "cayley"; the paper's rho).
    activation: "modrelu" (``relu(|h| + b) sign(h)``, b inside it) or any of `Elman`'s.
    params: ``input`` W ``[I, H]``, ``recurrent`` K ``[H, H]`` (upper triangle used), ``bias`` b ``[H]``. carry: h
    ``[*B, H]``. y: ``[*B, H]``.

    Q is made once a sequence, outside the loop. Start: A block-diagonal with angles uniform in -pi .. pi (Helfrich's, the default of
    expRNN's authors) for "exp"; ``A = tan(angle / 2)`` blocks, angles in 0 .. pi/2, for "cayley", as scoRNN's; b zero.
    Errors: ValueError for unknown names or more negative signs than features. Source: Lezcano-Casado and Martinez-Rubio 2019,
    arXiv:1901.08428; Helfrich, Willmott, Ye 2018, arXiv:1707.09520.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell = rj.OrthogonalRNN(4)
    >>> q = cell.recurrence(cell.init(jax.random.key(0), jnp.ones(3)))
    >>> bool(jnp.allclose(q @ q.T, jnp.eye(4), atol=1e-5))
    True
    """

    features: int
    _: KW_ONLY
    parametrization: str = "exp"
    negative: int = 0
    activation: str = "modrelu"

    def __post_init__(self) -> None:
        check_fields(self, "negative")
        check_choice("OrthogonalRNN", "parametrization", self.parametrization, ("exp", "cayley"))
        check_choice("OrthogonalRNN", "activation", self.activation, ("modrelu", *ACTIVATIONS))
        most = self.features if self.parametrization == "cayley" else 0
        if type(self.negative) is not int or not 0 <= self.negative <= most:
            raise ValueError(
                f"OrthogonalRNN: negative must be an int in 0..features, and 0 without 'cayley', got {self.negative!r}"
            )

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_in, k_angle = jax.random.split(key)
        params, dtype, h = gate_params(self, k_in, x, 1, 0), param_dtype(x), self.features
        if self.parametrization == "exp":
            angle = jax.random.uniform(k_angle, (h // 2,), dtype, -np.pi, np.pi)
        else:
            angle = jnp.tan(jax.random.uniform(k_angle, (h // 2,), dtype, 0.0, np.pi / 2) / 2)
        first = 2 * np.arange(h // 2)
        return params | {"recurrent": jnp.zeros((h, h), dtype).at[first, first + 1].set(angle)}

    def recurrence(self, params: Any) -> jax.Array:
        """Q ``[H, H]``."""
        a = skew(params["recurrent"])
        if self.parametrization == "exp":
            q = exponential(a)
        else:
            q = cayley(a) * jnp.where(jnp.arange(self.features) < self.negative, -1, 1).astype(a.dtype)
        return q.astype(params["recurrent"].dtype)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias"))
        z = x @ params["input"] + carry @ self.recurrence(params)
        if self.activation == "modrelu":
            h = modrelu(z, params["bias"])
        else:
            h = ACTIVATIONS[self.activation](z + params["bias"])
        return h, h
