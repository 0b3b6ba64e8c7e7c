"""Losses per step, masked, and their sum or mean over time.

Each loss maps predictions and targets ``[T, *B, ...]`` to one number per step and sequence, ``[T, *B]``; where ``mask
[T, *B]`` is False the loss and its gradient are exactly zero, whatever lies there. `over_time` makes one number of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnnjax.base import check_choice, check_rate


def _masked(loss: Callable[..., jax.Array], mask: Any, *arrays: jax.Array) -> jax.Array:
    """``loss(*arrays)`` where ``mask``, else 0; the arrays are blanked first, so that NaN there reaches no gradient."""
    if mask is None:
        return loss(*arrays)
    mask = jnp.asarray(mask).astype(bool)
    for a in arrays:
        if a.shape[: mask.ndim] != mask.shape:
            raise ValueError(f"losses: mask must be [T, *B], the leading axes of {a.shape}, got {mask.shape}")
    blank = [jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim)), a, jnp.zeros_like(a)) for a in arrays]
    out = loss(*blank)
    return jnp.where(mask, out, jnp.zeros_like(out))


def _check_same_shape(name: str, prediction: Any, target: Any) -> tuple[jax.Array, jax.Array]:
    prediction, target = jnp.asarray(prediction), jnp.asarray(target)
    if prediction.shape != target.shape:
        raise ValueError(f"{name}: prediction {prediction.shape} and target {target.shape} must have the same shape")
    return prediction, target


def softmax_cross_entropy(logits: Any, labels: Any, *, mask: Any = None, smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy in nats: ``-log softmax(logits)[label]``, ``logits [T, *B, O]``, integer ``labels [T, *B]`` -> ``[T, *B]``.

    smoothing: share e of the target that is spread over all O labels: ``-sum_o ((1 - e) [o = label] + e / O) log softmax_o``
    (Szegedy et al. 2016, arXiv:1512.00567; as in torch and Keras). For training; perplexities are told without it.
    Errors: ValueError for smoothing outside [0, 1). TypeError for labels that are not integers, ValueError for shapes that do not match.

    >>> import jax.numpy as jnp
    >>> round(float(softmax_cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))[0]), 4)
    1.3863
    """
    import optax

    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"softmax_cross_entropy: labels must be integers [T, *B], got {labels.dtype}")
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"softmax_cross_entropy: logits {logits.shape} need labels {logits.shape[:-1]}, got {labels.shape}"
        )
    check_rate("softmax_cross_entropy", "smoothing", smoothing)
    plain = optax.softmax_cross_entropy_with_integer_labels

    def smooth(logits: jax.Array, labels: jax.Array) -> jax.Array:
        uniform = -jax.nn.log_softmax(logits).mean(-1)
        return (1 - smoothing) * plain(logits, labels) + smoothing * uniform

    return _masked(smooth if smoothing else plain, mask, logits, labels)


def mse(prediction: Any, target: Any, *, mask: Any = None) -> jax.Array:
    """Mean squared error over the last axis: ``mean_o (prediction - target)^2``, ``[T, *B, O]`` -> ``[T, *B]``.

    >>> import jax.numpy as jnp
    >>> mse(jnp.ones((2, 3)), jnp.zeros((2, 3)), mask=jnp.array([True, False])).tolist()
    [1.0, 0.0]
    """
    return _masked(lambda p, t: jnp.mean((p - t) ** 2, axis=-1), mask, *_check_same_shape("mse", prediction, target))


def mae(prediction: Any, target: Any, *, mask: Any = None) -> jax.Array:
    """Mean absolute error over the last axis: ``mean_o |prediction - target|``, ``[T, *B, O]`` -> ``[T, *B]``.

    >>> import jax.numpy as jnp
    >>> mae(jnp.array([[1.0, -3.0]]), jnp.zeros((1, 2))).tolist()
    [2.0]
    """
    return _masked(lambda p, t: jnp.mean(jnp.abs(p - t), axis=-1), mask, *_check_same_shape("mae", prediction, target))


def gaussian_nll(mean: Any, log_variance: Any, target: Any, *, mask: Any = None) -> jax.Array:
    """Negative log density of a Gaussian in nats, summed over the last axis, ``[T, *B, O]`` -> ``[T, *B]``.

    ``sum_o (log 2 pi + log_variance + (target - mean)^2 / exp(log_variance)) / 2``.

    >>> import jax.numpy as jnp
    >>> round(float(gaussian_nll(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))), 4)
    0.9189
    """
    mean, target = _check_same_shape("gaussian_nll", mean, target)
    mean, log_variance = _check_same_shape("gaussian_nll", mean, log_variance)

    def nll(m: jax.Array, s: jax.Array, t: jax.Array) -> jax.Array:
        return 0.5 * jnp.sum(math.log(2 * math.pi) + s + (t - m) ** 2 * jnp.exp(-s), axis=-1)

    return _masked(nll, mask, mean, log_variance, target)


def bernoulli_nll(logits: Any, target: Any, *, mask: Any = None) -> jax.Array:
    """Binary cross-entropy in nats with logits, summed over the last axis, ``[T, *B, O]`` -> ``[T, *B]``; ``target`` in [0, 1].

    >>> import jax.numpy as jnp
    >>> round(float(bernoulli_nll(jnp.zeros(2), jnp.ones(2))), 4)
    1.3863
    """
    import optax

    logits, target = _check_same_shape("bernoulli_nll", logits, target)
    return _masked(lambda z, t: optax.sigmoid_binary_cross_entropy(z, t).sum(-1), mask, logits, target)


def over_time(per_step: jax.Array, mask: Any = None, reduction: str = "mean") -> jax.Array:
    """One number from the losses of all steps ``[T, *B]``.

    "mean": over valid steps of all sequences. "sum": over time and batch. "sum_time": over time, mean over the batch
    (the article's ``L = sum_t L_t``). With no valid step at all the result is 0.

    >>> import jax.numpy as jnp
    >>> float(over_time(jnp.array([1.0, 3.0, 5.0]), mask=jnp.array([True, True, False])))
    2.0
    """
    check_choice("over_time", "reduction", reduction, ("mean", "sum", "sum_time"))
    if mask is not None:
        mask = jnp.asarray(mask).astype(bool)
        if mask.shape != per_step.shape:
            raise ValueError(f"over_time: mask {mask.shape} must have the shape of the losses {per_step.shape}")
        per_step = jnp.where(mask, per_step, jnp.zeros_like(per_step))
    total = jnp.sum(per_step)
    if reduction == "sum":
        return total
    if reduction == "sum_time":
        return total / max(math.prod(per_step.shape[1:]), 1)
    count = jnp.asarray(per_step.size if mask is None else mask.sum(), per_step.dtype)
    return total / jnp.maximum(count, 1)


def activation_regularization(ys: Any, *, mask: Any = None) -> jax.Array:
    """Squared outputs, to keep them small: ``mean_o y_t^2``, ``[T, *B, O]`` -> ``[T, *B]``; the paper's AR is its mean over time.

    Source: Merity, McCann, Socher 2017, arXiv:1708.01009 (which takes it after dropout; its scale alpha is 2 or so).

    >>> import jax.numpy as jnp
    >>> float(over_time(activation_regularization(jnp.full((3, 2), 2.0))))
    4.0
    """
    return _masked(lambda y: jnp.mean(y**2, axis=-1), mask, jnp.asarray(ys))


def temporal_activation_regularization(ys: Any, *, mask: Any = None) -> jax.Array:
    """Squared changes of the output, to keep it slow: ``mean_o (y_t - y_{t-1})^2``, ``[T, *B, O]`` -> ``[T, *B]``, 0 at t = 0.

    With a mask only changes between two steps that are both valid count; the paper's TAR is the mean over the T - 1 changes.
    Source: Merity, McCann, Socher 2017, arXiv:1708.01009 (which takes it before dropout).

    >>> import jax.numpy as jnp
    >>> temporal_activation_regularization(jnp.array([[1.0], [3.0], [3.0]])).tolist()
    [0.0, 4.0, 0.0]
    """
    ys = jnp.asarray(ys)
    if mask is not None:
        mask = jnp.asarray(mask).astype(bool)
        if ys.shape[: mask.ndim] != mask.shape:
            raise ValueError(f"losses: mask must be [T, *B], the leading axes of {ys.shape}, got {mask.shape}")
        both = mask[1:] & mask[:-1]
        ys = jnp.where(mask.reshape(mask.shape + (1,) * (ys.ndim - mask.ndim)), ys, jnp.zeros_like(ys))
    change = jnp.mean((ys[1:] - ys[:-1]) ** 2, axis=-1)
    if mask is not None:
        change = jnp.where(both.reshape(both.shape + (1,) * (change.ndim - both.ndim)), change, jnp.zeros_like(change))
    return jnp.concatenate([jnp.zeros_like(change, shape=(min(1, len(ys)), *change.shape[1:])), change])
