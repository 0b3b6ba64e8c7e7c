"""Decoding of CTC against all alignments and a decoder written in plain Python."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj

T, B, V = 4, 3, 3
LOGITS = np.random.default_rng(0).normal(size=(T, B, V)).astype(np.float32)
LENGTHS = np.array([4, 2, 0])


def collapse(alignment, blank):
    return tuple(a for a, _ in itertools.groupby(alignment) if a != blank)


def all_labels(logits, blank):
    """`{labels: probability}` over all V^T alignments of a row."""
    p, total = np.exp(logits.astype(float)), {}
    p /= p.sum(-1, keepdims=True)
    for alignment in itertools.product(range(V), repeat=len(p)):
        labels = collapse(alignment, blank)
        total[labels] = total.get(labels, 0.0) + np.prod(p[np.arange(len(p)), list(alignment)])
    return total


@pytest.mark.parametrize("blank", [0, 2])
def test_beam_over_all_prefixes_is_the_sum_over_alignments(blank):
    junk = np.where(np.arange(T)[:, None, None] < LENGTHS[:, None], LOGITS, np.nan).astype(np.float32)
    search = jax.jit(lambda z: rj.seq2seq.ctc_beam(z, lengths=LENGTHS, beams=40, blank=blank))
    labels, lengths, scores = map(np.asarray, search(junk))
    for b in range(B):
        want = sorted(all_labels(LOGITS[: LENGTHS[b], b], blank).items(), key=lambda item: -item[1])
        for k, (word, p) in enumerate(want):
            assert tuple(labels[k, : lengths[k, b], b]) == word
            assert (labels[k, lengths[k, b] :, b] == blank).all()
            np.testing.assert_allclose(scores[k, b], np.log(p), rtol=1e-4, atol=1e-6)
        rest = slice(len(want), None)
        assert np.isneginf(scores[rest, b]).all() and not lengths[rest, b].any() and (labels[rest, :, b] == blank).all()


def prefix_beam(logits, beams):
    """Hannun's algorithm with a dictionary of prefixes."""
    p = np.exp(logits.astype(float) - np.log(np.exp(logits.astype(float)).sum(-1, keepdims=True)))
    table = {(): (1.0, 0.0)}
    for step in p:
        new = {}
        for prefix, (on_blank, on_label) in table.items():
            for c in range(len(step)):
                if c == 0:
                    moves = [(prefix, (on_blank + on_label) * step[0], 0.0)]
                elif prefix and prefix[-1] == c:
                    moves = [(prefix, 0.0, on_label * step[c]), ((*prefix, c), 0.0, on_blank * step[c])]
                else:
                    moves = [((*prefix, c), 0.0, (on_blank + on_label) * step[c])]
                for word, a, b in moves:
                    old = new.get(word, (0.0, 0.0))
                    new[word] = old[0] + a, old[1] + b
        table = dict(sorted(new.items(), key=lambda item: -sum(item[1]))[:beams])
    return {word: sum(pair) for word, pair in table.items()}


def test_a_narrow_beam_is_that_of_a_dictionary_and_batches_are_rows():
    logits = 2 * np.random.default_rng(1).normal(size=(9, 4, 5)).astype(np.float32)
    search = jax.jit(lambda z: rj.seq2seq.ctc_beam(z, beams=4))
    labels, lengths, scores = map(np.asarray, search(logits))
    for b in range(4):
        for k, (word, p) in enumerate(prefix_beam(logits[:, b], 4).items()):
            assert tuple(labels[k, : lengths[k, b], b]) == word
            np.testing.assert_allclose(scores[k, b], np.log(p), rtol=1e-4)
    for got in (
        jax.vmap(search, 1, -1)(logits),
        [a.reshape(*a.shape[:-2], 4) for a in search(logits.reshape(9, 2, 2, 5))],
    ):
        for a, want in zip(got, (labels, lengths, scores), strict=True):
            np.testing.assert_allclose(a, want, rtol=1e-5)


def test_greedy_is_the_best_alignment_collapsed():
    logits = np.random.default_rng(2).normal(size=(8, 5, 3)).astype(np.float32)
    counts = np.array([8, 5, 1, 0, 7])
    for blank in (0, 1):
        labels, lengths = map(np.asarray, rj.seq2seq.ctc_greedy(logits, lengths=counts, blank=blank))
        for b in range(5):
            want = collapse(logits[: counts[b], b].argmax(-1), blank)
            assert lengths[b] == len(want)
            assert tuple(labels[:, b]) == want + (blank,) * (8 - len(want))


def test_lengths_known_before_jit_are_read_there():
    counts = jnp.array([4, 2, 0])
    labels, lengths = jax.jit(lambda z: rj.seq2seq.ctc_greedy(z, lengths=counts))(LOGITS)
    for b in range(B):
        assert int(lengths[b]) == len(collapse(LOGITS[: LENGTHS[b], b].argmax(-1), 0))
    more = counts + 1
    with pytest.raises(ValueError, match=r"must lie in 0\.\.4, got 1\.\.5"):
        jax.jit(lambda z: rj.seq2seq.ctc_greedy(z, lengths=more))(LOGITS)


def test_bad_input():
    for error, message, call in [
        (ValueError, "ctc_beam: beams must be at least 1, got 0", lambda: rj.seq2seq.ctc_beam(LOGITS, beams=0)),
        (TypeError, "ctc_beam: beams must be an int", lambda: rj.seq2seq.ctc_beam(LOGITS, beams=2.0)),
        (ValueError, "blank must be one of 0..2", lambda: rj.seq2seq.ctc_greedy(LOGITS, blank=3)),
        (
            ValueError,
            r"lengths must lie in 0\.\.4",
            lambda: rj.seq2seq.ctc_greedy(LOGITS, lengths=jnp.array([5, 1, 1])),
        ),
    ]:
        with pytest.raises(error, match=message):
            call()
