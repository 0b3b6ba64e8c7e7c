"""Several small networks that classify together: each learns on its own, and the mean of what they say counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.tasks.recipe import Score

Member = Callable[..., jax.Array]  # (params, *given) -> logits [B, kinds]


class Averaging(NamedTuple):
    """Networks of a layer that reads in both directions, and says what it says on average over time.

    features, hidden, kinds: of the input, of each direction, of the answers. members: networks, each leaf's first axis.
    """

    features: int
    hidden: int
    kinds: int
    members: int

    @property
    def layer(self) -> Any:
        return rj.Bidirectional(rj.GRU(self.hidden), merge="concat")

    def init(self, key: jax.Array) -> dict[str, Any]:
        """``readers``; ``output [M, 2 H, kinds]``, ``bias``."""
        k_readers, k_output = jax.random.split(key)
        start, both = lambda key: self.layer.init(key, jnp.zeros(self.features)), 2 * self.hidden
        return {
            "readers": jax.vmap(start)(jax.random.split(k_readers, self.members)),
            "output": jax.random.normal(k_output, (self.members, both, self.kinds)) / np.sqrt(both),
            "bias": jnp.zeros((self.members, self.kinds)),
        }

    def __call__(self, params: Any, xs: jax.Array, lengths: jax.Array) -> jax.Array:
        """Logits ``[B, kinds]`` of one member."""
        _, ys = self.layer(params["readers"], xs, lengths=lengths)
        return ys.sum(0) / lengths[:, None].astype(ys.dtype) @ params["output"] + params["bias"]


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
