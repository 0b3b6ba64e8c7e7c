"""Linear chains of labels: the best one by Viterbi's algorithm. Their loss is `rnnjax.losses.crf`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.seq2seq.checks import check_lengths, check_logits, widened

NEVER = -1e30  # log 0 that can be added to itself


def viterbi(
    logits: Any, transitions: Any, *, start: Any = None, end: Any = None, lengths: Any = None
) -> tuple[jax.Array, jax.Array]:
    """The labels with the best score of a linear chain, and that score.

    ``argmax and max over y of start[y_0] + sum_t logits_t[y_t] + sum_t transitions[y_{t-1}, y_t] + end[y_last]``.

    Arguments as for `rnnjax.losses.crf`. Returns labels ``[T, *B]``, 0 beyond the lengths, and scores ``[*B]``.
    Errors: ValueError/TypeError for shapes that do not fit. Source: Viterbi 1967.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> logits, stay = jnp.array([[3.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), jnp.array([[0.0, -2.0], [-2.0, 0.0]])
    >>> labels, score = rj.seq2seq.viterbi(logits, stay)
    >>> labels.tolist(), float(score)
    ([0, 0, 0], 3.0)
    """
    logits, transitions, start, end, valid = read_chain("viterbi", logits, transitions, start, end, lengths)
    if not len(logits):
        return jnp.zeros(logits.shape[:-1], int), jnp.zeros(logits.shape[1:-1], logits.dtype)

    def forward(best: jax.Array, step: Any) -> tuple[jax.Array, jax.Array]:
        z, on = step
        through = best[..., :, None] + transitions
        new = z + through.max(-2)
        came_from = jnp.where(on[..., None], through.argmax(-2), jnp.arange(logits.shape[-1]))
        return jnp.where(on[..., None], new, best), came_from

    def back(label: jax.Array, came_from: jax.Array) -> tuple[jax.Array, jax.Array]:
        before = jnp.take_along_axis(came_from, label[..., None], axis=-1)[..., 0]
        return before, label

    best, came_from = jax.lax.scan(forward, logits[0] + start, (logits[1:], valid[1:]))
    best = best + end
    first, rest = jax.lax.scan(back, best.argmax(-1), came_from, reverse=True)
    labels = jnp.concatenate([first[None], rest])
    score = best.max(-1)
    score = jnp.where(score > 0.1 * NEVER, score, -jnp.inf)
    return jnp.where(valid, labels, jnp.zeros_like(labels)), jnp.where(valid[0], score, jnp.zeros_like(score))


def read_chain(owner: str, logits: Any, transitions: Any, start: Any, end: Any, lengths: Any) -> tuple[Any, ...]:
    """Checked logits, transitions, start, end, and where steps are valid ``[T, *B]``.

    Of 32 bits at least, finite (-inf becomes a very large number), logits zero where a step is not valid.
    """
    logits = jnp.asarray(logits)
    check_logits(owner, logits)
    logits = widened(logits)
    count, dtype = logits.shape[-1], logits.dtype

    def read(name: str, scores: Any, shape: tuple[int, ...], axes: str) -> jax.Array:
        scores = jnp.zeros(shape, dtype) if scores is None else jnp.asarray(scores).astype(dtype)
        if scores.shape != shape:
            raise ValueError(
                f"{owner}: {name} must be {axes} with V = {count} as logits have, got shape {scores.shape}"
            )
        return jnp.maximum(scores, NEVER)

    lengths = check_lengths(owner, "lengths", lengths, logits.shape[:-1], logits)
    valid = jnp.arange(len(logits)).reshape(-1, *(1,) * (logits.ndim - 2)) < lengths
    logits = jnp.maximum(jnp.where(valid[..., None], logits, jnp.zeros_like(logits)), NEVER)
    chain = read("transitions", transitions, (count, count), "[V, V]")
    return logits, chain, read("start", start, (count,), "[V]"), read("end", end, (count,), "[V]"), valid
