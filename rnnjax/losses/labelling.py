"""Linear-chain conditional random fields: labels of a sequence judged together."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import check_tokens
from rnnjax.engine import scan
from rnnjax.seq2seq.chain import NEVER, read_chain
from rnnjax.wrappers.lookup import lookup


def crf(
    logits: Any, labels: Any, transitions: Any, *, start: Any = None, end: Any = None, lengths: Any = None
) -> jax.Array:
    """``-log p(labels)`` of a linear chain, in nats: how good the labels of a sequence are among all sequences of labels.

    ``score(y) = start[y_0] + sum_t logits_t[y_t] + sum_t transitions[y_{t-1}, y_t] + end[y_last]``;
    ``loss = log sum over all y' of exp score(y') - score(y)``.

    logits: ``[T, *B, V]``, any network's. labels: integers ``[T, *B]``. transitions: ``[V, V]``, learned, from row to column.
    start, end: ``[V]``, learned, or None for zeros. A score of -inf forbids; labels that are forbidden have loss inf and a
    gradient of zero. lengths: ``[*B]``; what lies beyond changes nothing, and a sequence of length 0 has loss 0.
    Returns ``[*B]``. `rnnjax.seq2seq.viterbi` finds the best labels.
    Errors: ValueError/TypeError for shapes that do not fit and for labels outside ``0..V-1`` where they are known.
    Source: Lafferty, McCallum, Pereira 2001; Huang, Xu, Yu 2015, arXiv:1508.01991, on top of a bidirectional LSTM.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> logits, stay = jnp.zeros((3, 2)), jnp.array([[0.0, -jnp.inf], [-jnp.inf, 0.0]])     # 000 or 111
    >>> float(jnp.exp(-rj.losses.crf(logits, jnp.array([1, 1, 1]), stay)))
    0.5
    """
    logits, transitions, start, end, valid = read_chain("crf", logits, transitions, start, end, lengths)
    if jnp.shape(labels) != logits.shape[:-1]:
        raise ValueError(f"crf: logits {logits.shape} need labels [T, *B] {logits.shape[:-1]}, got {jnp.shape(labels)}")
    labels = check_tokens("crf", "labels", labels, logits.shape[-1], valid)
    if not len(logits):
        return jnp.zeros(labels.shape[1:], logits.dtype)

    def forward(alpha: jax.Array, step: Any) -> tuple[jax.Array, None]:
        z, on = step
        new = z + jax.nn.logsumexp(alpha[..., :, None] + transitions, axis=-2)
        return jnp.where(on[..., None], new, alpha), None

    alpha, _ = scan(forward, logits[0] + start, (logits[1:], valid[1:]))
    labels = jnp.where(valid, labels, jnp.zeros_like(labels))
    loss = jax.nn.logsumexp(alpha + end, axis=-1) - _score(logits, labels, transitions, start, end, valid)
    return jnp.where(valid[0], jnp.where(loss < -0.1 * NEVER, loss, jnp.inf), jnp.zeros_like(loss))


def _score(logits: Any, labels: Any, transitions: Any, start: Any, end: Any, valid: Any) -> jax.Array:
    """The score of these labels; a label counts where it is valid, a transition where the label after it is."""
    emitted = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    moves = lookup(transitions.reshape(-1), labels[:-1] * logits.shape[-1] + labels[1:])
    last = valid & ~jnp.concatenate([valid[1:], jnp.zeros_like(valid[:1])])
    parts = [(emitted, valid), (moves, valid[1:]), (lookup(end, labels), last)]
    return lookup(start, labels[0]) + sum(jnp.where(on, a, jnp.zeros_like(a)).sum(0) for a, on in parts)
