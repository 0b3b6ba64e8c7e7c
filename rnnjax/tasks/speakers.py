"""`speakers`: who of nine said a vowel? Utterances of 7 to 29 frames, 12 cepstra each."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import load, pad, sets
from rnnjax.tasks.floors import logistic, majority
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine
from rnnjax.tasks.voting import Averaging

SPEAKERS, MEMBERS = 9, 4


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch = setting.length(600, full=3000), setting.pick(32, small=8)
    data = {split: load("speakers", split) for split in sets.SPLITS}
    frames = np.concatenate([x for x, _ in data["train"]])
    scaled = lambda x: (x - frames.mean(0)) / frames.std(0)
    given = {split: pad([scaled(x) for x, _ in part], 32) for split, part in data.items()}
    who = {split: np.array([y for _, y in part], np.int32) for split, part in data.items()}

    member = Averaging(12, setting.pick(64, small=4), SPEAKERS, MEMBERS)

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        """Noise on the frames, and utterances of every member's own."""
        xs, lengths, y = batch
        logits = jax.vmap(member, in_axes=(0, 0, None))(params, disturbed(key, xs), lengths)
        labels = jnp.broadcast_to(y, logits.shape[:-1])
        return carry, rj.losses.softmax_cross_entropy(logits, labels, smoothing=0.1).mean()

    @jax.jit
    def guess(params: Any, xs: Any, lengths: Any) -> jax.Array:
        logits = jax.vmap(member, in_axes=(0, None, None))(params, xs, lengths)
        return jax.nn.log_softmax(logits).mean(0)

    def score(params: Any, split: str) -> Score:
        says = np.asarray(guess(params, *given[split]))
        nats = -says[np.arange(len(says)), who[split]].mean()
        return Score(float((says.argmax(-1) == who[split]).mean()), loss=float(nats))

    order = rj.data.batches(given["train"][1], batch, setting.seed, pool=1)

    def batches(step: int) -> Any:
        places = order(step)
        return given["train"][0][:, places], given["train"][1][places], who["train"][places]

    def floor(pooling: Any) -> float:
        pooled = {split: np.array([pooling(scaled(x)) for x, _ in part]) for split, part in data.items()}
        return logistic(*((pooled[split], who[split]) for split in sets.SPLITS))

    floors = {
        "most frequent speaker": lambda: majority(who["train"].tolist(), who["test"].tolist()),
        "logistic regression on means and deviations": lambda: floor(moments),
        "logistic regression on these, first and last frame": lambda: floor(moments_and_ends),
    }
    params = member.init(jax.random.key(setting.seed))
    return Problem(params, loss, batches, score, floors, cosine(3e-3, steps), steps, noise=True)


def disturbed(key: jax.Array, xs: jax.Array) -> jax.Array:
    """Frames ``[T, B, 12]`` with noise, and moved a little, as each member is given them ``[M, T, B, 12]``."""
    k_noise, k_shift = jax.random.split(key)
    noise = 0.5 * jax.random.normal(k_noise, (MEMBERS, *xs.shape))
    return xs + noise + 0.1 * jax.random.normal(k_shift, (MEMBERS, 1, *xs.shape[1:]))


def moments(frames: np.ndarray) -> np.ndarray:
    """Means and deviations over an utterance ``[T, I]``."""
    return np.concatenate([frames.mean(0), frames.std(0)])


def moments_and_ends(frames: np.ndarray) -> np.ndarray:
    """`moments`, the first and the last frame."""
    return np.concatenate([moments(frames), frames[0], frames[-1]])


RECIPE = Recipe(
    "speakers",
    set="Japanese vowels (Kudo et al. 1999): 270 utterances to learn from and choose by, 370 to test, nine speakers",
    metric="accuracy",
    better="higher",
    floor="logistic regression on pooled frames",
    make=make,
    beside="FCN 99.3 %, TWIESN 96.5 %; pooled logistic regression with other features 98.4 %",
)
