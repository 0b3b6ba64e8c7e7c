"""`peptides`: does a short chain of amino acids kill microbes? Several small networks read it in both directions and vote."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import load, pad, sets
from rnnjax.tasks.floors import logistic, majority
from rnnjax.tasks.parts import dropped, pooled
from rnnjax.tasks.recipe import Problem, Recipe, Setting, cosine
from rnnjax.tasks.voting import classified, members_loss, started, vote

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
MEMBERS, LONGEST = 5, 64  # of longer chains (2 %) the beginning is read


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    steps, batch = setting.length(1500, full=3000), setting.pick(64, small=8)
    data = {split: load("peptides", split) for split in sets.SPLITS}
    chains = {split: [chain for chain, _ in part] for split, part in data.items()}
    tokens = {
        split: [np.array([RESIDUES.index(r) for r in c], np.int32) for c in chains[split]] for split in sets.SPLITS
    }
    given = {split: pad(part, LONGEST, cut=True) for split, part in tokens.items()}
    kills = {split: np.array([y for _, y in part], np.int32) for split, part in data.items()}

    member = Reader(setting.pick(64, small=4), setting.pick(32, small=4))
    says = vote(member)
    order = rj.data.batches(given["train"][1], batch, setting.seed)

    def batches(step: int) -> Any:
        places = order(step)
        lengths = given["train"][1][places]
        time = LONGEST if lengths.max() > LONGEST // 2 else LONGEST // 2  # two shapes to compile
        return given["train"][0][:time, places], lengths, kills["train"][places]

    shares = {split: np.array([composition(chain) for chain in part]) for split, part in chains.items()}
    floors = {
        "most frequent answer": lambda: majority(kills["train"].tolist(), kills["test"].tolist()),
        "logistic regression on the composition": lambda: logistic(*((shares[s], kills[s]) for s in sets.SPLITS)),
        "logistic regression on pairs of neighbours": lambda: logistic(
            *((np.array([pairs(chain) for chain in chains[s]]), kills[s]) for s in sets.SPLITS)
        ),
    }
    return Problem(
        started(member.init, setting.seed, MEMBERS),
        members_loss(member),
        batches,
        lambda params, split: classified(says(params, *given[split]), kills[split]),
        floors,
        cosine(3e-3, steps, weight_decay=1e-2),
        steps,
        noise=True,
    )


class Reader(NamedTuple):
    """One of the networks: a GRU in both directions; the mean and the largest of what it says along the chain decide.

    hidden H: of each direction. features F: of an amino acid. Under dropout amino acids, parts of them and parts of the sum are left out.
    """

    hidden: int
    features: int

    @property
    def layer(self) -> Any:
        return rj.Bidirectional(rj.GRU(self.hidden))

    def init(self, key: jax.Array) -> dict[str, Any]:
        """``table`` ``[20, F]``, ``layer``, ``output`` ``[4 H + 1, 2]``, the bias its last row."""
        k_table, k_layer = jax.random.split(key)
        table = jax.random.normal(k_table, (len(RESIDUES), self.features))
        output = jnp.zeros((4 * self.hidden + 1, 2))
        return {"table": table, "layer": self.layer.init(k_layer, table[0]), "output": output}

    def __call__(self, params: Any, chain: jax.Array, lengths: jax.Array, key: Any = None) -> jax.Array:
        """Logits ``[B, 2]`` of chains ``[T, B]``; under dropout where there is a key."""
        k_residue, k_part, k_seen = (None,) * 3 if key is None else (*jax.random.split(key), jax.random.fold_in(key, 2))
        vectors = params["table"][chain]
        vectors = dropped(k_part, 0.15, dropped(k_residue, 0.1, vectors, (*chain.shape, 1)))
        _, ys = self.layer(params["layer"], vectors, lengths=lengths)
        return dropped(k_seen, 0.4, pooled(ys, lengths)) @ params["output"][:-1] + params["output"][-1]


def composition(chain: str) -> np.ndarray:
    """The share of each amino acid, and the length in hundreds.

    >>> composition("AAAC")[:2].tolist(), float(composition("AAAC")[-1])
    ([0.75, 0.25], 0.04)
    """
    seen = Counter(chain)
    return np.array([*(seen[r] / len(chain) for r in RESIDUES), len(chain) / 100])


def pairs(chain: str) -> np.ndarray:
    """The composition, and how often each two amino acids are neighbours, per 10 residues."""
    counts = np.zeros((len(RESIDUES), len(RESIDUES)))
    places = [RESIDUES.index(r) for r in chain]
    np.add.at(counts, (places[:-1], places[1:]), 10 / len(chain))
    return np.concatenate([composition(chain), counts.ravel()])


RECIPE = Recipe(
    "peptides",
    set="antimicrobial peptides and others from UniProt (Mueller et al. 2017): 4,620 without repeats and conflicts, 452 to test",
    metric="accuracy",
    better="higher",
    floor="the best of logistic regressions on composition and on pairs of neighbours",
    make=make,
    beside="logistic regression on the composition, another split, 79.6 %",
)
