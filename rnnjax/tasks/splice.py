"""`splice`: is the middle of 60 bases of DNA where an intron begins, where one ends, or neither?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import load, sets
from rnnjax.tasks.floors import logistic, majority
from rnnjax.tasks.recipe import Problem, Recipe, Setting, cosine
from rnnjax.tasks.voting import classified, members_loss, started, vote

JUNCTIONS = ("EI", "IE", "N")  # exon to intron (donor), intron to exon (acceptor), neither
BASES = "ACGT"
UNSURE = {"N": "ACGT", "D": "AGT", "R": "AG", "S": "CG"}  # letters of IUPAC for one base of several
MEMBERS = 4


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    hidden = setting.pick(48, small=4)
    steps, batch = setting.length(600, full=2000), setting.pick(64, small=8)
    data = {split: load("splice", split) for split in sets.SPLITS}
    given = {split: np.stack([shares(text) for text, _ in part], 1) for split, part in data.items()}
    kind = {split: np.array([JUNCTIONS.index(y) for _, y in part], np.int32) for split, part in data.items()}
    middle = len(given["train"]) // 2

    cell = rj.GRU(hidden)

    def start(key: jax.Array) -> Any:
        k_left, k_right = jax.random.split(key)
        x, output = jnp.zeros(len(BASES)), jnp.zeros((2 * hidden + 1, len(JUNCTIONS)))
        return {"left": cell.init(k_left, x), "right": cell.init(k_right, x), "output": output}

    def member(params: Any, xs: jax.Array, key: Any = None) -> jax.Array:
        """Logits ``[B, 3]``: one reader comes from the left, one from the right, and they meet in the middle."""
        if key is not None:  # bases left out
            xs = xs * jax.random.bernoulli(key, 0.8, (*xs.shape[:2], 1))
        left = rj.unroll(cell, params["left"], xs[:middle])[0]
        right = rj.unroll(cell, params["right"], xs[middle:], reverse=True)[0]
        met = jnp.concatenate([left, right], -1)
        return met @ params["output"][:-1] + params["output"][-1]

    says = vote(member)
    order = rj.data.batches(np.full(len(kind["train"]), 60), batch, setting.seed, pool=1)
    batches = lambda step: (given["train"][:, (places := order(step))], kind["train"][places])
    flat = {split: np.moveaxis(xs, 0, 1).reshape(xs.shape[1], -1) for split, xs in given.items()}
    floors = {
        "most frequent answer": lambda: majority(kind["train"].tolist(), kind["test"].tolist()),
        "logistic regression on the bases": lambda: logistic(*((flat[split], kind[split]) for split in sets.SPLITS)),
    }
    return Problem(
        started(start, setting.seed, MEMBERS),
        members_loss(member, smoothing=0.05),
        batches,
        lambda params, split: classified(says(params, given[split]), kind[split]),
        floors,
        cosine(3e-3, steps),
        steps,
        noise=True,
    )


def shares(text: str) -> np.ndarray:
    """``[T, 4]``: which base each letter is; a letter for one of several is spread over them.

    >>> shares("AR").tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0]]
    """
    is_one_of = np.array([[base in UNSURE.get(letter, letter) for base in BASES] for letter in text], np.float32)
    return is_one_of / is_one_of.sum(-1, keepdims=True)


RECIPE = Recipe(
    "splice",
    set="splice junctions of primates (Noordewier et al. 1991): 60 bases, 3,005 without repeats, 311 of them to test",
    metric="accuracy",
    better="higher",
    floor="logistic regression on the bases",
    make=make,
    beside="logistic regression on another split 95.4 %",
)
