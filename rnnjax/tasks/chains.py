"""The proteins of `structure`: the stretches whose structure is known, families in folds, and batches of stretches."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from rnnjax.data import pad, sets
from rnnjax.tasks.residues import RESIDUES

STATES = "HEC"
FOLDS = 5  # the set is small: each family is tested, by a network that learned from other families
SHORTEST = 15  # residues of a chain


class Chain(NamedTuple):
    """A stretch of a protein whose structure is known. residues, states ``[t]``: places in `RESIDUES` and `STATES`."""

    family: str
    residues: np.ndarray
    states: np.ndarray


def chains_of(proteins: list[Any]) -> list[Chain]:
    """The stretches of proteins whose structure is known, longest families first."""
    found = []
    for protein in proteins:
        for seen in re.finditer(f"[{STATES}]{{{SHORTEST},}}", protein.states):
            letters = protein.residues[slice(*seen.span())]
            code = lambda text, letters: np.array([letters.index(letter) for letter in text], np.int32)
            found.append(Chain(protein.family, code(letters, RESIDUES), code(seen[0], STATES)))
    return found


def folds(chains: list[Chain]) -> list[set[str]]:
    """`FOLDS` sets of families with about as many residues each: the largest family left goes to the smallest set."""
    sizes: dict[str, int] = {}
    for chain in chains:
        sizes[chain.family] = sizes.get(chain.family, 0) + len(chain.states)
    found: list[set[str]] = [set() for _ in range(FOLDS)]
    for family in sorted(sizes, key=lambda family: (-sizes[family], family)):
        min(found, key=lambda fold: sum(sizes[name] for name in fold)).add(family)
    return found


def part(chains: list[Chain], test: set[str]) -> dict[str, list[Chain]]:
    """train, valid and test where these families are tested: the next fold is valid."""
    every = folds(chains)
    valid = every[(every.index(test) + 1) % FOLDS]
    which = lambda chain: "test" if chain.family in test else "valid" if chain.family in valid else "train"
    return {split: [chain for chain in chains if which(chain) == split] for split in sets.SPLITS}


def stacked(groups: list[list[Chain]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """residues, states ``[F, T, B]``, lengths ``[F, B]``: F groups of chains, padded by chains of length 0."""
    time = max(len(chain.states) for group in groups for chain in group)
    width = max(map(len, groups))
    filled = [[*group, *[EMPTY] * (width - len(group))] for group in groups]
    padded = [[pad([chain[i] for chain in group], time) for group in filled] for i in (1, 2)]
    residues, states = (np.stack([array for array, _ in column]) for column in padded)
    return residues, states, np.stack([lengths for _, lengths in padded[0]])


EMPTY = Chain("", np.zeros(0, np.int32), np.zeros(0, np.int32))


def crops(rounds: list[Any], rng: np.random.Generator, batch: int, time: int) -> Any:
    """For each fold ``batch`` stretches of its training chains, long chains more often."""
    groups = []
    for its in rounds:
        lengths = np.array([len(chain.states) for chain in its["train"]])
        chosen = rng.choice(len(lengths), batch, p=lengths / lengths.sum())
        starts = [int(rng.random() * max(1, lengths[i] - time + 1)) for i in chosen]
        cut = lambda chain, at: Chain("", chain.residues[at : at + time], chain.states[at : at + time])
        groups.append([cut(its["train"][i], at) for i, at in zip(chosen, starts)])
    return stacked(groups)
