"""Linear attention: fast weights written by outer products."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.base import Key, cell, check_params, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_linear_step
from rnnjax.cells.shared.heads import check_heads, flat, heads, key_size, projections
from rnnjax.cells.shared.options import check_at_least_zero
from rnnjax.cells.shared.outer_product import Memory, Write, outer_carries, outer_chunk, outer_step


class LinearAttentionCarry(NamedTuple):
    """memory ``[*B, N, K, V]``: sum of k v^T. normaliser ``[*B, N, K]``: sum of k."""

    memory: jax.Array
    normaliser: jax.Array


@published(family="fast weights", paper="Katharopoulos et al. 2020, arXiv:2006.16236", year=2020)
@cell
class LinearAttention:
    """Attention without softmax, as a recurrent network ("transformers are RNNs").

    ``q, k = elu(x W_q) + 1, elu(x W_k) + 1``; ``v = x W_v``; ``S' = S + k v^T``; ``z' = z + k``; ``y = S'^T q / (z' . q + epsilon)``;
    all of it for each head on its own.

    features: H. heads: N, dividing H. key_features: K of each head, default H / N. chunk_size: steps at a time for
    ``method="associative"`` (no effect on values). params: ``query``, ``key`` ``[I, N K]``, ``value`` ``[I, H]``.
    carry: ``LinearAttentionCarry(memory, normaliser)``. y: ``[*B, H]``, heads side by side.

    Linear in time. Errors: ValueError for heads that do not divide. Source: Katharopoulos et al. 2020, arXiv:2006.16236.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.LinearAttention(4, heads=2), jnp.ones((5, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")
    >>> carry.memory.shape, ys.shape
    ((2, 2, 2), (5, 4))
    """

    features: int
    _: KW_ONLY
    heads: int = 1
    key_features: int | None = None
    epsilon: float = 1e-6
    chunk_size: int = 64

    def __post_init__(self) -> None:
        check_heads(self)
        check_at_least_zero("LinearAttention", epsilon=self.epsilon)

    size = key_size

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        return projections(self, key, x)

    def initial_carry(self, params: Any, x: Any) -> LinearAttentionCarry:
        n, k = self.heads, self.size
        return LinearAttentionCarry(
            zeros_like_step(params, x, n, k, self.features // n), zeros_like_step(params, x, n, k)
        )

    def writes(self, params: Any, x: jax.Array) -> Write:
        q, k = (heads(jax.nn.elu(x @ params[name]) + 1, self.heads) for name in ("query", "key"))
        v = heads(x @ params["value"], self.heads)
        v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)  # the normaliser is one more value
        return Write(k, v, q, jnp.zeros_like(v[..., 0]))

    def finish(self, params: Any, read: jax.Array, stabiliser: Any, x: jax.Array) -> jax.Array:
        return flat(read[..., :-1] / (read[..., -1:] + self.epsilon))

    def pack(self, carry: LinearAttentionCarry) -> Memory:
        return Memory(jnp.concatenate([carry.memory, carry.normaliser[..., None]], axis=-1))

    def unpack(self, memory: Memory) -> LinearAttentionCarry:
        return LinearAttentionCarry(memory.matrix[..., :-1], memory.matrix[..., -1])

    run_chunk, chunk_carries = outer_chunk, outer_carries

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[LinearAttentionCarry, jax.Array]:
        check_params(self, params, ("query", "key", "value"))
        n, k = self.heads, self.size
        shapes = (n, k, self.features // n), (n, k)
        check_linear_step(self, params, carry, x, params["value"].shape[0], *shapes, kind=LinearAttentionCarry)
        return outer_step(self, params, carry, x)
