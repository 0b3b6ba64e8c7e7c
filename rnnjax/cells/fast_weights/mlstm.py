"""mLSTM of xLSTM: an LSTM with exponential gates and a matrix memory."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.activations import FORGET
from rnnjax.base import Key, cell, check_choice, check_input, check_params, param_dtype, zeros_like_step
from rnnjax.cells.catalogue import published
from rnnjax.cells.shared.checks import check_linear_step
from rnnjax.cells.shared.heads import check_heads, flat, heads, key_size, projections
from rnnjax.cells.shared.outer_product import Memory, Write, outer_carries, outer_chunk, outer_step


class MLSTMCarry(NamedTuple):
    """memory ``[*B, N, K, V]`` and normaliser ``[*B, N, K]``, both times ``exp(-m)``; stabiliser m ``[*B, N]``."""

    memory: jax.Array
    normaliser: jax.Array
    stabiliser: jax.Array


@published(family="xLSTM", paper="Beck et al. 2024, arXiv:2405.04517", year=2024)
@cell
class MLSTM:
    """The LSTM of xLSTM with a matrix memory, written and read by keys.

    ``q, k, v = x W_q, x W_k / sqrt(K), x W_v``; ``i = exp(x w_i + b_i)``; ``f = sigmoid(x w_f + b_f)`` (or exp);
    ``C' = f C + i k v^T``; ``n' = f n + i k``; ``y = sigmoid(x W_o + b_o) C'^T q / max(|n' . q|, 1)``; all of it for each
    head on its own.
    Kept in the carry are ``exp(-m) C`` and ``exp(-m) n`` with ``m' = max(log f + m, log i)``, so that nothing overflows.

    features: H. heads: N, dividing H. key_features: K of each head, default H / N. forget: "sigmoid" or "exp".
    chunk_size: steps at a time for ``method="associative"`` (no effect on values).
    params: ``query``, ``key`` ``[I, N K]``, ``value`` ``[I, H]``, ``gates`` ``[I, 2N]`` and ``gates_bias`` (input, forget),
    ``output_gate`` ``[I, H]`` and ``output_gate_bias``. carry: ``MLSTMCarry(memory, normaliser, stabiliser)``, the memory
    transposed to the paper's. y: ``[*B, H]``.

    Start: biases of the forget gate from 3 to 6 over the heads, as the authors'. The norm after the cell is left to the block round it.
    Linear in time. Errors: as `SLSTM`. Source: Beck et al. 2024, arXiv:2405.04517, section 2.3.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> cell, xs = rj.MLSTM(4, heads=2), jnp.ones((5, 3))
    >>> carry, ys = rj.unroll(cell, cell.init(jax.random.key(0), xs[0]), xs, method="associative")
    >>> carry.memory.shape, ys.shape
    ((2, 2, 2), (5, 4))
    """

    features: int
    _: KW_ONLY
    heads: int = 1
    key_features: int | None = None
    forget: str = "sigmoid"
    chunk_size: int = 64

    def __post_init__(self) -> None:
        check_heads(self)
        check_choice("MLSTM", "forget", self.forget, FORGET)

    size = key_size

    def init(self, key: jax.Array, x: Any) -> dict[str, jax.Array]:
        check_input(self, x)
        k_proj, k_gates, k_out = jax.random.split(key, 3)
        i, n, dtype = x.shape[-1], self.heads, param_dtype(x)
        return projections(self, k_proj, x) | {
            "gates": initializers.lecun(k_gates, (i, 2 * n), dtype),
            "gates_bias": jnp.concatenate([jnp.zeros(n), jnp.linspace(3.0, 6.0, n)]).astype(dtype),
            "output_gate": initializers.lecun(k_out, (i, self.features), dtype),
            "output_gate_bias": jnp.zeros(self.features, dtype),
        }

    def initial_carry(self, params: Any, x: Any) -> MLSTMCarry:
        n, k, v = self.heads, self.size, self.features // self.heads
        return MLSTMCarry(*(zeros_like_step(params, x, *shape) for shape in ((n, k, v), (n, k), (n,))))

    def writes(self, params: Any, x: jax.Array) -> Write:
        q, k, v = (heads(x @ params[name], self.heads) for name in ("query", "key", "value"))
        log_i, f = jnp.split(x @ params["gates"] + params["gates_bias"], 2, axis=-1)
        v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)  # the normaliser is one more value
        return Write(k / self.size**0.5, v, q, FORGET[self.forget](f), log_write=log_i)

    def finish(self, params: Any, read: jax.Array, stabiliser: jax.Array, x: jax.Array) -> jax.Array:
        o = jax.nn.sigmoid(x @ params["output_gate"] + params["output_gate_bias"])
        # |n . q| and 1, both times exp(-m), and where m < 0 all times exp(m): no power of e is above one. Where m is huge, 1 is
        # as good as nothing beside |n . q|, but for q = 0, whose gradient it bounds.
        top = -0.45 * math.log(jnp.finfo(read.dtype).tiny)
        m = jnp.minimum(stabiliser, top)[..., None]
        read = jnp.exp(jnp.minimum(m, 0)) * read
        read = read[..., :-1] / jnp.maximum(jnp.abs(read[..., -1:]), jnp.exp(-jnp.maximum(m, 0)))
        return o.astype(read.dtype) * flat(read)

    def pack(self, carry: MLSTMCarry) -> Memory:
        return Memory(jnp.concatenate([carry.memory, carry.normaliser[..., None]], axis=-1), carry.stabiliser)

    def unpack(self, memory: Memory) -> MLSTMCarry:
        return MLSTMCarry(memory.matrix[..., :-1], memory.matrix[..., -1], memory.stabiliser)

    run_chunk, chunk_carries = outer_chunk, outer_carries

    def __call__(self, params: Any, carry: Any, x: Any, key: Key = None) -> tuple[MLSTMCarry, jax.Array]:
        check_params(self, params, ("query", "key", "value", "gates", "output_gate"))
        n, k, v = self.heads, self.size, self.features // self.heads
        check_linear_step(self, params, carry, x, params["value"].shape[0], (n, k, v), (n, k), (n,), kind=MLSTMCarry)
        return outer_step(self, params, carry, x)
