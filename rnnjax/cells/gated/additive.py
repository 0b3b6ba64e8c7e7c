"""Cells whose new state is a gated sum without a nonlinear layer over the old one: RAN, CFN, ATR, STAR."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.activations import ACTIVATIONS
from rnnjax.base import Key, cell, check_choice, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params
from rnnjax.cells.shared.options import check_fields

WEIGHTS = ("input", "recurrent", "bias")


class RANCarry(NamedTuple):
    """h ``[*B, H]``: what the cell shows. c ``[*B, H]``: the weighted sum of inputs it remembers."""

    h: jax.Array
    c: jax.Array


@published(family="additive", paper="Lee, Levy, Zettlemoyer 2017, arXiv:1705.07393", year=2017)
@cell
class RAN:
    """Recurrent additive network: the state is a sum of inputs weighted by gates.

    ``c~ = x W_c``; ``i = sigmoid(x W_i + h U_i + b_i)``; ``f = sigmoid(x W_f + h U_f + b_f)``;
    ``c' = i c~ + f c``; ``h' = g(c')``; ``y = h'``.

    features: H. activation: g, "tanh" or "identity" in the paper (any name as in `Elman`).
    params: ``input`` W ``[I, 3H]``, blocks (c, i, f), ``recurrent`` U ``[H, 2H]``, ``bias`` b ``[2H]``, blocks (i, f).
    carry: ``RANCarry(h, c)``. The content layer has no bias, as in the paper.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Start: W lecun, U orthogonal, b zero. Source: Lee, Levy, Zettlemoyer 2017, arXiv:1705.07393.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.RAN(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    activation: str = "tanh"

    blocks_by_unit = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("RAN", "activation", self.activation, ACTIVATIONS)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params = gate_params(self, key, x, 3, 2)
        return params | {"bias": params["bias"][self.features :]}

    def initial_carry(self, params: Any, x: Any) -> RANCarry:
        c = zeros_like_step(params, x, self.features)
        return RANCarry(h=ACTIVATIONS[self.activation](c), c=c)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[RANCarry, jax.Array]:
        check_step(self, params, carry, x, WEIGHTS, RANCarry)
        h, c = carry
        content, xi, xf = jnp.split(x @ params["input"], 3, axis=-1)
        hi, hf = jnp.split(h @ params["recurrent"] + params["bias"], 2, axis=-1)
        c = jax.nn.sigmoid(xi + hi) * content + jax.nn.sigmoid(xf + hf) * c
        h = ACTIVATIONS[self.activation](c)
        return RANCarry(h, c), h


@published(family="additive", paper="Laurent, von Brecht 2016, arXiv:1612.06212", year=2016)
@cell
class CFN:
    """Chaos-free network: without input the state can only decay.

    ``theta = sigmoid(x V_t + h U_t + b_t)``; ``eta = sigmoid(x V_e + h U_e + b_e)``; ``h' = theta tanh(h) + eta tanh(x W)``; ``y = h'``.

    features: H. forget_bias: of b_t at the start (1 in the paper); b_e starts at its negative, -1.
    params: ``input`` ``[I, 3H]``, blocks (V_t, V_e, W), ``recurrent`` U ``[H, 2H]``, ``bias`` b ``[2H]``. carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Start: inputs lecun, U orthogonal. Source: Laurent and von Brecht 2016, arXiv:1612.06212.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.CFN(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params, h = gate_params(self, key, x, 3, 2), self.features
        b = jnp.repeat(jnp.array([self.forget_bias, -self.forget_bias], params["bias"].dtype), h)
        return params | {"bias": b}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, WEIGHTS)
        h = carry
        xt, xe, xw = jnp.split(x @ params["input"], 3, axis=-1)
        ht, he = jnp.split(h @ params["recurrent"] + params["bias"], 2, axis=-1)
        theta, eta = jax.nn.sigmoid(xt + ht), jax.nn.sigmoid(xe + he)
        h = theta * jnp.tanh(h) + eta * jnp.tanh(xw)
        return h, h


@published(family="additive", paper="Zhang, Xiong, Su, Lin, Zhang 2018, arXiv:1810.12546", year=2018)
@cell
class ATR:
    """Addition-subtraction twin-gated network: both gates come from two products without weights of their own.

    ``p = x W``; ``q = h U``; ``i = sigmoid(p + q)``; ``f = sigmoid(p - q)``; ``h' = i p + f h``; ``y = h'``.

    features: H. params: ``input`` W ``[I, H]``, ``recurrent`` U ``[H, H]``; no bias, as in the paper. carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Start: W lecun, U orthogonal. Source: Zhang, Xiong, Su, Lin, Zhang 2018, arXiv:1810.12546.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.ATR(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 1, use_bias=False)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, WEIGHTS[:2])
        h = carry
        p, q = x @ params["input"], h @ params["recurrent"]
        i, f = jax.nn.sigmoid(p + q), jax.nn.sigmoid(p - q)
        h = i * p + f * h
        return h, h


@published(family="additive", paper="Turkoglu, D'Aronco, Wegner, Schindler 2019, arXiv:1911.11033", year=2019)
@cell
class STAR:
    """Stackable recurrent cell: one gate, and gradients that keep their size through many layers.

    ``k = sigmoid(x W_k + h U_k + b_k)``; ``z = tanh(x W_z + b_z)``; ``h' = tanh((1 - k) h + k z)``; ``y = h'``.

    features: H. params: ``input`` W ``[I, 2H]``, ``bias`` b ``[2H]``, blocks (k, z), ``recurrent`` U_k ``[H, H]``. carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Start: W lecun, U orthogonal, b zero. Source: Turkoglu, D'Aronco, Wegner, Schindler 2019, Gating revisited, arXiv:1911.11033.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.STAR(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 2, 1)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, WEIGHTS)
        h = carry
        xk, xz = jnp.split(x @ params["input"] + params["bias"], 2, axis=-1)
        k, z = jax.nn.sigmoid(xk + h @ params["recurrent"]), jnp.tanh(xz)
        h = jnp.tanh((1 - k) * h + k * z)
        return h, h
