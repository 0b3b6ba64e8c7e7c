"""The linear chain against the sum over all paths, and against finite differences; Viterbi against the best of all paths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj

T, B, V = 4, 3, 3
RNG = np.random.default_rng(0)
LOGITS, CHAIN = RNG.normal(size=(T, B, V)).astype(np.float32), RNG.normal(size=(V, V)).astype(np.float32)
START, END = RNG.normal(size=(2, V)).astype(np.float32)
LABELS, LENGTHS = RNG.integers(0, V, (T, B)), np.array([4, 2, 1])
EDGES = dict(start=START, end=END, lengths=LENGTHS)


def score(logits, path, chain, start, end):
    moves = sum(chain[a, b] for a, b in itertools.pairwise(path))
    return start[path[0]] + end[path[-1]] + moves + sum(logits[t, y] for t, y in enumerate(path))


def all_scores(b, chain=CHAIN, start=START, end=END):
    logits = LOGITS[: LENGTHS[b], b].astype(float)
    return {p: score(logits, p, chain, start, end) for p in itertools.product(range(V), repeat=len(logits))}


def path(b):
    return tuple(LABELS[: LENGTHS[b], b])


def test_loss_is_that_of_the_sum_over_all_paths():
    got = jax.jit(lambda z, a: rj.losses.crf(z, LABELS, a, **EDGES))(LOGITS, CHAIN)
    for b in range(B):
        scores = all_scores(b)
        want = np.log(sum(np.exp(s) for s in scores.values())) - scores[path(b)]
        np.testing.assert_allclose(got[b], want, rtol=1e-5)
        one = rj.losses.crf(LOGITS[:, b], LABELS[:, b], CHAIN, **(EDGES | {"lengths": LENGTHS[b]}))
        np.testing.assert_allclose(one, want, rtol=1e-5)


def test_gradients_are_marginals_less_what_is_there():
    """d loss / d logits[t, v] = p(y_t = v) - [y_t = v], and likewise for moves, by going through all paths."""
    grads = jax.grad(
        lambda z, a, s, e: rj.losses.crf(z, LABELS, a, start=s, end=e, lengths=LENGTHS).sum(), (0, 1, 2, 3)
    )
    got = grads(LOGITS, CHAIN, START, END)
    want = [np.zeros_like(g) for g in got]
    for b in range(B):
        scores = all_scores(b)
        total = sum(np.exp(s) for s in scores.values())
        for p, weight in [*((p, np.exp(s) / total) for p, s in scores.items()), (path(b), -1.0)]:
            want[2][p[0]] += weight
            want[3][p[-1]] += weight
            for t, y in enumerate(p):
                want[0][t, b, y] += weight
            for move in itertools.pairwise(p):
                want[1][move] += weight
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_viterbi_is_the_best_of_all_paths():
    labels, scores = jax.jit(lambda z: rj.seq2seq.viterbi(z, CHAIN, **EDGES))(LOGITS)
    for b in range(B):
        best = max((s, p) for p, s in all_scores(b).items())
        assert tuple(labels[: LENGTHS[b], b]) == best[1] and not labels[LENGTHS[b] :, b].any()
        np.testing.assert_allclose(scores[b], best[0], rtol=1e-5)


def test_forbidden_moves_are_inf_and_are_never_taken():
    chain = CHAIN.copy()
    chain[path(0)[1], path(0)[2]] = -np.inf
    loss = lambda a: rj.losses.crf(LOGITS, LABELS, a, **EDGES)
    assert np.isposinf(loss(chain)[0]) and np.isfinite(loss(chain)[1:]).all()
    assert np.isfinite(jax.grad(lambda a: loss(a)[1:].sum())(chain)).all()
    only = np.full((V, V), -np.inf, np.float32)
    only[[0, 1, 2], [1, 2, 0]] = 0.0
    labels, scores = rj.seq2seq.viterbi(LOGITS[:, 0], only)
    assert all((b - a) % V == 1 for a, b in itertools.pairwise(labels.tolist())) and np.isfinite(scores)
    assert np.isneginf(rj.seq2seq.viterbi(LOGITS[:, 0], np.full((V, V), -np.inf, np.float32))[1])


def test_padding_and_empty_sequences():
    lengths = np.array([4, 2, 0])
    inside = np.arange(T)[:, None, None] < lengths[:, None]
    junk, tokens = np.where(inside, LOGITS, np.nan).astype(np.float32), np.where(inside[..., 0], LABELS, 99)
    both = jax.value_and_grad(lambda z, y: rj.losses.crf(z, y, CHAIN, start=START, end=END, lengths=lengths).sum())
    for a, b in zip(both(LOGITS, LABELS), both(junk, tokens), strict=True):
        np.testing.assert_array_equal(a, b)
    assert rj.losses.crf(LOGITS, LABELS, CHAIN, lengths=lengths)[2] == 0
    assert rj.losses.crf(LOGITS[:0], LABELS[:0], CHAIN).tolist() == [0, 0, 0]
    np.testing.assert_array_equal(rj.seq2seq.viterbi(junk, CHAIN, lengths=lengths)[0][:, 2], 0)
    assert rj.seq2seq.viterbi(LOGITS[:0], CHAIN)[1].shape == (B,)


@pytest.mark.parametrize(
    "error, message, arguments",
    [
        (ValueError, r"crf: labels must lie in 0\.\.2", dict(labels=LABELS + 1)),
        (ValueError, r"crf: logits .* need labels", dict(labels=LABELS[:2])),
        (ValueError, r"crf: transitions must be \[V, V\] with V = 3", dict(transitions=CHAIN[:2])),
        (ValueError, r"crf: start must be \[V\] with V = 3", dict(start=np.zeros(2, np.float32))),
        (ValueError, r"crf: lengths must lie in 0\.\.4", dict(lengths=np.array([5, 1, 1]))),
    ],
)
def test_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        rj.losses.crf(**(dict(logits=LOGITS, labels=LABELS, transitions=CHAIN) | arguments))


def test_steps_are_typed_by_the_logits():
    assert rj.losses.crf(LOGITS.astype(jnp.bfloat16), LABELS, CHAIN).dtype == jnp.float32
