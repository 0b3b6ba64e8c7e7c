"""Sampled softmax and label smoothing against the whole softmax, numpy and torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj
from rnnjax.losses.sampled import draw

T, B, H, V = 3, 2, 4, 12
RNG = np.random.default_rng(0)
HIDDEN, WEIGHT = RNG.normal(size=(T, B, H)).astype(np.float32), RNG.normal(size=(H, V)).astype(np.float32)
BIAS, LABELS = RNG.normal(size=V).astype(np.float32), RNG.integers(0, V, (T, B))


@pytest.mark.parametrize("distribution", [pytest.param("log_uniform", marks=pytest.mark.slow), "uniform"])
def test_many_samples_are_the_whole_softmax(distribution):
    """Loss and gradient; the sum over others is a mean of 20,000 draws, whose error is about 2 %."""

    def sampled(weight):
        args = dict(samples=20_000, bias=BIAS, distribution=distribution)
        return rj.losses.sampled_softmax(jax.random.key(0), HIDDEN, weight, LABELS, **args)

    def whole(weight):
        return rj.losses.softmax_cross_entropy(HIDDEN @ weight + BIAS, LABELS)

    np.testing.assert_allclose(sampled(WEIGHT), whole(WEIGHT), atol=0.05)
    got, want = (jax.grad(lambda w: f(w).sum())(WEIGHT) for f in (sampled, whole))
    np.testing.assert_allclose(got, want, atol=0.1)
    assert np.abs(want).max() > 0.5


def test_few_samples_by_hand():
    words, log_q = draw(jax.random.key(3), 5, V, "log_uniform", jnp.float32)
    got = rj.losses.sampled_softmax(jax.random.key(3), HIDDEN, WEIGHT, LABELS, samples=5, bias=BIAS)
    z = HIDDEN @ WEIGHT + BIAS
    for t, b in np.ndindex(T, B):
        y = LABELS[t, b]
        others = sum(np.exp(z[t, b, w] - q) / 5 for w, q in zip(np.array(words), log_q, strict=True) if w != y)
        np.testing.assert_allclose(got[t, b], np.log(np.exp(z[t, b, y]) + others) - z[t, b, y], rtol=1e-5)


def test_draws_follow_their_distribution():
    """Frequencies of 100,000 draws within five standard errors, and probabilities that sum to one."""
    for distribution in ("log_uniform", "uniform"):
        words, log_q = draw(jax.random.key(1), 100_000, V, distribution, jnp.float32)
        words, q = np.asarray(words), np.zeros(V)
        q[words] = np.exp(log_q)
        np.testing.assert_allclose(q.sum(), 1, rtol=1e-5)
        error = np.bincount(words, minlength=V) / 1e5 - q
        assert (np.abs(error) < 5 * np.sqrt(q / 1e5)).all()
    np.testing.assert_allclose(1 / q, V, rtol=1e-5)


def test_mask_and_bad_input():
    mask = np.array([[True, False], [True, True], [False, False]])
    bad = np.where(mask, LABELS, -1)
    hidden = np.where(mask[..., None], HIDDEN, np.nan).astype(np.float32)
    loss = lambda h, w: rj.losses.sampled_softmax(jax.random.key(0), h, w, bad, samples=5, mask=mask).sum()
    assert all(np.isfinite(g).all() and g.any() for g in jax.grad(loss, (0, 1))(hidden, WEIGHT))
    call = lambda **a: rj.losses.sampled_softmax(
        jax.random.key(0), **(dict(hidden=HIDDEN, weight=WEIGHT, labels=LABELS, samples=3) | a)
    )
    for message, bad in [
        ("did you mean 'uniform'", dict(distribution="unifrom")),
        ("samples must be at least 1, got 0", dict(samples=0)),
        ("hand in a tied table", dict(weight=WEIGHT.T)),
        (r"labels must lie in 0\.\.11", dict(labels=LABELS + 12)),
        ("labels must be", dict(labels=LABELS[:1])),
        ("bias must be", dict(bias=BIAS[:3])),
    ]:
        with pytest.raises(ValueError, match=message):
            call(**bad)


def test_smoothing_is_cross_entropy_with_a_share_for_all():
    z = (HIDDEN @ WEIGHT).astype(float)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    target = 0.9 * np.eye(V)[LABELS] + 0.1 / V
    got = rj.losses.softmax_cross_entropy(HIDDEN @ WEIGHT, LABELS, smoothing=0.1)
    np.testing.assert_allclose(got, -(target * log_p).sum(-1), rtol=1e-5)
    with pytest.raises(ValueError, match="smoothing must be at least 0 and below 1"):
        rj.losses.softmax_cross_entropy(z, LABELS, smoothing=1.0)


@pytest.mark.peer
def test_smoothing_is_that_of_torch():
    torch = pytest.importorskip("torch")
    z = torch.tensor(HIDDEN @ WEIGHT)
    want = torch.nn.functional.cross_entropy(
        z.movedim(-1, 1), torch.tensor(LABELS), label_smoothing=0.2, reduction="none"
    )
    got = rj.losses.softmax_cross_entropy(HIDDEN @ WEIGHT, LABELS, smoothing=0.2)
    np.testing.assert_allclose(got, want, rtol=1e-5)
