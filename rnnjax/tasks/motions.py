"""`motions`: how does a digit move? A convolutional LSTM watches a film and names it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import sets, synthetic
from rnnjax.tasks.digits import digits
from rnnjax.tasks.floors import logistic, majority
from rnnjax.tasks.recipe import Problem, Recipe, Setting, cosine
from rnnjax.tasks.voting import classified

FRAMES, SIZE = 8, 16
MOVES = synthetic.MOVES


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    hidden, steps, batch = setting.pick(16, small=2), setting.length(200, full=3000), setting.pick(32, small=8)
    pictures = {split: digits(split) for split in sets.SPLITS}
    count = {
        "train": setting.pick(2000, small=60),
        "valid": setting.pick(500, small=40),
        "test": setting.pick(1000, small=40),
    }
    film = lambda split, seed, count: watched(synthetic.films(*pictures[split], seed, count, FRAMES, size=SIZE))
    held = {split: film(split, [setting.seed, place], count[split]) for place, split in enumerate(sets.SPLITS)}

    cell = rj.ConvLSTM(hidden, kernel=5, strides=2)
    k_cell, k_output = jax.random.split(jax.random.key(setting.seed))
    params = {
        "cell": cell.init(k_cell, jnp.zeros((SIZE, SIZE, 1))),
        "output": jax.random.normal(k_output, (hidden, len(MOVES))) / np.sqrt(hidden),
        "bias": jnp.zeros(len(MOVES)),
    }

    def logits(params: Any, frames: jax.Array) -> jax.Array:
        """``[B, 7]``: what the last state shows, averaged over the field."""
        _, shown = rj.unroll(cell, params["cell"], frames)
        return shown[-1].mean((-3, -2)) * SIZE @ params["output"] + params["bias"]

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        frames, moves = batch
        return carry, rj.losses.softmax_cross_entropy(logits(params, frames), moves).mean()

    says = jax.jit(lambda params, frames: jax.nn.log_softmax(logits(params, frames)))
    batches = lambda step: film("train", [setting.seed, len(sets.SPLITS), step], batch)
    flat = lambda split, at: (held[split][0][at].reshape(len(held[split][1]), -1), held[split][1])

    def one_frame() -> float:
        """No frame says more than another: the first, the middle and the last, and the best of them counts."""
        return max(logistic(*(flat(split, at) for split in sets.SPLITS)) for at in (0, FRAMES // 2, FRAMES - 1))

    floors = {
        "most frequent move": lambda: majority(held["train"][1].tolist(), held["test"][1].tolist()),
        "logistic regression on one frame, the best of three": one_frame,
    }
    score = lambda params, split: classified(says(params, held[split][0]), held[split][1])
    return Problem(params, loss, batches, score, floors, cosine(5e-3, steps), steps)


def watched(films: synthetic.Films) -> tuple[np.ndarray, np.ndarray]:
    """frames ``[T, B, size, size, 1]``, and how the only digit moves ``[B]``."""
    return films.frames[..., None], films.moves[:, 0]


RECIPE = Recipe(
    "motions",
    set="films of eight frames, made on the fly: one of scikit-learn's digits on a field without borders moves in one of seven ways; "
    "no digit of the test is trained on",
    metric="accuracy",
    better="higher",
    floor="the best classifier of one frame",
    make=make,
)
