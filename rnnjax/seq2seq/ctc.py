"""Labels out of logits trained by `rnnjax.losses.ctc`."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnjax.seq2seq.checks import check_lengths, check_logits, check_whole, widened


def ctc_greedy(logits: Any, *, lengths: Any = None, blank: int = 0) -> tuple[jax.Array, jax.Array]:
    """The labels of the most probable alignment: the best of every step, equal neighbours once, blanks out.

    logits: ``[T, *B, V]``. lengths: ``[*B]``; what lies beyond changes nothing. Returns labels ``[T, *B]``, ``blank`` after
    the last, and lengths ``[*B]``. Errors: ValueError/TypeError for a blank or lengths that do not fit.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> labels, length = rj.seq2seq.ctc_greedy(jnp.eye(3)[jnp.array([0, 1, 1, 0, 1, 2])])
    >>> labels.tolist(), int(length)
    ([1, 1, 2, 0, 0, 0], 3)
    """
    logits = jnp.asarray(logits)
    check_logits("ctc_greedy", logits, blank)
    lengths = check_lengths("ctc_greedy", "lengths", lengths, logits.shape[:-1], logits)
    best = logits.argmax(-1)
    valid = jnp.arange(len(logits)).reshape(-1, *(1,) * (best.ndim - 1)) < lengths
    before = jnp.concatenate([jnp.full_like(best[:1], blank), best[:-1]])
    kept = valid & (best != blank) & (best != before)
    labels = jax.lax.sort([~kept, jnp.where(kept, best, blank)], dimension=0, is_stable=True, num_keys=1)[1]
    return labels, kept.sum(0)


class _Prefixes(NamedTuple):
    """K prefixes of a row: labels ``[K, T]``, how many, log p of all alignments that end in blank, and in a label."""

    labels: jax.Array
    lengths: jax.Array
    blank: jax.Array
    label: jax.Array


def ctc_beam(logits: Any, *, lengths: Any = None, beams: int, blank: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The most probable labels that a beam over prefixes finds; their scores sum over all alignments that the beam kept.

    logits: ``[T, *B, V]``. lengths: ``[*B]``; what lies beyond changes nothing. Returns labels ``[beams, T, *B]``, ``blank``
    after the last, lengths and scores ``[beams, *B]``, best first: ``log p(labels)``, exact where ``beams`` are at least all
    prefixes. Places without labels of their own have score -inf, length 0, and come last.
    Errors: ValueError/TypeError for beams below 1, a blank or lengths that do not fit.
    Source: Graves and Jaitly 2014; Hannun et al. 2014, arXiv:1408.2873, algorithm 1, without a language model.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> logits = jnp.log(jnp.array([[0.6, 0.4], [0.6, 0.4]]))          # best alignment: blanks, 0.36
    >>> labels, lengths, scores = rj.seq2seq.ctc_beam(logits, beams=2)
    >>> labels.tolist(), [round(float(p), 2) for p in jnp.exp(scores)]
    ([[1, 0], [0, 0]], [0.64, 0.36])
    """
    logits = jnp.asarray(logits)
    check_logits("ctc_beam", logits, blank)
    lengths = check_lengths("ctc_beam", "lengths", lengths, logits.shape[:-1], logits)
    beams = check_whole("ctc_beam", "beams", beams, 1)
    log_p = jax.nn.log_softmax(widened(logits))

    def row(log_p: jax.Array, length: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        time = len(log_p)
        none = jnp.full(beams, -jnp.inf, log_p.dtype)
        start = _Prefixes(jnp.full((beams, time), blank), jnp.zeros(beams, int), none.at[0].set(0.0), none)
        start = jax.tree.map(
            lambda a: a + (0 * length).astype(a.dtype), start
        )  # one for every row, and placed as the rows are

        def body(old: _Prefixes, step: Any) -> tuple[_Prefixes, None]:
            p, t = step
            new = _extend(old, p, blank)
            return jax.tree.map(lambda a, b: jnp.where(t < length, a, b), new, old), None

        last, _ = jax.lax.scan(body, start, (log_p, jnp.arange(time)))
        scores, place = jax.lax.top_k(jnp.logaddexp(last.blank, last.label), beams)
        real = scores > -jnp.inf
        labels = jnp.where(real[:, None], last.labels[place], blank)
        return labels, jnp.where(real, last.lengths[place], 0), scores

    for _ in range(lengths.ndim):
        row = jax.vmap(row, (1, 0), (2, 1, 1))
    return row(log_p, lengths)


def _extend(old: _Prefixes, p: jax.Array, blank: int) -> _Prefixes:
    """One step of log probabilities ``p [V]``: every prefix stays or takes one label; prefixes that meet are added up."""
    beams, vocabulary = len(old.blank), len(p)
    last = jnp.where(old.lengths > 0, jnp.take_along_axis(old.labels, _at(old.lengths - 1)[:, None], 1)[:, 0], -1)
    total = jnp.logaddexp(old.blank, old.label)
    repeats = last[:, None] == jnp.arange(vocabulary)
    longer = jnp.where(repeats, old.blank[:, None], total[:, None]) + p
    longer = jnp.where(jnp.arange(vocabulary) == blank, -jnp.inf, longer)
    stays_label = jnp.where(old.lengths > 0, old.label + p[_at(last)], -jnp.inf)
    child = (
        _is_child(old, blank) & (total > -jnp.inf) & (total > -jnp.inf)[:, None]
    )  # [i, j]: j is i and one label more
    met = jnp.where(child, longer[:, _at(last)], -jnp.inf)
    stays = _Prefixes(old.labels, old.lengths, total + p[blank], jnp.logaddexp(stays_label, met.max(0)))
    taken = (child[:, :, None] & repeats[None]).any(1)
    longer = jnp.where(taken, -jnp.inf, longer)
    scores = jnp.concatenate([jnp.logaddexp(stays.blank, stays.label)[:, None], longer], 1)
    _, place = jax.lax.top_k(scores.reshape(-1), beams)
    parent, label = place // (vocabulary + 1), place % (vocabulary + 1) - 1
    grown = label >= 0
    here = jnp.arange(old.labels.shape[1]) == old.lengths[parent][:, None]
    return _Prefixes(
        jnp.where(grown[:, None] & here, label[:, None], old.labels[parent]),
        jnp.where(grown, old.lengths[parent] + 1, old.lengths[parent]),
        jnp.where(grown, -jnp.inf, stays.blank[parent]),
        jnp.where(grown, longer[parent, _at(label)], stays.label[parent]),
    )


def _at(place: jax.Array) -> jax.Array:
    return jnp.maximum(place, 0)


def _is_child(old: _Prefixes, blank: int) -> jax.Array:
    """``[i, j]``: the labels of j are those of i and one more."""
    here = jnp.arange(old.labels.shape[1]) == (old.lengths - 1)[:, None]
    shorter = jnp.where(here, blank, old.labels)  # each without its last label
    equal = (old.labels[:, None] == shorter[None]).all(-1)
    return equal & (old.lengths[:, None] + 1 == old.lengths[None])
