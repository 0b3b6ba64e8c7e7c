"""Attention of a decoder to a memory that does not change over time: additive and multiplicative."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax import initializers
from rnnjax.base import Params, wide

ATTENTIONS = ("additive", "multiplicative")


class Memory(NamedTuple):
    """What is attended to: values ``[*B, S, M]``, an encoder's outputs; keys ``[*B, S, A]``, formed of them once; valid
    ``[*B, S]``: which of them are no padding, None where there is none."""

    values: jax.Array
    keys: jax.Array
    valid: jax.Array | None = None


def attention_params(kind: str, key: jax.Array, hidden: int, memory: int, dtype: Any) -> Params:
    """``memory`` U ``[M, H]``; additive: ``query`` W ``[H, H]``, ``bias`` b ``[H]``, ``score`` v ``[H]`` too, so A = H.

    A bias of the multiplicative keys, or one added to a score, would shift all scores of a query alike, and never learn.
    """
    k_memory, k_query, k_score = jax.random.split(key, 3)
    params = {"memory": initializers.lecun(k_memory, (memory, hidden), dtype)}
    if kind == "multiplicative":
        return params
    return params | {
        "query": initializers.lecun(k_query, (hidden, hidden), dtype),
        "bias": jnp.zeros(hidden, dtype),
        "score": initializers.lecun(k_score, (hidden, 1), dtype)[:, 0],
    }


def remember(params: Params, values: jax.Array, valid: jax.Array | None) -> Memory:
    """The memory of values ``[*B, S, M]``: all that attention needs of it that no query changes."""
    keys = values @ params["memory"]
    return Memory(values, keys + params["bias"] if "bias" in params else keys, valid)


def attend(params: Params, queries: jax.Array, memory: Memory) -> tuple[jax.Array, jax.Array]:
    """Contexts ``[*B, T, M]`` and weights ``[*B, T, S]`` of queries ``[*B, T, H]``."""
    weights = shares(scores(params, queries, memory.keys), memory.valid)
    return weights @ memory.values, weights


def attend_once(params: Params, query: jax.Array, memory: Memory) -> tuple[jax.Array, jax.Array]:
    """The context ``[*B, M]`` and weights ``[*B, S]`` of one query ``[*B, H]``."""
    context, weights = attend(params, query[..., None, :], memory)
    return context[..., 0, :], weights[..., 0, :]


def scores(params: Params, queries: jax.Array, keys: jax.Array) -> jax.Array:
    """``[*B, T, S]``: ``v . tanh(q W + k)`` where there is a v, else ``q . k``."""
    if "score" not in params:
        return queries @ jnp.swapaxes(keys, -1, -2)
    q = queries @ params["query"]
    return jnp.tanh(q[..., :, None, :] + keys[..., None, :, :]) @ params["score"]


def shares(scores: jax.Array, valid: jax.Array | None) -> jax.Array:
    """The softmax over the last axis among what is valid; exactly 0 elsewhere, and where nothing is valid."""
    if scores.shape[-1] == 0:
        return scores
    if valid is None:
        return _softmax(scores)
    valid = valid[..., None, :]
    lowest = jnp.full_like(scores, jnp.finfo(scores.dtype).min)  # finite: a row with nothing valid has a gradient, zero
    return jnp.where(valid, _softmax(jnp.where(valid, scores, lowest)), jnp.zeros_like(scores))


def _softmax(scores: jax.Array) -> jax.Array:
    return jax.nn.softmax(wide(scores), axis=-1).astype(scores.dtype)
