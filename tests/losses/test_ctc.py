"""CTC against a sum over every alignment and against torch; padding; rows without an alignment."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnnjax as rj

T, B, V, N = 6, 4, 4, 3
LOGITS = np.random.default_rng(0).normal(size=(T, B, V)).astype(np.float32)
LABELS = np.array([[1, 2, 1, 1], [1, 1, 3, 9], [2, -5, 2, 9]])  # what lies beyond a length is no label
LABEL_LENGTHS = np.array([3, 2, 3, 1])
LOGIT_LENGTHS = np.array([6, 3, 5, 2])


def collapse(alignment, blank):
    """The labels of an alignment: equal neighbours once, blanks out."""
    return tuple(a for a, _ in itertools.groupby(alignment) if a != blank)


def by_alignments(logits, blank):
    """`{labels: probability}` of one row, by going through all V^T alignments."""
    p = np.exp(logits.astype(float))
    p /= p.sum(-1, keepdims=True)
    total = {}
    for alignment in itertools.product(range(p.shape[1]), repeat=len(p)):
        labels = collapse(alignment, blank)
        total[labels] = total.get(labels, 0.0) + np.prod(p[np.arange(len(p)), list(alignment)])
    return total


def row_of(b):
    return LOGITS[: LOGIT_LENGTHS[b], b], tuple(LABELS[: LABEL_LENGTHS[b], b])


def mean_loss(logits):
    return rj.losses.ctc(logits, LABELS, logit_lengths=LOGIT_LENGTHS, label_lengths=LABEL_LENGTHS)


def test_is_the_sum_over_alignments():
    want = [-np.log(by_alignments(logits, 0)[labels]) for logits, labels in map(row_of, range(B))]
    np.testing.assert_allclose(jax.jit(mean_loss)(LOGITS), want, rtol=1e-5)


def test_another_blank_is_the_same_with_labels_renumbered():
    logits = LOGITS[:4, 0]
    want = by_alignments(logits, 2)
    loss = jax.jit(lambda y, n: rj.losses.ctc(logits, y, label_lengths=n, blank=2))
    for labels in [(0, 1), (3, 3), (), (1,)]:
        got = loss(np.array([*labels, 0, 0][:2]), len(labels))
        np.testing.assert_allclose(got, -np.log(want[labels]), rtol=1e-5)


def test_batch_axes_none_two_and_vmap_are_the_rows():
    rows = (LOGITS, LABELS, LOGIT_LENGTHS, LABEL_LENGTHS)
    loss = jax.jit(lambda z, y, n, m: rj.losses.ctc(z, y, logit_lengths=n, label_lengths=m))
    whole = loss(*rows)
    singles = [loss(LOGITS[:, b], LABELS[:, b], LOGIT_LENGTHS[b], LABEL_LENGTHS[b]) for b in range(B)]
    np.testing.assert_allclose(singles, whole, rtol=1e-5)
    square = lambda a: a.reshape(*a.shape[:-1], 2, 2) if a.ndim < 3 else a.reshape(T, 2, 2, V)
    np.testing.assert_allclose(loss(*map(square, rows)), square(whole), rtol=1e-5)
    mapped = jax.vmap(loss, (1, 1, 0, 0))(*rows)
    np.testing.assert_allclose(mapped, whole, rtol=1e-5)


def test_junk_in_the_padding_changes_neither_loss_nor_gradient():
    inside = np.arange(T)[:, None, None] < LOGIT_LENGTHS[:, None]
    both = jax.jit(jax.value_and_grad(lambda z: mean_loss(z).sum()))
    loss, grad = both(LOGITS)
    junk_loss, junk_grad = both(np.where(inside, LOGITS, np.nan).astype(np.float32))
    np.testing.assert_array_equal(loss, junk_loss)
    np.testing.assert_array_equal(grad, junk_grad)
    assert np.abs(np.where(inside, 0, grad)).max() == 0 < np.abs(grad).max()


def test_a_row_without_an_alignment_has_loss_inf_and_no_gradient():
    """Too long; a blank between equal labels that does not fit; a label of probability zero."""
    labels = np.array([[1, 1, 3], [2, 1, 2]])
    logits = np.array(LOGITS[:2, :3])
    logits[:, 2, 3] = -np.inf
    loss = lambda z: rj.losses.ctc(z, labels, logit_lengths=np.array([1, 2, 2]))
    assert np.isposinf(loss(logits)).all()
    assert np.isfinite(loss(LOGITS[:2, :3])[2])
    assert not np.abs(jax.grad(lambda z: loss(z).sum())(logits)).any()
    assert not np.isnan(rj.losses.ctc(logits, labels[:1], label_lengths=np.array([1, 0, 1]))).any()


def test_no_steps_and_no_labels():
    none = np.zeros((0, 2, V), np.float32)
    np.testing.assert_array_equal(rj.losses.ctc(none, np.zeros((0, 2), int)), [0, 0])
    np.testing.assert_array_equal(
        rj.losses.ctc(none, np.ones((1, 2), int), label_lengths=np.array([0, 1])), [0, np.inf]
    )
    blanks = -jax.nn.log_softmax(LOGITS, -1)[..., 0].sum(0)
    np.testing.assert_allclose(rj.losses.ctc(LOGITS, np.zeros((0, B), int)), blanks, rtol=1e-5)


def test_thousands_of_improbable_steps():
    """optax's own log of zero, -1e5, is within reach of real sums: 4,000 steps at 30 nats."""
    logits = np.zeros((4000, 2), np.float32)
    logits[:, 0] = 30.0
    got = rj.losses.ctc(logits, np.ones(1, int), label_lengths=np.array(1))
    np.testing.assert_allclose(got, 30 - np.log(4000), rtol=1e-4)  # any one step, the rest blank
    np.testing.assert_allclose(rj.losses.ctc(-logits, np.ones(1, int)), 0, atol=1e-4)
    np.testing.assert_allclose(rj.losses.ctc(-logits, np.zeros(0, int)), 4000 * 30, rtol=1e-4)


@pytest.mark.peer
def test_values_and_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    logits = torch.tensor(LOGITS, requires_grad=True)
    labels = torch.tensor(np.where(np.arange(N)[:, None] < LABEL_LENGTHS, LABELS, 0).T)
    loss = torch.nn.functional.ctc_loss(
        logits.log_softmax(-1), labels, torch.tensor(LOGIT_LENGTHS), torch.tensor(LABEL_LENGTHS), reduction="none"
    )
    weights = np.array([1.0, 2.0, -1.0, 0.5], np.float32)
    (loss * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(mean_loss(LOGITS), loss.detach(), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda z: (mean_loss(z) * weights).sum())(LOGITS), logits.grad, atol=1e-5)
    never = torch.nn.functional.ctc_loss(
        torch.zeros(1, 1, 3).log_softmax(-1),
        torch.tensor([[1, 2]]),
        torch.tensor([1]),
        torch.tensor([2]),
        reduction="none",
    )
    assert float(never[0]) == np.inf


def test_half_precision_is_summed_in_single():
    loss = rj.losses.ctc(LOGITS.astype(jnp.bfloat16), LABELS[:1], label_lengths=LABEL_LENGTHS * 0 + 1)
    assert loss.dtype == jnp.float32


@pytest.mark.parametrize(
    "error, message, arguments",
    [
        (ValueError, "ctc: 7 labels have no alignment with 6 steps.*label_lengths", dict(labels=np.ones((7, B), int))),
        (ValueError, r"ctc: labels must lie in 0\.\.3.*got 4", dict(labels=np.full((2, B), 4))),
        (ValueError, r"ctc: labels must lie in 0\.\.3.*got -1", dict(labels=jnp.full((2, B), -1))),
        (ValueError, "ctc: labels must not hold 0", dict(labels=np.zeros((2, B), int))),
        (TypeError, "ctc: labels must be integer tokens", dict(labels=np.ones((2, B)))),
        (ValueError, r"need labels \[N, \*B\]", dict(labels=np.ones((2, B + 1), int))),
        (ValueError, "blank must be one of 0..3", dict(blank=4)),
        (ValueError, "blank must be at least 0", dict(blank=-1)),
        (TypeError, "blank must be an int", dict(blank=0.5)),
        (ValueError, r"logit_lengths must lie in 0\.\.6, got 1\.\.7", dict(logit_lengths=np.array([7, 1, 1, 1]))),
        (ValueError, r"label_lengths must lie in 0\.\.2", dict(label_lengths=np.array([3, 1, 1, 1]))),
        (ValueError, r"label_lengths must be \[\*B\]", dict(label_lengths=np.array([1]))),
        (TypeError, "label_lengths must be integers", dict(label_lengths=np.ones(B))),
        (TypeError, "logits must be floating point", dict(logits=np.ones((T, B, V), int))),
        (ValueError, "logits must be", dict(logits=np.ones(3, np.float32))),
    ],
)
def test_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        rj.losses.ctc(**(dict(logits=LOGITS, labels=np.ones((2, B), int)) | arguments))
