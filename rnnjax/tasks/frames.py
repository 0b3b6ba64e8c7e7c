"""`frames`: two digits fly over a field and bounce off its borders; a convolutional LSTM draws the next frame."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import sets, synthetic
from rnnjax.tasks.digits import digits
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

TIME, SIZE, PATCH, SEEN = 12, 16, 2, 3  # the first SEEN frames are given before the first that is judged


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    hidden, steps, batch = setting.pick(24, small=2), setting.length(4000, full=12000), setting.pick(16, small=4)
    pictures = {split: digits(split)[0] for split in sets.SPLITS}
    count = {
        "train": setting.pick(400, small=8),
        "valid": setting.pick(200, small=8),
        "test": setting.pick(400, small=8),
    }
    film = lambda split, seed, count: synthetic.moving(pictures[split], seed, count, TIME, size=SIZE, count=2)
    held = {split: film(split, [setting.seed, place], count[split]) for place, split in enumerate(sets.SPLITS)}

    cell: Any = rj.Readout(rj.ConvLSTM(hidden, kernel=5), PATCH * PATCH)
    params = cell.init(jax.random.key(setting.seed), to_patches(jnp.zeros((SIZE, SIZE))))

    def drawn(params: Any, film: jax.Array) -> jax.Array:
        """The frames that follow each frame, ``[T, B, size, size]``: the frame itself and what is to be changed."""
        # written out frame by frame: a kernel of five by five is then half as fast again as in a loop, on a CPU
        _, change = rj.unroll(cell, params, to_patches(film), method="loop")
        return film + from_patches(change)

    def squares(params: Any, film: jax.Array) -> jax.Array:
        return jnp.mean((drawn(params, film[:-1]) - film[1:])[SEEN - 1 :] ** 2)

    measure = jax.jit(squares)
    loss = lambda params, carry, film, key: (carry, squares(params, film))
    score = lambda params, split: Score(float(measure(params, held[split])))
    batches = lambda step: film("train", [setting.seed, len(sets.SPLITS), step], batch)
    floors = {
        "the last frame again": lambda: error(held["test"][SEEN - 1 : -1], held["test"]),
        "linear regression on the pixels round each, of two frames": lambda: neighbours(
            held["train"][:, :100], held["test"]
        ),
    }
    return Problem(params, loss, batches, score, floors, cosine(3e-3, steps), steps)


def to_patches(film: Any) -> jax.Array:
    """``[..., H, W] -> [..., H/2, W/2, 4]``: squares of pixels as channels, as in the paper (Shi et al. 2015)."""
    *lead, h, w = jnp.shape(film)
    parts = jnp.reshape(film, (*lead, h // PATCH, PATCH, w // PATCH, PATCH))
    return jnp.moveaxis(parts, -3, -2).reshape(*lead, h // PATCH, w // PATCH, PATCH * PATCH)


def from_patches(patches: Any) -> jax.Array:
    """The way back.

    >>> film = jnp.arange(32.0).reshape(2, 4, 4)
    >>> bool((from_patches(to_patches(film)) == film).all())
    True
    """
    *lead, h, w, _ = jnp.shape(patches)
    parts = jnp.reshape(patches, (*lead, h, w, PATCH, PATCH))
    return jnp.moveaxis(parts, -2, -3).reshape(*lead, h * PATCH, w * PATCH)


def error(said: np.ndarray, film: np.ndarray) -> float:
    """Mean squared error of what is said of the frames from `SEEN` on."""
    return float(np.mean((said - film[SEEN:]) ** 2))


def neighbours(train: np.ndarray, test: np.ndarray, reach: int = 3) -> float:
    """The error of least squares from the pixels up to ``reach`` away in the last two frames."""
    weights = np.linalg.lstsq(*(side.reshape(-1, side.shape[-1]) for side in around(train, reach)), rcond=None)[0]
    given, _ = around(test, reach)
    return error((given @ weights)[..., 0], test)


def around(film: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """What is round each pixel of the frames before, ``[T', B, H, W, 2 (2 reach + 1)^2 + 1]``, and the pixel ``[..., 1]``."""
    wide = np.pad(film, [(0, 0), (0, 0), (reach, reach), (reach, reach)])
    views = np.lib.stride_tricks.sliding_window_view(wide, (2 * reach + 1,) * 2, (2, 3))
    given = [views[SEEN - 1 - back : len(film) - 1 - back].reshape(*film[SEEN:].shape, -1) for back in (0, 1)]
    return np.concatenate([*given, np.ones((*film[SEEN:].shape, 1), film.dtype)], -1), film[SEEN:, ..., None]


RECIPE = Recipe(
    "frames",
    set="films of twelve frames, made on the fly: two of scikit-learn's digits on a field of 16 by 16; no digit of the test is trained on",
    metric="mse",
    better="lower",
    floor="the best of the last frame again and a regression on two frames",
    make=make,
)
