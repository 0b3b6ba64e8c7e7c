"""Losses against torch and closed forms; a mask removes values and gradients, NaN included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj

T, B, O = 4, 3, 5
A = np.random.default_rng(0).normal(size=(T, B, O)).astype(np.float32)
C = np.random.default_rng(1).normal(size=(T, B, O)).astype(np.float32)
LABELS = np.random.default_rng(2).integers(0, O, (T, B))
MASK = np.random.default_rng(3).random((T, B)) < 0.6


@pytest.mark.peer
def test_against_torch():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    a, c, labels = torch.tensor(A), torch.tensor(C), torch.tensor(LABELS)
    pairs = [
        (rj.losses.softmax_cross_entropy(A, LABELS), F.cross_entropy(a.movedim(-1, 1), labels, reduction="none")),
        (rj.losses.mse(A, C), F.mse_loss(a, c, reduction="none").mean(-1)),
        (rj.losses.mae(A, C), F.l1_loss(a, c, reduction="none").mean(-1)),
        (rj.losses.bernoulli_nll(A, np.float32(C > 0)),
         F.binary_cross_entropy_with_logits(a, (c > 0).float(), reduction="none").sum(-1)),
        (rj.losses.gaussian_nll(A, 0.3 * C, C),
         F.gaussian_nll_loss(a, c, (0.3 * c).exp(), full=True, reduction="none").sum(-1)),
    ]  # fmt: skip
    for got, want in pairs:
        assert got.shape == (T, B)
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, m: rj.losses.softmax_cross_entropy(a, LABELS, mask=m),
        lambda a, m: rj.losses.mse(a, C, mask=m),
        lambda a, m: rj.losses.mae(a, C, mask=m),
        lambda a, m: rj.losses.bernoulli_nll(a, np.float32(C > 0), mask=m),
        lambda a, m: rj.losses.gaussian_nll(a, a, C, mask=m),
    ],
)
def test_masked_steps_count_for_nothing(loss):
    junk = np.where(MASK[..., None], A, np.nan)
    value, grad = jax.value_and_grad(lambda a: rj.losses.over_time(loss(a, MASK), MASK))(jnp.asarray(junk))
    np.testing.assert_allclose(value, np.asarray(loss(A, None))[MASK].mean(), rtol=1e-5)
    assert np.isfinite(grad).all() and not np.asarray(grad)[~MASK].any() and np.asarray(grad)[MASK].any()


def test_over_time_reductions():
    per_step = jnp.arange(6.0).reshape(3, 2)
    assert float(rj.losses.over_time(per_step, reduction="sum")) == 15
    assert float(rj.losses.over_time(per_step, reduction="sum_time")) == 7.5
    assert float(rj.losses.over_time(per_step)) == 2.5
    assert float(rj.losses.over_time(per_step, mask=np.zeros((3, 2), bool))) == 0


def test_messages():
    with pytest.raises(TypeError, match=r"labels must be integers \[T, \*B\], got float32"):
        rj.losses.softmax_cross_entropy(A, A[..., 0])
    with pytest.raises(ValueError, match=r"logits \(4, 3, 5\) need labels \(4, 3\), got \(3, 4\)"):
        rj.losses.softmax_cross_entropy(A, LABELS.T)
    with pytest.raises(ValueError, match="must have the same shape"):
        rj.losses.mse(A, C[1:])
    with pytest.raises(ValueError, match=r"mask must be \[T, \*B\]"):
        rj.losses.mse(A, C, mask=MASK.T)
    with pytest.raises(ValueError, match="reduction must be one of"):
        rj.losses.over_time(A[..., 0], reduction="avg")
