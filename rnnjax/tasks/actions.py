"""`actions`: which of seven exercises does someone do who wears a watch? Heard of the watch: acceleration and rotation.

Every recording is tested once: five times two subjects are the test, two others choose, six are learned from. The five
networks are trained side by side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import load, pad, sets
from rnnjax.tasks.floors import logistic, majority
from rnnjax.tasks.recipe import Params, Problem, Recipe, Score, Setting, cosine
from rnnjax.tasks.voting import Averaging

EXERCISES, FOLDS = 7, 5
FRAMES = 5  # of a fiftieth of a second make one step: their means and deviations
CROP = 96  # steps that are learned from at a time
MIRROR = np.array(
    [-1, 1, 1, 1, -1, -1] + 6 * [1], np.float32
)  # the same movement of the other arm: x is along the forearm


class Fold(NamedTuple):
    """The places of one fold's recordings among all."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch = setting.length(400, full=2000), setting.pick(32, small=4)
    recordings = [example for split in sets.SPLITS for example in load("actions", split)]
    what, who = (np.array([example[place] for example in recordings], np.int32) for place in (1, 2))
    parts = folds(who)
    steps_of = [tenths(example[0]) for example in recordings]
    xs, lengths = pad(steps_of)

    member = Averaging(xs.shape[-1], setting.pick(48, small=4), EXERCISES, FOLDS)  # a network for each fold

    def loss(params: Params, carry: Any, batch: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        crops, labels = batch
        crops = disturbed(key, crops)
        logits = jax.vmap(member)(params, crops, jnp.full(labels.shape, CROP))
        return carry, rj.losses.softmax_cross_entropy(logits, labels, smoothing=0.1).mean()

    def batches(step: int) -> tuple[np.ndarray, np.ndarray]:
        """Stretches of recordings of each fold's six subjects."""
        rng = np.random.default_rng([setting.seed, step])
        places = np.stack([rng.choice(fold.train, batch) for fold in parts])
        starts = rng.integers(0, lengths[places] - CROP + 1)
        return xs[starts[..., None] + np.arange(CROP), places[..., None]].transpose(0, 2, 1, 3), what[places]

    @jax.jit
    def guess(params: Params, xs: jax.Array, lengths: jax.Array) -> jax.Array:
        """Log-probabilities ``[5, B, 7]``, of both wrists on average."""
        says = [jax.nn.log_softmax(jax.vmap(member)(params, seen, lengths)) for seen in (xs, xs * MIRROR)]
        return (says[0] + says[1]) / 2

    def score(params: Params, split: str) -> Score:
        places = np.stack([getattr(fold, split) for fold in parts])
        says = np.asarray(guess(params, xs[:, places].swapaxes(0, 1), lengths[places]))
        right = says.argmax(-1) == what[places]
        nats = -np.take_along_axis(says, what[places][..., None], -1).mean()
        return Score(float(right.mean()), {"worst of five": float(right.mean(1).min())}, loss=float(nats))

    floors = {
        "most frequent exercise": lambda: most_frequent(what, parts),
        "logistic regression on means and deviations": lambda: regression([e[0] for e in recordings], what, parts),
        "logistic regression on means and deviations of what the network reads": lambda: regression(
            steps_of, what, parts
        ),
    }
    params = member.init(jax.random.key(setting.seed))
    return Problem(params, loss, batches, score, floors, cosine(3e-3, steps), steps, noise=True)


def most_frequent(what: np.ndarray, parts: list[Fold]) -> float:
    """The accuracy of the training subjects' most frequent exercise, of all folds."""
    return float(np.mean([majority(what[fold.train].tolist(), what[fold.test].tolist()) for fold in parts]))


def regression(recordings: list[np.ndarray], what: np.ndarray, parts: list[Fold]) -> float:
    """The accuracy of logistic regressions on `moments`, of all folds."""
    pooled = moments(recordings)
    part = lambda places: (pooled[places], what[places])
    return float(np.mean([logistic(*map(part, fold)) for fold in parts]))


def folds(who: np.ndarray) -> list[Fold]:
    """Of ten subjects in pairs each pair is the test once, while the next one chooses."""
    pair = (who - 1) // 2
    places = lambda of: np.flatnonzero(np.isin(pair, of))
    around = lambda k, *ahead: [(k + n) % FOLDS for n in ahead]
    return [Fold(places(around(k, 2, 3, 4)), places(around(k, 1)), places([k])) for k in range(FOLDS)]


def tenths(frames: np.ndarray) -> np.ndarray:
    """Means and deviations of each tenth of a second, ``[T, 6]`` to ``[T // 5, 12]``, in about the units of their spread."""
    pieces = (frames / (0.7, 0.7, 0.7, 1.5, 1.5, 1.5))[: len(frames) // FRAMES * FRAMES].reshape(-1, FRAMES, 6)
    return np.concatenate([pieces.mean(1), 3 * pieces.std(1)], 1).astype(np.float32)


def disturbed(key: jax.Array, crops: jax.Array) -> jax.Array:
    """Noise, a watch that sits a little otherwise in each stretch ``[5, T, B, 12]``, and half of them on the other wrist."""
    k_noise, k_shift, k_gain, k_side = jax.random.split(key, 4)
    each = (len(crops), 1, *crops.shape[2:])
    gain = jnp.exp(0.15 * jax.random.normal(k_gain, each))
    other = jax.random.bernoulli(k_side, shape=(*each[:-1], 1))
    crops = jnp.where(other, crops * MIRROR, crops)
    return crops * gain + 0.2 * jax.random.normal(k_shift, each) + 0.2 * jax.random.normal(k_noise, crops.shape)


def moments(recordings: list[np.ndarray]) -> np.ndarray:
    """Means and deviations over each recording, in units of their spread over all."""
    pooled = np.stack([np.concatenate([frames.mean(0), frames.std(0)]) for frames in recordings])
    return (pooled - pooled.mean(0)) / pooled.std(0)


RECIPE = Recipe(
    "actions",
    set="watch recordings of seven shoulder exercises (Burns et al. 2018): 140 of ten subjects, each tested without its subject",
    metric="accuracy",
    better="higher",
    floor="logistic regression on pooled frames",
    make=make,
    beside="logistic regression on means and deviations that learns from eight subjects, not six: 88.6 %",
)
