"""Connectionist temporal classification: labels without their times."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnnjax._jax import vary_over, varying_axes
from rnnjax.base import check_tokens
from rnnjax.seq2seq.chain import NEVER
from rnnjax.seq2seq.checks import check_lengths, check_logits, widened


def ctc(logits: Any, labels: Any, *, logit_lengths: Any = None, label_lengths: Any = None, blank: int = 0) -> jax.Array:
    """``-log`` of the probability of ``labels``, summed over all alignments, in nats.

    An alignment is a label or blank for every step; equal neighbours are one label, blanks are none, so that equal labels
    in a row have a blank between them. ``p(labels) = sum over alignments of prod_t softmax(logits_t)[a_t]``.

    logits: ``[T, *B, V]``, blank included. labels: integers ``[N, *B]``, none of them ``blank``.
    logit_lengths, label_lengths: ``[*B]``, all by default; what lies beyond, NaN and tokens of no vocabulary included,
        changes nothing. Returns: ``[*B]``, not divided by anything (torch's ``reduction="none"``).
    A row without an alignment (labels longer than its logits, or blanks between equal ones do not fit) has loss inf, as
    in torch, and a gradient of zero (torch: NaN).
    Errors: ValueError for N > T without label_lengths, labels outside ``0..V-1`` or equal to blank where they are known,
        lengths that do not fit, a blank outside ``0..V-1``; TypeError for labels or lengths that are not integers.
    The recursion is optax's. Source: Graves, Fernandez, Gomez, Schmidhuber 2006.

    >>> import jax.numpy as jnp, rnnjax as rj
    >>> logits = jnp.zeros((2, 3))                       # two steps, "a" is 1: a a, a -, - a of nine alignments
    >>> float(jnp.exp(-rj.losses.ctc(logits, jnp.array([1])))).__round__(4)
    0.3333
    """
    import optax

    logits, labels, logit_lengths, label_lengths = _read(logits, labels, logit_lengths, label_lengths, blank)

    def rows(z: jax.Array, y: jax.Array, z_length: jax.Array, y_length: jax.Array) -> jax.Array:
        z, y = jnp.moveaxis(z, 0, 1), y.T
        z_padding, y_padding = (
            (jnp.arange(a.shape[1]) >= n[:, None]).astype(z.dtype) for a, n in ((z, z_length), (y, y_length))
        )
        z = jnp.where(z_padding[..., None] > 0, jnp.zeros_like(z), z)
        z = jnp.maximum(jax.nn.log_softmax(z), NEVER)  # a logit of -inf
        y = jnp.where(y_padding > 0, jnp.zeros_like(y), y)
        never = vary_over(
            jnp.full_like(z[:, :1, 0], NEVER), varying_axes(z)
        )  # typed as the rows are, on several devices
        with jax.numpy_dtype_promotion("standard"):
            loss = optax.ctc_loss(z, z_padding, y, y_padding, blank_id=blank, log_epsilon=never)
        return jnp.where(loss < -0.1 * NEVER, loss, jnp.inf).astype(z.dtype)

    batch = labels.ndim - 1
    if batch == 0:
        return rows(logits[:, None], labels[:, None], logit_lengths[None], label_lengths[None])[0]
    for _ in range(batch - 1):
        rows = jax.vmap(rows, in_axes=(1, 1, 0, 0))
    return rows(logits, labels, logit_lengths, label_lengths)


def _read(logits: Any, labels: Any, logit_lengths: Any, label_lengths: Any, blank: int) -> tuple[Any, Any, Any, Any]:
    """Checked arrays, at least one step and one label long, logits of 32 bits at least, lengths ``[*B]``."""
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    check_logits("ctc", logits, blank)
    if logits.shape[1:-1] != labels.shape[1:] or labels.ndim == 0:
        raise ValueError(f"ctc: logits [T, *B, V] {logits.shape} need labels [N, *B], the same *B, got {labels.shape}")
    if label_lengths is None and len(labels) > len(logits):
        raise ValueError(
            f"ctc: {len(labels)} labels have no alignment with {len(logits)} steps of logits; "
            "give label_lengths if the labels are padded, or make more steps"
        )
    logit_lengths = check_lengths("ctc", "logit_lengths", logit_lengths, logits.shape[:-1], logits)
    label_lengths = check_lengths("ctc", "label_lengths", label_lengths, labels.shape, logits)
    real = jnp.arange(len(labels)).reshape(-1, *(1,) * (labels.ndim - 1)) < label_lengths
    check_tokens("ctc", "labels", labels, logits.shape[-1], real, but=blank)
    logits = widened(logits)
    more = [(0, 0)] * (labels.ndim - 1)
    if not len(logits):
        logits = jnp.pad(logits, [(0, 1), *more, (0, 0)])
    if not len(labels):
        labels = jnp.pad(labels, [(0, 1), *more])
    return logits, labels, logit_lengths, label_lengths
