"""Softmax over a large vocabulary, by a sample of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import check_choice, check_tokens
from rnnjax.losses.steps import _masked
from rnnjax.seq2seq.checks import check_whole
from rnnjax.wrappers.lookup import lookup

DISTRIBUTIONS = ("log_uniform", "uniform")


def sampled_softmax(
    key: jax.Array,
    hidden: Any,
    weight: Any,
    labels: Any,
    *,
    samples: int,
    bias: Any = None,
    distribution: str = "log_uniform",
    mask: Any = None,
) -> jax.Array:
    """Cross-entropy against the label and ``samples`` other words, for training only: cost grows with samples, not with V.

    ``-log (exp z_y / (exp z_y + sum_s exp(z_s) / (samples q_s)))``, ``z_w = hidden weight_w + bias_w``; the words s are
    drawn with replacement from q, once for all steps and sequences; those that equal the label do not count there.
    As samples grow it becomes `softmax_cross_entropy`, which stays the loss to report.

    hidden: ``[T, *B, H]``. weight: ``[H, V]``, bias: ``[V]``, those of the readout. labels: integers ``[T, *B]``. mask: ``[T, *B]``.
    distribution: "log_uniform", ``q_w = log((w + 2) / (w + 1)) / log(V + 1)``, for words sorted by how frequent they are;
    or "uniform". Returns ``[T, *B]``.
    Variant: the label's own logit is not corrected by its q, so that the limit is the softmax itself (Jean et al.; TensorFlow
    corrects both). Errors: ValueError/TypeError for shapes that do not fit, an unknown distribution, samples below 1.
    Source: Jean, Cho, Memisevic, Bengio 2015, arXiv:1412.2007.

    >>> import jax, jax.numpy as jnp, rnnjax as rj
    >>> hidden, weight, labels = jnp.ones((5, 2, 4)), jnp.zeros((4, 1000)), jnp.zeros((5, 2), int)
    >>> loss = rj.losses.sampled_softmax(jax.random.key(0), hidden, weight, labels, samples=50, distribution="uniform")
    >>> loss.shape, bool(abs(loss[0, 0] - jnp.log(1000.0)) < 0.1)
    ((5, 2), True)
    """
    hidden, weight, labels = jnp.asarray(hidden), jnp.asarray(weight), jnp.asarray(labels)
    check_choice("sampled_softmax", "distribution", distribution, DISTRIBUTIONS)
    check_whole("sampled_softmax", "samples", samples, 1)
    _check_shapes(hidden, weight, labels, bias)
    count = weight.shape[-1]
    labels = check_tokens("sampled_softmax", "labels", labels, count, mask)
    drawn, log_q = draw(key, samples, count, distribution, weight.dtype)
    shift = jnp.zeros(count, weight.dtype) if bias is None else jnp.asarray(bias)

    def loss(hidden: jax.Array, labels: jax.Array) -> jax.Array:
        own = jnp.sum(hidden * lookup(weight.T, labels), -1) + lookup(shift, labels)
        others = hidden @ weight[:, drawn] + shift[drawn] - log_q - jnp.log(samples).astype(weight.dtype)
        others = jnp.where(labels[..., None] == drawn, -jnp.inf, others)
        return jax.nn.logsumexp(jnp.concatenate([own[..., None], others], -1), axis=-1) - own

    return _masked(loss, mask, hidden, labels)


def draw(key: jax.Array, samples: int, count: int, distribution: str, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Words ``[samples]`` with replacement, and the log of how probable each was."""
    if distribution == "uniform":
        words = jax.random.randint(key, (samples,), 0, count)
        return words, jnp.full(samples, -jnp.log(count), dtype)
    log_q = jnp.log(jnp.log1p(1 / (jnp.arange(count, dtype=dtype) + 1)) / jnp.log(jnp.asarray(count + 1, dtype)))
    u = jax.random.uniform(key, (samples,), dtype)  # P(word < w) = log(w + 1) / log(V + 1)
    words = jnp.clip(jnp.expm1(u * jnp.log(jnp.asarray(count + 1, dtype))).astype(int), 0, count - 1)
    return words, log_q[words]


def _check_shapes(hidden: jax.Array, weight: jax.Array, labels: jax.Array, bias: Any) -> None:
    if weight.ndim != 2 or hidden.shape[-1:] != weight.shape[:1]:
        raise ValueError(
            f"sampled_softmax: hidden [T, *B, H] {hidden.shape} needs weight [H, V], got {weight.shape}; "
            "hand in a tied table [V, H] as table.T"
        )
    if labels.shape != hidden.shape[:-1]:
        raise ValueError(f"sampled_softmax: labels must be [T, *B] {hidden.shape[:-1]}, got {labels.shape}")
    if bias is not None and jnp.shape(bias) != weight.shape[1:]:
        raise ValueError(f"sampled_softmax: bias must be [V] {weight.shape[1:]}, got {jnp.shape(bias)}")
