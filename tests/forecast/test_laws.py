"""Predictive laws and scores against SciPy, closed forms and plain loops."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

from rnnjax.forecast.laws import LAWS, Quantiles, law_of, mean_of
from rnnjax.forecast.scores import crps_of, pinball, score, seasonal_naive

RNG = np.random.default_rng(0)
OUT = {name: RNG.normal(size=(6, len(law().start))) for name, law in LAWS.items()}
BASE, SCALE = RNG.normal(size=6), np.array([0.5, 1.0, 2.0, 3.0, 1.0, 4.0])
softplus = lambda x: np.log1p(np.exp(x))


def scipy_law(name, out, base, scale):
    o = out.T
    if name == "gaussian":
        return st.norm(base + scale * o[0], scale * (softplus(o[1]) + 1e-4))
    if name == "student_t":
        return st.t(2 + softplus(o[2]), base + scale * o[0], scale * (softplus(o[1]) + 1e-4))
    if name == "negative_binomial":
        m, a = scale * softplus(base / scale + o[0]) + 1e-6, softplus(o[1]) + 1e-4
        return st.nbinom(1 / a, 1 / (1 + a * m))
    p = np.clip(base, 0.02, 0.98)
    return st.bernoulli(1 / (1 + (1 - p) / p * np.exp(-o[0])))


@pytest.mark.parametrize("name", LAWS)
def test_likelihoods_quantiles_and_means_are_those_of_scipy(name):
    law, theirs = LAWS[name](), scipy_law(name, OUT[name], BASE, SCALE)
    for u in (0.02, 0.3, 0.5, 0.9):
        np.testing.assert_allclose(law.ppf(OUT[name], BASE, SCALE, u), theirs.ppf(u), rtol=1e-6)
    np.testing.assert_allclose(law.mean(OUT[name], BASE, SCALE), theirs.mean(), rtol=1e-6, atol=1e-9)
    value = theirs.ppf(np.linspace(0.1, 0.9, 6))
    target = value if law.absolute else (value - BASE) / SCALE
    ours = law.nll(*(jnp.asarray(a, jnp.float32) for a in (OUT[name], target, BASE, SCALE)))
    want = -theirs.logpmf(value) if law.absolute else -theirs.logpdf(value) - np.log(SCALE)
    np.testing.assert_allclose(ours, want, rtol=2e-5, atol=2e-5)


LEVELS = (0.05, 0.2, 0.5, 0.9)


def test_quantiles_are_in_order_whatever_the_network_says_and_start_gaussian():
    law = Quantiles(LEVELS)
    wild = RNG.normal(size=(500, 4)) * 30
    found = np.stack([law.ppf(wild, 0.0, 1.0, u) for u in np.linspace(0.001, 0.999, 60)])
    assert (np.diff(found, axis=0) >= 0).all()
    start = np.tile(law.start, (6, 1))
    for u in (0.01, *LEVELS, 0.99):
        np.testing.assert_allclose(law.ppf(start, BASE, SCALE, u), st.norm(BASE, SCALE).ppf(u), rtol=1e-5)
    np.testing.assert_allclose(mean_of(law, start, BASE, SCALE), BASE, atol=1e-5)
    assert Quantiles((0.5,)).ppf(np.zeros((2, 1)), 1.0, 2.0, 0.9).tolist() == [1.0, 1.0]


def test_the_pinball_loss_by_a_loop():
    law, out, target = Quantiles(LEVELS), RNG.normal(size=(6, 4)), RNG.normal(size=6)
    quantiles = [law.ppf(out, 0.0, 1.0, u) for u in LEVELS]
    want = [
        2 * np.mean([u * (y - q[i]) if y > q[i] else (1 - u) * (q[i] - y) for u, q in zip(LEVELS, quantiles)])
        for i, y in enumerate(target)
    ]
    found = law.nll(jnp.asarray(out, jnp.float32), jnp.asarray(target, jnp.float32), 0.0, 1.0)
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_crps_is_that_of_a_gaussian_and_of_a_sample():
    """Gneiting and Raftery 2007, equation 21 in closed form; of a sample E|X - y| - E|X - X'| / 2."""
    y = np.linspace(-2, 3, 7)
    closed = y * (2 * st.norm.cdf(y) - 1) + 2 * st.norm.pdf(y) - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(crps_of(st.norm.ppf, y), closed, rtol=5e-3)
    sample = RNG.normal(size=400)
    want = [np.abs(sample - v).mean() - np.abs(sample[:, None] - sample).mean() / 2 for v in y]
    np.testing.assert_allclose(crps_of(lambda u: np.quantile(sample, u), y, 400), want, rtol=2e-2)


def test_scores_by_a_loop():
    came, median, there = RNG.normal(size=(5, 3, 2)), RNG.normal(size=(5, 3, 2)), RNG.random((5, 3, 2)) < 0.7
    quantiles = np.sort(RNG.normal(size=(5, 4, 3, 2)), 1)
    found = score(came, there, np.array([2.0, 0.5]), LEVELS, median, quantiles, np.abs(came))
    for h in range(3):
        cells = [(w, s) for w in range(5) for s in range(2) if there[w, h, s]]
        off = {(w, s): abs(came[w, h, s] - median[w, h, s]) for w, s in cells}
        assert found.mae[h] == pytest.approx(np.mean([off[c] for c in cells]))
        assert found.mase[h] == pytest.approx(np.mean([off[w, s] / (2.0, 0.5)[s] for w, s in cells]))
        inside = [quantiles[w, 0, h, s] <= came[w, h, s] <= quantiles[w, -1, h, s] for w, s in cells]
        assert found.coverage[h] == pytest.approx(np.mean(inside))
        losses = [pinball(came[w, h, s], quantiles[w, i, h, s], u) for w, s in cells for i, u in enumerate(LEVELS)]
        assert found.pinball[h] == pytest.approx(np.mean(losses))
        assert found.crps[h] == pytest.approx(np.mean([abs(came[w, h, s]) for w, s in cells]))


def test_seasonal_naive_by_a_loop():
    y = RNG.normal(size=(30, 2))
    for season in (1, 4, 7):
        want = []
        for h in range(1, 12):
            at = 29 + h
            while at > 29:
                at -= season
            want.append(y[at])
        np.testing.assert_array_equal(seasonal_naive(y, 11, season), want)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("negative_binomial", [1.0, 2.5], "counts.*got 2.5"),
        ("negative_binomial", [-1.0], "got -1"),
        ("bernoulli", [2.0], "zeros and ones, got 2"),
    ],
)
def test_values_that_a_law_does_not_know(name, values, said):
    import re

    assert re.search(said, law_of(name, (0.5,)).refuse(np.array(values)))
    assert law_of(name, (0.5,)).refuse(np.array([0.0, 1.0])) is None
