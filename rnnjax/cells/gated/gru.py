"""The gated recurrent unit."""

from __future__ import annotations

import dataclasses
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import ACTIVATIONS, layer_norm
from rnnjax.base import Key, cell, check_choice, check_input, param_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_step
from rnnjax.cells.shared.options import check_chrono, check_fields

GATES = ("reset", "update", "candidate")  # order of the blocks in every weight, as in torch and flax; keras has z, r, n


@published(family="GRU", paper="Cho et al. 2014, arXiv:1406.1078", year=2014)
@cell
class GRU:
    """Gated recurrent unit, in both published forms.

    ``r = sigmoid(x W_r + h U_r + b_r)``; ``z = sigmoid(x W_z + h U_z + b_z)``;
    ``n = tanh(x W_n + b_n + r (h U_n + c))`` with ``reset_after=True``, ``n = tanh(x W_n + b_n + (r h) U_n)`` without;
    ``h' = (1 - z) n + z h``; ``y = h'``.

    features: H. reset_after: True as in cuDNN, torch, flax and keras; False as first published, in haiku and the ONNX default.
    layer_norm: ``x W`` and ``h U`` are normalised each, both gates together and the candidate apart (Ba, Kiros, Hinton 2016,
    arXiv:1607.06450, whose form is ``reset_after``; its biases inside the normalisation are b here).
    chrono: longest memory in steps; b_z starts by `rnnjax.initializers.chrono` in place of zero, so that z starts near one
    and units keep what they hold for up to that long (Tallec and Ollivier 2018, arXiv:1804.11188, whose z is 1 - z here).
    activation: in place of tanh, gate_activation: of both sigmoids, any name in ``rnnjax.activations.ACTIVATIONS``; Keras 1 and 2 had
    "hard_sigmoid_0.2" in the gates.
    params: ``input`` W ``[I, 3H]``, ``recurrent`` U ``[H, 3H]``, ``bias`` b ``[3H]``, gates in the order of ``GATES``, and with
    ``reset_after`` ``recurrent_bias`` c ``[H]``, the one bias inside the reset; with ``layer_norm`` the gains ``norm_input``
    and ``norm_recurrent`` ``[3H]``. carry: h ``[*B, H]``. y: ``[*B, H]``.

    Variant: z keeps the old state, as in torch, flax and keras; haiku and the first paper's text call that 1 - z.
    Errors: ValueError/TypeError for a bad size, an unknown activation, or an x or carry of the wrong shape.
    Source: Cho et al. 2014, arXiv:1406.1078 (v1: reset after; v3: before).

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.GRU(4), jnp.ones((5, 2, 3))
    >>> params = cell.init(jax.random.key(0), xs[0])
    >>> carry, ys = rj.unroll(cell, params, xs)
    >>> carry.shape, ys.shape
    ((2, 4), (5, 2, 4))
    """

    features: int
    _: KW_ONLY
    reset_after: bool = True
    layer_norm: bool = False
    use_bias: bool = True
    chrono: float | None = None
    activation: str = "tanh"
    gate_activation: str = "sigmoid"

    def __post_init__(self) -> None:
        check_fields(self)
        check_chrono(self)
        for name in ("activation", "gate_activation"):
            check_choice("GRU", name, getattr(self, name), ACTIVATIONS)

    def with_layer_norm(self) -> GRU:
        return dataclasses.replace(self, layer_norm=True)

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_rec, k_bias = jax.random.split(key, 3)
        n, h, dtype = x.shape[-1], self.features, param_dtype(x)
        params = {
            "input": initializers.per_gate(initializers.lecun, 3)(k_in, (n, 3 * h), dtype),
            "recurrent": initializers.per_gate(initializers.orthogonal, 3)(k_rec, (h, 3 * h), dtype),
        }
        if self.use_bias:
            params["bias"] = self._bias(k_bias, dtype)
            if self.reset_after:
                params["recurrent_bias"] = jnp.zeros(h, dtype)
        if self.layer_norm:
            params |= {"norm_input": jnp.ones(3 * h, dtype), "norm_recurrent": jnp.ones(3 * h, dtype)}
        return params

    def _bias(self, key: jax.Array, dtype: Any) -> jax.Array:
        h = self.features
        bias = jnp.zeros(3 * h, dtype)
        return (
            bias if self.chrono is None else bias.at[h : 2 * h].set(initializers.chrono(self.chrono)(key, (h,), dtype))
        )

    def _act(self, z: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.activation](z)

    def _gate(self, z: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.gate_activation](z)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        norms = ("norm_input", "norm_recurrent") if self.layer_norm else ()
        check_step(self, params, carry, x, ("input", "recurrent", *norms))
        step = self._reset_after if self.reset_after else self._reset_before
        zx = x @ params["input"]
        if self.layer_norm:
            step, zx = self._normalised, _norm_gates(zx, params["norm_input"])
        h = step(params, carry, zx + params["bias"] if "bias" in params else zx)
        return h, h

    def _reset_after(self, params: Any, h: jax.Array, zx: jax.Array) -> jax.Array:
        xr, xz, xn = jnp.split(zx, 3, axis=-1)
        hr, hz, hn = jnp.split(h @ params["recurrent"], 3, axis=-1)
        hn = hn + params["recurrent_bias"] if "recurrent_bias" in params else hn
        r, z = self._gate(xr + hr), self._gate(xz + hz)
        n = self._act(xn + r * hn)
        return (1 - z) * n + z * h

    def _reset_before(self, params: Any, h: jax.Array, zx: jax.Array) -> jax.Array:
        xr, xz, xn = jnp.split(zx, 3, axis=-1)
        u_gates, u_n = jnp.split(params["recurrent"], [2 * self.features], axis=-1)
        hr, hz = jnp.split(h @ u_gates, 2, axis=-1)
        r, z = self._gate(xr + hr), self._gate(xz + hz)
        n = self._act(xn + (r * h) @ u_n)
        return (1 - z) * n + z * h

    def _normalised(self, params: Any, h: jax.Array, zx: jax.Array) -> jax.Array:
        xr, xz, xn = jnp.split(zx, 3, axis=-1)
        u_gates, u_n = jnp.split(params["recurrent"], [2 * self.features], axis=-1)
        g_gates, g_n = jnp.split(params["norm_recurrent"], [2 * self.features])
        hr, hz = jnp.split(layer_norm(h @ u_gates, g_gates), 2, axis=-1)
        r, z = self._gate(xr + hr), self._gate(xz + hz)
        hn = layer_norm((h if self.reset_after else r * h) @ u_n, g_n)
        hn = hn + params["recurrent_bias"] if "recurrent_bias" in params else hn
        n = self._act(xn + (r * hn if self.reset_after else hn))
        return (1 - z) * n + z * h


def _norm_gates(z: jax.Array, gain: jax.Array) -> jax.Array:
    """Both gates normalised together, the candidate apart."""
    split = 2 * (z.shape[-1] // 3)
    parts = [layer_norm(z[..., :split], gain[:split]), layer_norm(z[..., split:], gain[split:])]
    return jnp.concatenate(parts, axis=-1)
