"""Simple recurrent networks: Elman and IRNN."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS
from rnnjax.base import (
    Key,
    cell,
    check_choice,
    check_input,
    param_dtype,
    zeros_like_step,
)
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.options import check_fields


@published(family="simple", paper="Elman 1990, Cognitive Science 14(2)", year=1990)
@cell
class Elman:
    """The simple recurrent network of the textbooks.

    ``h_t = act(x_t W + h_{t-1} U + b)``, ``y_t = h_t``; add ``y = h V + c`` with `rnnjax.Readout`.

    features: H. activation: any name in ``rnnjax.activations.ACTIVATIONS`` ("tanh", "relu", "sigmoid", ...).
    residual: True adds the old state, ``h_t = h_{t-1} + act(...)``, so that gradients have a straight way back in time.
    params: ``input`` W ``[I, H]``, ``recurrent`` U ``[H, H]``, ``bias`` b ``[H]``. carry: h ``[*B, H]``. y: ``[*B, H]``.

    Variant: one bias, as in flax and haiku; torch and keras-with-cuDNN carry two whose sum this is.
    Start: W lecun, U orthogonal, b zero.
    Errors: ValueError/TypeError for an unknown activation, a bad size, or an x or carry of the wrong shape.
    Source: Elman 1990, Finding structure in time, Cognitive Science 14(2).

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.Elman(4, activation="relu"), jnp.ones((5, 2, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> carry, ys = rj.unroll(cell, params, xs)
    >>> carry.shape, ys.shape
    ((2, 4), (5, 2, 4))
    """

    features: int
    _: KW_ONLY
    activation: str = "tanh"
    residual: bool = False
    use_bias: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("Elman", "activation", self.activation, ACTIVATIONS)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return _init(self, key, x, initializers.orthogonal)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        h, _ = _step(self, params, carry, x, ACTIVATIONS[self.activation])
        h = carry + h if self.residual else h
        return h, h


@published(family="simple", paper="Le, Jaitly, Hinton 2015, arXiv:1504.00941", year=2015)
@cell
class IRNN:
    """A rectified simple network whose recurrence starts at the identity.

    ``h_t = relu(x_t W + h_{t-1} U + b)`` with U = scale * I and b = 0 at the start, so that at first it just adds up.

    features: H. scale: of the identity, below 1 forgets. params, carry, y: as `Elman`.
    Start: W lecun; the paper draws it normal with deviation 0.001.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Source: Le, Jaitly, Hinton 2015, arXiv:1504.00941.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> params = rj.IRNN(3).init(jax.random.key(0), jnp.ones(2))
    >>> bool((params["recurrent"] == jnp.eye(3)).all())
    True
    """

    features: int
    _: KW_ONLY
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return _init(self, key, x, initializers.identity(self.scale))

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        return _step(self, params, carry, x, jax.nn.relu)


def _init(self: Any, key: jax.Array, x: Any, recurrent: initializers.Initializer) -> dict[str, jax.Array]:
    check_input(self, x)
    k_in, k_rec = jax.random.split(key)
    n, h, dtype = x.shape[-1], self.features, param_dtype(x)
    params = {"input": initializers.lecun(k_in, (n, h), dtype), "recurrent": recurrent(k_rec, (h, h), dtype)}
    if getattr(self, "use_bias", True):
        params["bias"] = jnp.zeros(h, dtype)
    return params


def _step(self: Any, params: Any, h: Any, x: Any, activation: Any) -> tuple[jax.Array, jax.Array]:
    check_step(self, params, h, x, ("input", "recurrent"))
    z = x @ params["input"] + h @ params["recurrent"]
    h = activation(z + params["bias"] if "bias" in params else z)
    return h, h
