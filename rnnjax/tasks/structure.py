"""`structure`: is a residue of a protein in a helix, in a strand, or neither? Read in both directions, with and without a CRF.

Thirteen families are too few to learn from which residues are alike: the network reads their properties (`rnnjax.tasks.residues`).
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import load, sets
from rnnjax.tasks.chains import FOLDS, STATES, Chain, chains_of, crops, folds, part, stacked
from rnnjax.tasks.floors import logistic
from rnnjax.tasks.parts import dropped
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine
from rnnjax.tasks.residues import RESIDUES, properties

KINDS, MEMBERS = ("without CRF", "with CRF"), 2
REACH, PROPERTIES = 17, properties()
SIDES = (3, 5, 8)  # residues on either side that a window of the floors holds


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch, time = setting.length(100, full=400), setting.pick(24, small=4), setting.pick(64, small=16)
    chains = chains_of([protein for split in sets.SPLITS for protein in load("proteins", split)])
    rounds = [part(chains, test) for test in folds(chains)]
    held = {split: stacked([its[split] for its in rounds]) for split in ("valid", "test")}
    reader = Reader(setting.pick(48, small=4))
    judge = jax.jit(partial(judged, reader))

    def score(params: Any, split: str) -> Score:
        """Which of the two counts is chosen on valid."""
        found = judge(params, held[split])
        valid = found if split == "valid" else judge(params, held["valid"])
        chosen = max(KINDS, key=lambda name: float(valid[name][1]))
        shares = {name: float(share) for name, (_, share) in found.items()}
        return Score(shares[chosen], shares, loss=float(sum(nats for nats, _ in found.values())))

    keys = jax.random.split(jax.random.key(setting.seed), (len(KINDS), FOLDS, MEMBERS))
    params = {name: jax.vmap(jax.vmap(reader.init))(key) for name, key in zip(KINDS, keys)}
    loss = lambda params, carry, batch, key: (carry, learned(reader, params, batch, key))
    batches = lambda step: crops(rounds, np.random.default_rng([setting.seed, step]), batch, time)
    floors = {
        "most frequent state": lambda: over_folds(rounds, lambda its: most_frequent(its["train"], its["test"])),
        "GOR": lambda: over_folds(rounds, lambda its: gor(its["train"], its["valid"], its["test"])),
        "logistic regression on a window": lambda: over_folds(
            rounds, partial(window_regression, np.eye(len(RESIDUES)))
        ),
        "logistic regression on properties in a window": lambda: over_folds(
            rounds, partial(window_regression, PROPERTIES)
        ),
    }
    return Problem(params, loss, batches, score, floors, cosine(2e-3, steps, weight_decay=10.0), steps, noise=True)


class Reader(NamedTuple):
    """One network: what the properties of each residue within eight places say, and what a GRU of ``hidden`` H in both directions does."""

    hidden: int

    @property
    def layer(self) -> Any:
        return rj.Bidirectional(rj.GRU(self.hidden))

    def init(self, key: jax.Array) -> dict[str, Any]:
        """``near`` ``[17 x 11, 3]``, ``output`` ``[2H + 1, 3]``, and what a CRF learns of neighbours and ends."""
        chain = {"transitions": jnp.zeros((3, 3)), "start": jnp.zeros(3), "end": jnp.zeros(3)}
        near, output = jnp.zeros((REACH * PROPERTIES.shape[1], 3)), jnp.zeros((2 * self.hidden + 1, 3))
        layer = self.layer.init(key, jnp.zeros(PROPERTIES.shape[1]))
        return {"layer": layer, "near": near, "output": output, "chain": chain}

    def __call__(self, params: Any, residues: jax.Array, lengths: jax.Array, key: Any = None) -> jax.Array:
        """Logits ``[T, B, 3]``. With a key some residues are hidden, and some of what the GRU says."""
        k_residue, k_said = (None, None) if key is None else jax.random.split(key)
        xs = dropped(k_residue, 0.1, jnp.asarray(PROPERTIES)[residues], (*residues.shape, 1))
        xs = jnp.where(inside(xs, lengths)[..., None], xs, 0.0)
        _, ys = self.layer(params["layer"], xs, lengths=lengths)
        read = dropped(k_said, 0.5, ys) @ params["output"][:-1] + params["output"][-1]
        return read + near(xs, params["near"])


def learned(reader: Reader, params: Any, batch: Any, key: jax.Array) -> jax.Array:
    """Nats a residue, the mean over kinds, folds and members; each learns on its own."""

    def one(name: str, params: Any, residues: Any, states: Any, lengths: Any, key: Any) -> jax.Array:
        says = reader(params, residues, lengths, key)
        return nats(name, params["chain"], says, states, lengths) / lengths.sum().astype(says.dtype)

    alike = lambda name: jax.vmap(partial(one, name), in_axes=(0, None, None, None, 0))  # the members of a fold
    keys = jax.random.split(key, (len(KINDS), FOLDS, MEMBERS))
    return jnp.stack([jax.vmap(alike(name))(params[name], *batch, key) for name, key in zip(KINDS, keys)]).mean()


def judged(reader: Reader, params: Any, held: Any) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Of each kind nats a residue, and the share of residues that is right; the members' scores are averaged."""

    def one(name: str, params: Any, residues: Any, states: Any, lengths: Any) -> tuple[jax.Array, jax.Array]:
        says = jax.vmap(reader, in_axes=(0, None, None))(params, residues, lengths).mean(0)
        chain = jax.tree.map(lambda each: each.mean(0), params["chain"])
        right = best(name, chain, says, lengths) == states
        return nats(name, chain, says, states, lengths), (right & inside(says, lengths)).sum()

    residues = held[2].sum()
    sums = {name: jax.vmap(partial(one, name))(params[name], *held) for name in KINDS}
    return jax.tree.map(lambda each: each.sum().astype(jnp.float32) / residues.astype(jnp.float32), sums)


def near(xs: jax.Array, weights: jax.Array) -> jax.Array:
    """``[T, B, I] -> [T, B, K]``: what those round each step say of it, ``sum_m xs[t + m - REACH // 2] W_m``, W ``[REACH I, K]``."""
    each = jnp.einsum("tbi,mik->mtbk", xs, weights.reshape(REACH, xs.shape[-1], -1))
    wide = jnp.pad(each, [(0, 0), (REACH // 2, REACH // 2), (0, 0), (0, 0)])
    return sum(wide[m, m : m + len(xs)] for m in range(REACH))


def inside(says: jax.Array, lengths: jax.Array) -> jax.Array:
    """Which steps ``[T, B]`` are of a chain and not behind its end."""
    return jnp.arange(len(says))[:, None] < lengths


def nats(name: str, chain: Any, says: jax.Array, states: jax.Array, lengths: jax.Array) -> jax.Array:
    """``-log p(states)`` summed over all chains: residue by residue, or of a chain's states together."""
    if name == "with CRF":
        return rj.losses.crf(says, states, lengths=lengths, **chain).sum()
    return rj.losses.softmax_cross_entropy(says, states, mask=inside(says, lengths)).sum()


def best(name: str, chain: Any, says: jax.Array, lengths: jax.Array) -> jax.Array:
    """The states ``[T, B]``: the likeliest of each residue, or the likeliest of a chain together."""
    return rj.seq2seq.viterbi(says, lengths=lengths, **chain)[0] if name == "with CRF" else says.argmax(-1)


# -- without recurrence ------------------------------------------------------------------------------------------------


def over_folds(rounds: list[Any], measure: Any) -> float:
    """The share of all residues that is right, each fold measured on its own test families."""
    sizes = [sum(len(chain.states) for chain in its["test"]) for its in rounds]
    return float(np.average([measure(its) for its in rounds], weights=sizes))


def most_frequent(train: list[Chain], test: list[Chain]) -> float:
    """The share of the test residues that are in the commonest state of the training ones."""
    counts = np.bincount(np.concatenate([chain.states for chain in train]), minlength=len(STATES))
    return float((np.concatenate([chain.states for chain in test]) == counts.argmax()).mean())


def windows(chains: list[Chain], side: int) -> tuple[np.ndarray, np.ndarray]:
    """The residues round each residue, ``[N, 2 side + 1]``, `len(RESIDUES)` beyond the ends of a chain; and its state ``[N]``."""
    edge = np.full(side, len(RESIDUES))
    rows = [
        np.lib.stride_tricks.sliding_window_view(np.concatenate([edge, chain.residues, edge]), 2 * side + 1)
        for chain in chains
    ]
    return np.concatenate(rows), np.concatenate([chain.states for chain in chains])


def gor(train: list[Chain], valid: list[Chain], test: list[Chain]) -> float:
    """The information that each residue of a window has on the state in its middle, summed; the width is chosen on valid.

    ``argmax_s log n(s) + sum_m log (n(s, m, r_m) + 1) / (n(s) + 21)``: n counts in train, r_m the residue m places on.
    Source: Garnier, Osguthorpe, Robson 1978, J. Mol. Biol. 120:97.
    """

    def right(side: int, chains: list[Chain]) -> float:
        given, states = windows(train, side)
        kinds, places = len(RESIDUES) + 1, np.arange(2 * side + 1)
        counts = np.zeros((len(STATES), len(places), kinds))
        np.add.at(counts, (states[:, None], places, given), 1)
        seen = np.bincount(states, minlength=len(STATES))
        known = np.log(counts + 1) - np.log(seen + kinds)[:, None, None]
        asked, answers = windows(chains, side)
        says = np.log(seen)[:, None] + known[:, places, asked].sum(-1)
        return float((says.argmax(0) == answers).mean())

    return right(max(SIDES, key=lambda side: right(side, valid)), test)


def window_regression(known: np.ndarray, its: dict[str, list[Chain]]) -> float:
    """Logistic regression on what is known ``[20, F]`` of the residue at each place of the widest window, or that the chain has ended."""
    table = np.block([[known, np.zeros((len(known), 1))], [np.zeros((1, known.shape[1])), np.ones((1, 1))]])

    def given(chains: list[Chain]) -> tuple[np.ndarray, np.ndarray]:
        rows, states = windows(chains, max(SIDES))
        # small numbers, as `logistic` tries strengths for numbers of size 1, and here are hundreds of them
        return 0.1 * table[rows].reshape(len(rows), -1).astype(np.float32), states

    return logistic(*(given(its[split]) for split in sets.SPLITS))


RECIPE = Recipe(
    "structure",
    set="37 proteins of Swiss-Prot with 9,412 residues of known structure (EMBOSS's test files), a small set; "
    "22 families, each tested by a network that learned from others",
    metric="accuracy",
    better="higher",
    floor="the best of GOR and regressions on a window of residues",
    make=make,
)
