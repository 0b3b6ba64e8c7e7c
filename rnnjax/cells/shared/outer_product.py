"""Cells whose state is a matrix that each step writes an outer product into, and their form in parallel within a chunk.

``S' = a S + w k v^T`` (linear attention), or ``S' = a S + b k (v - a S^T k)^T`` (the delta rule); the read is ``S'^T q``. Kept for every
step, S would take T matrices; a chunk of C steps needs C x C weights instead. With ``g_t = sum_{s <= t} log a_s``:
``S_t = exp(g_t) S_0 + sum_{s <= t} exp(g_t - g_s) w_s k_s v_s^T``. For the delta rule the values ``u_s = b_s (v_s - a_s S_{s-1}^T k_s)``
that are really written solve a triangular system (the WY form). With a stabiliser, S is kept divided by ``exp(m)``.

A cell gives ``writes(params, x)``, ``finish(params, read, stabiliser, x)``, ``pack(carry)`` and ``unpack(carry parts)``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.base import step_dtype, wide
from rnnjax.carry_maps import lead
from rnnjax.linear_algebra import unit_lower_solve


class Write(NamedTuple):
    """What one step does to the memory of each head; ``N`` heads, ``K`` and ``V`` sizes of keys and values.

    key, query ``[*B, N, K]``; value ``[*B, N, V]``; log_decay ``[*B, N]``: log a <= 0. rate ``[*B, N]``: b of the delta rule, or None.
    log_write ``[*B, N]``: log w, with a stabiliser in the carry, or None for w = 1.
    """

    key: jax.Array
    value: jax.Array
    query: jax.Array
    log_decay: jax.Array
    rate: Any = None
    log_write: Any = None


class Memory(NamedTuple):
    """matrix ``[*B, N, K, V]``; stabiliser m ``[*B, N]``, or None: what is kept is ``exp(-m)`` times what is meant."""

    matrix: jax.Array
    stabiliser: Any = None


def outer_step(cell: Any, params: Any, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """One ordinary step."""
    w = jax.tree.map(wide, cell.writes(params, x))
    memory, m = jax.tree.map(wide, cell.pack(carry))
    decay, write = jnp.exp(w.log_decay), None
    if w.log_write is not None:
        new_m = jnp.maximum(w.log_decay + m, w.log_write)
        decay, write, m = jnp.exp(w.log_decay + m - new_m), jnp.exp(w.log_write - new_m), new_m
    value = w.value if write is None else write[..., None] * w.value
    memory = decay[..., None, None] * memory
    if w.rate is not None:
        value = w.rate[..., None] * (value - _read(memory, w.key))
    memory = memory + w.key[..., :, None] * value[..., None, :]
    y = cell.finish(params, _read(memory, w.query), m, x)
    return _like(cell.unpack(Memory(memory, m)), carry), y.astype(step_dtype(params, x))


def outer_chunk(
    cell: Any, params: Any, start: Any, fresh: Any, xs: jax.Array, valid: Any, reset: Any
) -> tuple[Any, jax.Array]:
    """All steps of ``xs [T, *B, I]`` at once: ``(last carry, ys)``. ``fresh``: the carry that a reset restores."""
    w, value, plan, old, new = _in_chunk(cell, params, start, fresh, xs, valid, reset)
    scores = jnp.einsum("...td,...sd->...ts", w.query, w.key) * plan.weights
    reads = scores @ value + plan.base[..., None] * _from_start(w.query, plan, old, new)
    last = _last_memory(w.key, value, plan, old, new)
    ys = cell.finish(params, _time_first(_poison(reads, plan.bad)), _stabilisers(plan), xs)
    return _like(cell.unpack(last), start), ys.astype(step_dtype(params, xs))


def outer_carries(cell: Any, params: Any, start: Any, fresh: Any, xs: jax.Array, valid: Any, reset: Any) -> Any:
    """The carry after every step of a chunk, with a leading time axis."""
    w, value, plan, old, new = _in_chunk(cell, params, start, fresh, xs, valid, reset)
    begun = jnp.where(plan.first[..., None, None], old.matrix[..., None, :, :], new.matrix[..., None, :, :])
    written = jnp.einsum("...ts,...sk,...sv->...tkv", plan.weights, w.key, value)
    matrix = plan.base[..., None, None] * begun + written
    matrix = jnp.moveaxis(jnp.where(plan.bad[..., None, None], jnp.nan, matrix), -3, 0)
    return _like(cell.unpack(Memory(matrix, _stabilisers(plan))), start)


def _in_chunk(
    cell: Any, params: Any, start: Any, fresh: Any, xs: jax.Array, valid: Any, reset: Any
) -> tuple[Write, jax.Array, _Plan, Memory, Memory]:
    """What the steps of a chunk write: the writes, the values really written, what is left of them; the two starts."""
    w = _time_last(jax.tree.map(wide, cell.writes(params, xs)))
    old, new = (jax.tree.map(wide, cell.pack(c)) for c in (start, fresh))
    w, plan = _plan(w, old, new, valid, reset)
    return w, w.value if w.rate is None else _written(w, plan, old, new), plan, old, new


def _read(memory: jax.Array, query: jax.Array) -> jax.Array:
    return jnp.einsum("...kv,...k->...v", memory, query)


def _like(carry: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: a.astype(b.dtype), carry, old)


# -- inside a chunk: time is the last axis of scalars [..., N, T] and the last but one of vectors [..., N, T, K] ---------


class _Plan(NamedTuple):
    """weights ``[..., N, T, T]``: what of write s is left at t. base ``[..., N, T]``: what of the start is left at t.

    first ``[..., N, T]``: no reset yet, so that the start is the carry and not the fresh one. bad: a NaN or infinity was
    written and not reset since. stabiliser ``[..., N, T]``, or None.
    """

    weights: jax.Array
    base: jax.Array
    first: jax.Array
    bad: jax.Array
    stabiliser: Any


def _time_last(w: Write) -> Write:
    return Write(
        *(None if a is None else jnp.moveaxis(a, 0, -2 if i < 3 else -1) for i, a in enumerate(w)),
    )


def _time_first(y: jax.Array) -> jax.Array:
    return jnp.moveaxis(y, -2, 0)


def _flags(flags: Any, like: jax.Array, default: bool) -> jax.Array:
    """``[T, *B]`` as ``[*B, N, T]``."""
    if flags is None:
        return jnp.full(like.shape, default)
    flags = lead(flags, like.ndim)
    return jnp.broadcast_to(jnp.moveaxis(flags, 0, -1), like.shape)


def _plan(w: Write, old: Memory, new: Memory, valid: Any, reset: Any) -> tuple[Write, _Plan]:
    """The writes without what is not finite, and what of each is left at every later step."""
    valid, reset = _flags(valid, w.log_decay, True), _flags(reset, w.log_decay, False)
    w, bad = _clean(w, valid)
    g, segment = jnp.cumsum(w.log_decay, axis=-1), jnp.cumsum(reset, axis=-1)
    time = jnp.arange(g.shape[-1])
    begin = jax.lax.cummax(jnp.where(reset, time, -1), axis=g.ndim - 1)
    before = jnp.where(begin < 0, 0, jnp.take_along_axis(g - w.log_decay, jnp.maximum(begin, 0), axis=-1))
    same = (segment[..., :, None] == segment[..., None, :]) & (time[:, None] >= time) & valid[..., None, :]
    log_w, log_base, m = g[..., :, None] - g[..., None, :], g - before, None
    if w.log_write is not None:
        log_base = log_base + jnp.where(segment == 0, old.stabiliser[..., None], new.stabiliser[..., None])
        log_w = jnp.where(same, log_w + w.log_write[..., None, :], -jnp.inf)
        m = jnp.maximum(log_base, log_w.max(-1))
        log_base, log_w = log_base - m, log_w - m[..., None]
    weights = jnp.where(same, jnp.exp(jnp.where(same, log_w, 0)), 0)
    reached = jnp.any(same & bad[..., None, :], axis=-1)
    return w, _Plan(weights, jnp.exp(log_base), segment == 0, reached, m)


def _clean(w: Write, valid: jax.Array) -> tuple[Write, jax.Array]:
    """Steps left out write and forget nothing. What is not finite is taken out and marked, so that 0 * NaN cannot spread it."""
    bad = jnp.zeros(valid.shape, bool)
    for i, a in enumerate(w):
        if a is not None and i != 2:
            bad = bad | (~jnp.isfinite(a).all(-1) if i < 2 else ~jnp.isfinite(a))
    keep = valid & ~bad

    def kept(a: Any) -> Any:
        return None if a is None else jnp.where(lead(keep, a.ndim), a, 0)

    cleaned = w._replace(
        key=kept(w.key),
        value=kept(w.value),
        log_decay=kept(w.log_decay),
        rate=kept(w.rate),
        log_write=kept(w.log_write),
    )
    return cleaned, bad & valid


def _from_start(z: jax.Array, plan: _Plan, old: Memory, new: Memory) -> jax.Array:
    """``S^T z_t`` with the memory that the segment of t started from."""
    return jnp.where(plan.first[..., None], z @ old.matrix, z @ new.matrix)


def _written(w: Write, plan: _Plan, old: Memory, new: Memory) -> jax.Array:
    """u: ``(1 + diag(b) tril(weights * k k^T, -1)) u = b (v - base S^T k)``."""
    rate = w.rate[..., None]
    overlap = jnp.einsum("...td,...sd->...ts", w.key, w.key) * plan.weights
    # A start that is not finite shows in the reads; here it would pass a reset, as the solver multiplies by zeros.
    old = old._replace(matrix=jnp.where(jnp.isfinite(old.matrix), old.matrix, jnp.zeros_like(old.matrix)))
    right = rate * (w.value - plan.base[..., None] * _from_start(w.key, plan, old, new))
    return unit_lower_solve(rate * overlap, right)


def _last_memory(key: jax.Array, value: jax.Array, plan: _Plan, old: Memory, new: Memory) -> Memory:
    begun = jnp.where(plan.first[..., -1, None, None], old.matrix, new.matrix)
    written = jnp.einsum("...s,...sk,...sv->...kv", plan.weights[..., -1, :], key, value)
    matrix = plan.base[..., -1, None, None] * begun + written
    matrix = jnp.where(plan.bad[..., -1, None, None], jnp.nan, matrix)
    return Memory(matrix, None if plan.stabiliser is None else plan.stabiliser[..., -1])


def _poison(reads: jax.Array, bad: jax.Array) -> jax.Array:
    return jnp.where(bad[..., None], jnp.nan, reads)


def _stabilisers(plan: _Plan) -> Any:
    return None if plan.stabiliser is None else jnp.moveaxis(plan.stabiliser, -1, 0)
