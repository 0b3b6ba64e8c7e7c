"""Several small networks that classify together: each learns on its own, and the mean of what they say counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.tasks.recipe import Score

Member = Callable[..., jax.Array]  # (params, *given) -> logits [B, kinds]


def started(start: Callable[[jax.Array], Any], seed: int, members: int) -> Any:
    """Params of all members, each leaf with one more axis in front."""
    return jax.vmap(start)(jax.random.split(jax.random.key(seed), members))


def vote(member: Member) -> Callable[..., jax.Array]:
    """``(params, *given) -> log of the mean of the members' probabilities [B, kinds]``, compiled."""

    @jax.jit
    def says(params: Any, *given: Any) -> jax.Array:
        each = jax.vmap(lambda params: jax.nn.log_softmax(member(params, *given)))(params)
        return jax.nn.logsumexp(each, axis=0) - jnp.log(each.shape[0])

    return says


def members_loss(member: Member, smoothing: float = 0.0) -> Callable[..., Any]:
    """A loss for `Problem`: the mean over members; each is given a key of its own, and the batch ``(*given, answers)``."""

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        *given, answers = batch
        keys = jax.random.split(key, jax.tree.leaves(params)[0].shape[0])
        logits = jax.vmap(lambda params, key: member(params, *given, key=key))(params, keys)
        labels = jnp.broadcast_to(answers, logits.shape[:-1])
        return carry, rj.losses.softmax_cross_entropy(logits, labels, smoothing=smoothing).mean()

    return loss


def classified(says: Any, answers: np.ndarray) -> Score:
    """Accuracy of log-probabilities ``[N, kinds]``; chosen by the mean of ``-log p(answer)``.

    >>> classified(np.log([[0.9, 0.1], [0.6, 0.4]]), np.array([0, 1])).value
    0.5
    """
    says = np.asarray(says)
    nats = -says[np.arange(len(says)), answers].mean()
    return Score(float((says.argmax(-1) == answers).mean()), loss=float(nats))
