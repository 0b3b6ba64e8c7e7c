"""Gated cells whose gates see the input only, so that time is linear: MinGRU, MinLSTM, RG-LRU, SRU."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Key, cell, check_input, check_params, param_dtype, zeros_like_step
from rnnjax.cells.common import check_fields, check_step, gate_params, input_gates
from rnnjax.cells.recurrence import Affine, check_linear_step, linear_step, wide_dtype


def positive(z: jax.Array) -> jax.Array:
    """``z + 1/2`` above zero, ``sigmoid(z)`` below: minGRU's g, continuous and positive."""
    return jnp.where(z >= 0, z + 0.5, jax.nn.sigmoid(z))


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

    def elements(self, params: Any, x: jax.Array) -> Affine:
        z, n = input_gates(params, x, 2)
        z = jax.nn.sigmoid(z)
        return Affine(decay=1 - z, increment=z * (positive(n) if self.positive else n))

    def read(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return carry

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input",))
        return linear_step(self, params, carry, x)


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

    def elements(self, params: Any, x: jax.Array) -> Affine:
        f, i, n = input_gates(params, x, 3)
        if self.normalize:  # f / (f + i) = sigmoid(log f - log i), which neither over- nor underflows
            keep = jax.nn.sigmoid(jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i))
            write = jax.nn.sigmoid(jax.nn.log_sigmoid(i) - jax.nn.log_sigmoid(f))
        else:
            keep, write = jax.nn.sigmoid(f), jax.nn.sigmoid(i)
        return Affine(decay=keep, increment=write * (positive(n) if self.positive else n))

    def read(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return carry

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input",))
        return linear_step(self, params, carry, x)


@cell
class RGLRU:
    """The real-gated linear recurrent unit of Griffin and RecurrentGemma.

    ``r = sigmoid(x W_r + b_r)``; ``i = sigmoid(x W_i + b_i)``; ``a = exp(-c softplus(Lambda) r)``;
    ``h' = a h + sqrt(1 - a^2) (i u)``; ``y = h'``, with ``u = x``, or ``u = x V`` where I differs from H.

    features: H. power: c. low, high: between them a at r = 1 starts, uniformly.
    params: ``gates`` W ``[I, 2H]``, ``bias`` ``[2H]`` (recurrence, input), ``decay`` Lambda ``[H]``, and only where I differs
    from H ``input`` V ``[I, H]`` (the paper's block has the same width in and out). carry: h ``[*B, H]``. y: ``[*B, H]``.

    Variant: the paper writes ``a = sigmoid(Lambda')``, its authors' code ``exp(-c softplus(Lambda) r)`` as here (Lambda = -Lambda').
    It starts a, not ``a^c``, in that range, uniformly by area, and multiplies the first step after a reset by 1 in place of
    ``sqrt(1 - a^2)``; here neither is done, as in the paper.
    Linear in time. Errors: ValueError unless 0 < low < high < 1 and power > 0. Source: De et al. 2024, arXiv:2402.19427, section 2.4.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.RGLRU(3), jnp.ones((5, 2, 3))
    >>> sorted(cell.init(jax.random.key(0), xs[0]))
    ['bias', 'decay', 'gates']
    """

    features: int
    _: KW_ONLY
    power: float = 8.0
    low: float = 0.9
    high: float = 0.999

    def __post_init__(self) -> None:
        check_fields(self)
        if not (0 < self.low < self.high < 1 and self.power > 0):
            raise ValueError(
                f"RGLRU: must have 0 < low < high < 1 and power > 0, got {self.low}, {self.high}, {self.power}"
            )

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        k_gates, k_decay, k_in = jax.random.split(key, 3)
        made = gate_params(self, k_gates, x, 2, 0)
        params = {"gates": made["input"], "bias": made["bias"], "decay": self._decay(k_decay, param_dtype(x))}
        if x.shape[-1] != self.features:
            params["input"] = initializers.lecun(k_in, (x.shape[-1], self.features), param_dtype(x))
        return params

    def _decay(self, key: jax.Array, dtype: Any) -> jax.Array:
        """Lambda such that ``exp(-power softplus(Lambda))`` is uniform in low .. high."""
        draw = wide_dtype(dtype)
        rate = -jnp.log(jax.random.uniform(key, (self.features,), draw, self.low, self.high)) / self.power
        return jnp.log(jnp.expm1(rate)).astype(dtype)

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def elements(self, params: Any, x: jax.Array) -> Affine:
        r, i = jnp.split(jax.nn.sigmoid(x @ params["gates"] + params["bias"]), 2, axis=-1)
        log_a = -self.power * jax.nn.softplus(params["decay"]) * r
        u = x @ params["input"] if "input" in params else x
        return Affine(decay=jnp.exp(log_a), increment=jnp.sqrt(-jnp.expm1(2 * log_a)) * (i * u))

    def read(self, params: Any, carry: jax.Array, x: jax.Array) -> jax.Array:
        return carry

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_params(self, params, ("gates", "bias", "decay"))
        check_linear_step(self, params, carry, x, params["gates"].shape[0], (self.features,))
        return linear_step(self, params, carry, x)


@cell
class SRU:
    """The simple recurrent unit: a forget gate in time, a highway gate in depth.

    ``u = x W``; ``f = sigmoid(x W_f + b_f)``; ``r = sigmoid(x W_r + b_r)``; ``c' = f c + (1 - f) u``;
    ``y = r g(c') + (1 - r) s``, with ``s = x``, or ``s = x W_s`` where I differs from H.

    features: H. peephole: gates see the state, ``f = sigmoid(x W_f + v_f c + b_f)`` and so r, as in the published version;
    then time is no longer linear. activation: g, "identity" or "tanh". highway_bias: start of b_r.
    params: ``input`` ``[I, 3H]``, or ``[I, 4H]`` where I differs from H, gates (candidate, forget, reset, skip); ``bias`` ``[2H]``
    (forget, reset); ``peephole`` ``[2H]`` v where asked for. carry: c ``[*B, H]``. y: ``[*B, H]``.

    Variant: the first version, arXiv:1709.02755v1, whose gates see x only (there with g = tanh), is the default because it runs in
    parallel; the published one (v5, EMNLP 2018) has ``peephole=True``. Its scaling of the highway by sqrt(3) is left out.
    Errors: ValueError for an unknown activation. Source: Lei et al. 2018, arXiv:1709.02755.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.SRU(4), jnp.ones((5, 2, 4))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")[1].shape
    (5, 2, 4)
    """

    features: int
    _: KW_ONLY
    peephole: bool = False
    activation: str = "identity"
    highway_bias: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.activation not in ("identity", "tanh"):
            raise ValueError(f"SRU: activation must be 'identity' or 'tanh', got {self.activation!r}")

    @property
    def linear(self) -> bool:
        return not self.peephole

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_in, k_peep = jax.random.split(key)
        h, dtype = self.features, param_dtype(x)
        params = gate_params(self, k_in, x, 3 if x.shape[-1] == h else 4, 0, use_bias=False)
        params["bias"] = jnp.zeros(2 * h, dtype).at[h:].set(self.highway_bias)
        if self.peephole:
            params["peephole"] = jax.random.uniform(k_peep, (2 * h,), dtype, -1.0, 1.0)
        return params

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.features)

    def elements(self, params: Any, x: jax.Array, carry: jax.Array | None = None) -> Affine:
        h = self.features
        f = self._gate(params, x @ params["input"][:, h : 2 * h], 0, carry)
        return Affine(decay=f, increment=(1 - f) * (x @ params["input"][:, :h]))

    def read(self, params: Any, carry: jax.Array, x: jax.Array, before: jax.Array | None = None) -> jax.Array:
        h = self.features
        r = self._gate(params, x @ params["input"][:, 2 * h : 3 * h], 1, before)
        skip = x if params["input"].shape[1] == 3 * h else x @ params["input"][:, 3 * h :]
        return r * (jnp.tanh(carry) if self.activation == "tanh" else carry) + (1 - r) * skip

    def _gate(self, params: Any, z: jax.Array, index: int, carry: jax.Array | None) -> jax.Array:
        block = slice(index * self.features, (index + 1) * self.features)
        z = z + params["bias"][block]
        return jax.nn.sigmoid(z + params["peephole"][block] * carry if self.peephole else z)

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_step(self, params, carry, x, ("input", "bias", "peephole") if self.peephole else ("input", "bias"))
        after = self.elements(params, x, carry).apply(carry)
        return after, self.read(params, after, x, carry)
