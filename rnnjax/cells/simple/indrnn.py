"""IndRNN: every unit has one recurrent weight, its own."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax

from rnnjax.activations import ACTIVATIONS
from rnnjax.base import Key, cell, check_choice, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields


@published(family="simple", paper="Li, Li, Cook, Zhu, Gao 2018, arXiv:1803.04831", year=2018)
@cell
class IndRNN:
    """Independently recurrent network: ``h' = act(x W + u h + b)``, u elementwise; ``y = h'``.

    features: H. activation: "relu" in the paper (any name as in `Elman`).
    max_time: the longest sequence in steps, T; then ``u ~ U(0, 2^(1/T))``, the paper's range in which T steps at most double a
    value, else ``U(0, 1)`` as in the authors' code. Their clipping of u to that range during training is the optimiser's business.
    params: ``input`` W ``[I, H]``, ``recurrent`` u ``[H]``, ``bias`` b ``[H]``. carry: h ``[*B, H]``.
    Start: W lecun, b zero. Errors: ValueError/TypeError for a bad size, activation, max_time or shapes.
    Source: Li, Li, Cook, Zhu, Gao 2018, arXiv:1803.04831.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.IndRNN(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    activation: str = "relu"
    max_time: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("IndRNN", "activation", self.activation, ACTIVATIONS)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_in, k_rec = jax.random.split(key)
        params = gate_params(self, k_in, x, 1, 0)
        top = 1.0 if self.max_time is None else 2.0 ** (1.0 / self.max_time)
        u = jax.random.uniform(k_rec, (self.features,), params["bias"].dtype, 0.0, top)
        return params | {"recurrent": u}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "recurrent", "bias"))
        h = ACTIVATIONS[self.activation](x @ params["input"] + params["recurrent"] * carry + params["bias"])
        return h, h
