"""The delta rule: fast weights that correct themselves."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import bounded_exp, log_softplus
from rnnjax.base import Key, cell, check_input, check_params, param_dtype, wide, wide_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_linear_step
from rnnjax.cells.shared.heads import check_heads, flat, heads, key_size, projections, unit
from rnnjax.cells.shared.outer_product import Memory, Write, outer_carries, outer_chunk, outer_step


def _finish(self: Any, params: Any, read: jax.Array, stabiliser: Any, x: jax.Array) -> jax.Array:
    return flat(read)


def _pack(self: Any, carry: jax.Array) -> Memory:
    return Memory(carry)


def _unpack(self: Any, memory: Memory) -> jax.Array:
    return memory.matrix


@published(family="fast weights", paper="Yang et al. 2024, arXiv:2406.06484", year=2024)
@cell
class DeltaNet:
    """Fast weights that correct themselves: each step replaces what the memory holds under its key.

    ``q, k = unit(silu(x W_q)), unit(silu(x W_k))``; ``v = x W_v``; ``b = sigmoid(x w_b)``; ``S' = S + b k (v - S^T k)^T``;
    ``y = S'^T q``;
    all of it for each head on its own.

    features: H. heads: N, dividing H. key_features: K of each head, default H / N. chunk_size: as in `LinearAttention`.
    params: ``query``, ``key`` ``[I, N K]``, ``value`` ``[I, H]``, ``rate`` w_b ``[I, N]``. carry: S ``[*B, N, K, V]``. y: ``[*B, H]``.

    Variant: keys and queries of length one after SiLU, as in Yang et al. 2024; the first paper, Schlag, Irie, Schmidhuber 2021
    (arXiv:2102.11174), has other feature maps and keys that sum to one. Short convolutions and output norms go round it.
    Linear in time (chunks in WY form). Errors: ValueError for heads that do not divide. Source: Yang et al. 2024, arXiv:2406.06484.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.DeltaNet(4, heads=2), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")[0].shape
    (2, 2, 2)
    """

    features: int
    _: KW_ONLY
    heads: int = 1
    key_features: int | None = None
    chunk_size: int = 64

    def __post_init__(self) -> None:
        check_heads(self)

    size = key_size

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_proj, k_rate = jax.random.split(key)
        rate = initializers.lecun(k_rate, (x.shape[-1], self.heads), param_dtype(x))
        return projections(self, k_proj, x) | {"rate": rate}

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.heads, self.size, self.features // self.heads)

    def writes(self, params: Any, x: jax.Array) -> Write:
        return _delta_write(self, params, x)

    finish, pack, unpack = _finish, _pack, _unpack
    run_chunk, chunk_carries = outer_chunk, outer_carries

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_params(self, params, ("query", "key", "value", "rate"))
        shape = (self.heads, self.size, self.features // self.heads)
        check_linear_step(self, params, carry, x, params["value"].shape[0], shape)
        return outer_step(self, params, carry, x)


@published(family="fast weights", paper="Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464", year=2024)
@cell
class GatedDeltaNet:
    """The delta rule with a forget gate.

    ``S' = a S + b k (v - a S^T k)^T``; ``y = S'^T q``; q, k, v, b as in `DeltaNet`;
    ``a = exp(-exp(log_decay) softplus(x w_a + c))`` for each head.

    features: H. heads: N, dividing H. key_features: K of each head, default H / N. chunk_size: as in `LinearAttention`.
    params: those of `DeltaNet` and ``decay`` w_a ``[I, N]``, ``decay_bias`` c ``[N]``, ``log_decay`` ``[N]``. carry, y: as `DeltaNet`.

    Variant: the recurrence itself; the paper's block has short convolutions, an output norm and gate round it.
    Start: ``exp(log_decay)`` uniform in 1 .. 16, ``softplus(c)`` log-uniform in 0.001 .. 0.1, as Mamba 2 and the authors' code.
    Linear in time (chunks in WY form). Errors: as `DeltaNet`. Source: Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.GatedDeltaNet(4, heads=2), jnp.ones((5, 3))
    >>> rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")[1].shape
    (5, 4)
    """

    features: int
    _: KW_ONLY
    heads: int = 1
    key_features: int | None = None
    chunk_size: int = 64

    def __post_init__(self) -> None:
        check_heads(self)

    size = key_size

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_proj, k_rate, k_decay, k_bias, k_log = jax.random.split(key, 5)
        i, n, dtype = x.shape[-1], self.heads, param_dtype(x)
        draw = wide_dtype(dtype)
        dt = jnp.exp(jax.random.uniform(k_bias, (n,), draw, jnp.log(1e-3), jnp.log(1e-1)))
        return projections(self, k_proj, x) | {
            "rate": initializers.lecun(k_rate, (i, n), dtype),
            "decay": initializers.lecun(k_decay, (i, n), dtype),
            "decay_bias": jnp.log(jnp.expm1(dt)).astype(dtype),
            "log_decay": jnp.log(jax.random.uniform(k_log, (n,), draw, 1.0, 16.0)).astype(dtype),
        }

    def initial_carry(self, params: Any, x: Any) -> jax.Array:
        return zeros_like_step(params, x, self.heads, self.size, self.features // self.heads)

    def writes(self, params: Any, x: jax.Array) -> Write:
        log_rate = wide(params["log_decay"]) + log_softplus(wide(x @ params["decay"] + params["decay_bias"]))
        log_decay = -bounded_exp(
            log_rate, 6.5
        )  # exp(-665) is 0, and a sum of such logarithms over a chunk keeps its digits
        return _delta_write(self, params, x)._replace(log_decay=log_decay)

    finish, pack, unpack = _finish, _pack, _unpack
    run_chunk, chunk_carries = outer_chunk, outer_carries

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[jax.Array, jax.Array]:
        check_params(self, params, ("query", "key", "value", "rate", "decay", "log_decay"))
        shape = (self.heads, self.size, self.features // self.heads)
        check_linear_step(self, params, carry, x, params["value"].shape[0], shape)
        return outer_step(self, params, carry, x)


def _delta_write(self: Any, params: Any, x: jax.Array) -> Write:
    q, k = (unit(heads(jax.nn.silu(x @ params[name]), self.heads)) for name in ("query", "key"))
    b = jax.nn.sigmoid(x @ params["rate"])
    return Write(k, heads(x @ params["value"], self.heads), q, jnp.zeros_like(b), rate=b)
