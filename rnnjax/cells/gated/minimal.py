"""Gated units smaller than the GRU: MGU, UGRNN, LiGRU, LightRU, MinimalRNN."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS, layer_norm
from rnnjax.base import Key, cell, check_choice, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.gates import gate_params, input_gates
from rnnjax.cells.shared.options import check_fields

WEIGHTS = ("input", "recurrent", "bias")


@published(family="GRU", paper="Zhou, Wu, Zhang, Zhou 2016, arXiv:1603.09420", year=2016)
@cell
class MGU:
    """Minimal gated unit: one gate both resets and updates.

    ``f = sigmoid(x W_f + h U_f + b_f)``; ``h~ = tanh(x W_h + (f h) U_h + b_h)``; ``h' = (1 - f) h + f h~``; ``y = h'``.

    features: H. params: ``input`` W ``[I, 2H]``, ``recurrent`` U ``[H, 2H]``, ``bias`` b ``[2H]``, blocks (f, h). carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Start: W lecun, U orthogonal, b zero. Source: Zhou, Wu, Zhang, Zhou 2016, arXiv:1603.09420.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.MGU(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return gate_params(self, key, x, 2)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, WEIGHTS)
        h = carry
        xf, xh = input_gates(params, x, 2)
        u_f, u_h = jnp.split(params["recurrent"], 2, axis=-1)
        f = jax.nn.sigmoid(xf + h @ u_f)
        h = (1 - f) * h + f * jnp.tanh(xh + (f * h) @ u_h)
        return h, h


@published(family="GRU", paper="Collins, Sohl-Dickstein, Sussillo 2016, arXiv:1611.09913", year=2016)
@cell
class UGRNN:
    """Update gate network: a simple network whose every unit can keep its value.

    ``c = act(x W_c + h U_c + b_c)``; ``g = sigmoid(x W_g + h U_g + b_g)``; ``h' = g h + (1 - g) c``; ``y = h'``.

    features: H. activation: of c, "tanh" or "relu" in the paper (any name as in `Elman`).
    forget_bias: of b_g at the start; the authors' TensorFlow cell adds 1 at every step instead.
    params: ``input`` W ``[I, 2H]``, ``recurrent`` U ``[H, 2H]``, ``bias`` b ``[2H]``, blocks (c, g). carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Start: W lecun, U orthogonal, b_c zero. Source: Collins, Sohl-Dickstein, Sussillo 2016, arXiv:1611.09913.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.UGRNN(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    activation: str = "tanh"
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("UGRNN", "activation", self.activation, ACTIVATIONS)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params = gate_params(self, key, x, 2)
        return params | {"bias": params["bias"].at[self.features :].set(self.forget_bias)}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, WEIGHTS)
        h = carry
        c, g = jnp.split(x @ params["input"] + h @ params["recurrent"] + params["bias"], 2, axis=-1)
        c, g = ACTIVATIONS[self.activation](c), jax.nn.sigmoid(g)
        h = g * h + (1 - g) * c
        return h, h


@published(family="GRU", paper="Ravanelli, Brakel, Omologo, Bengio 2018, arXiv:1803.10225", year=2018)
@cell
class LiGRU:
    """Light GRU of speech recognition: no reset gate, a rectified candidate.

    ``z = sigmoid(N(x W_z) + h U_z + b_z)``; ``c = relu(N(x W_c) + h U_c + b_c)``; ``h' = z h + (1 - z) c``; ``y = h'``.

    features: H. layer_norm: N normalises each gate's input part over its features; default N is the identity.
    The paper has batch normalisation there, whose statistics over time and batch a pure step cannot see; SpeechBrain offers
    the same choice of layer normalisation. Without any, rectified states can grow: start small or clip (`rnnjax.Clip`).
    params: ``input`` W ``[I, 2H]``, ``recurrent`` U ``[H, 2H]``, ``bias`` b ``[2H]``, blocks (z, c); with ``layer_norm``
    ``norm_input`` ``[2H]``. carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad option, or shapes that do not fit.
    Start: W lecun, U orthogonal, b zero. Source: Ravanelli, Brakel, Omologo, Bengio 2018, arXiv:1803.10225.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LiGRU(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    layer_norm: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    def with_layer_norm(self) -> LiGRU:
        return dataclasses.replace(self, layer_norm=True)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params = gate_params(self, key, x, 2)
        return params | ({"norm_input": jnp.ones_like(params["bias"])} if self.layer_norm else {})

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, (*WEIGHTS, "norm_input") if self.layer_norm else WEIGHTS)
        h = carry
        xz, xc = jnp.split(x @ params["input"], 2, axis=-1)
        if self.layer_norm:
            g_z, g_c = jnp.split(params["norm_input"], 2)
            xz, xc = layer_norm(xz, g_z), layer_norm(xc, g_c)
        hz, hc = jnp.split(h @ params["recurrent"] + params["bias"], 2, axis=-1)
        z, c = jax.nn.sigmoid(xz + hz), jax.nn.relu(xc + hc)
        h = z * h + (1 - z) * c
        return h, h


@published(family="GRU", paper="Ye, Zhang, Liu, Zhu, Liu 2024, Electronics 13(16)", year=2024)
@cell
class LightRU:
    """Light recurrent unit: the candidate sees the input alone, one gate mixes it in.

    ``h~ = tanh(x W_h)``; ``f = sigmoid(x W_f + h U_f + b_f)``; ``h' = (1 - f) h + f h~``; ``y = h'``.

    features: H. params: ``input`` W ``[I, 2H]``, blocks (h, f), ``recurrent`` U_f ``[H, H]``, ``bias`` b_f ``[H]``. carry: h ``[*B, H]``.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Start: W lecun, U orthogonal, b zero. Source: Ye, Zhang, Liu, Zhu, Liu 2024, Electronics 13(16) 3204.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LightRU(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        params = gate_params(self, key, x, 2, 1)
        return params | {"bias": jnp.zeros_like(params["bias"][: self.features])}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, WEIGHTS)
        h = carry
        xh, xf = jnp.split(x @ params["input"], 2, axis=-1)
        f = jax.nn.sigmoid(xf + h @ params["recurrent"] + params["bias"])
        h = (1 - f) * h + f * jnp.tanh(xh)
        return h, h


@published(family="GRU", paper="Chen 2017, arXiv:1711.06788", year=2017)
@cell
class MinimalRNN:
    """MinimalRNN: the input is mapped into the state's space first, then one gate mixes.

    ``z = tanh(x W + b_z)``; ``u = sigmoid(h U_h + z U_z + b_u)``; ``h' = u h + (1 - u) z``; ``y = h'``.

    features: H. params: ``input`` W ``[I, H]``, ``recurrent`` U_h ``[H, H]``, ``latent`` U_z ``[H, H]``, ``input_bias`` b_z,
    ``bias`` b_u ``[H]``. carry: h ``[*B, H]``. The paper leaves the map from x to z open and uses this one.
    Errors: ValueError/TypeError for a bad size, or shapes that do not fit.
    Start: W, U_z lecun, U_h orthogonal, biases zero. Source: Chen 2017, arXiv:1711.06788.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.MinimalRNN(4), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs)[1].shape
    (5, 4)
    """

    features: int

    def __post_init__(self) -> None:
        check_fields(self)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_gates, k_latent = jax.random.split(key)
        params, h = gate_params(self, k_gates, x, 1), self.features
        latent = initializers.lecun(k_latent, (h, h), params["bias"].dtype)
        return params | {"latent": latent, "input_bias": jnp.zeros_like(params["bias"])}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, (*WEIGHTS, "latent", "input_bias"))
        h = carry
        z = jnp.tanh(x @ params["input"] + params["input_bias"])
        u = jax.nn.sigmoid(h @ params["recurrent"] + z @ params["latent"] + params["bias"])
        h = u * h + (1 - u) * z
        return h, h
