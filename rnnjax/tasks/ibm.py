"""Which word gives which: IBM model 1, and translating word for word by it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NOTHING = 0  # stands before every source, for targets that come from none of its words; words are numbers from 1 on


class Gives(NamedTuple):
    """``t(f | e)`` where e and f share a sentence: e, f, t, each ``[N]``; ``fertility [E]``: how many targets an e gives on average."""

    e: np.ndarray
    f: np.ndarray
    t: np.ndarray
    fertility: np.ndarray


def model1(pairs: list[tuple[np.ndarray, np.ndarray]], rounds: int = 10) -> Gives:
    """IBM model 1 of pairs of sentences: every target word comes from one source word, or from none, all places alike.

    ``t(f | e)`` by expectation and maximisation, from even on: how often e gave f is the sum, over every f of a sentence that has
    an e, of ``t(f | e) / sum_{e'} t(f | e')``, e' the words of that source; t is that, divided by its sum over f.
    Source: Brown et al. 1993.

    >>> the, house, book = 1, 2, 3
    >>> das, haus, buch = 1, 2, 3
    >>> best(model1([(np.array([the, house]), np.array([das, haus])), (np.array([the, book]), np.array([das, buch]))]))
    {1: 1, 2: 2, 3: 3}
    """
    begun = [(np.concatenate([[NOTHING], e]).astype(np.int64), f) for e, f in pairs]
    links, which, e, f = linked(begun)
    often = t = np.ones(len(e))
    for _ in range(rounds):
        each = t[links]
        often = np.bincount(links, each / np.bincount(which, each)[which])
        t = often / np.bincount(e, often)[e]
    seen = np.bincount(np.concatenate([e for e, _ in begun]))
    return Gives(e, f, t, np.bincount(e, often, len(seen)) / np.maximum(seen, 1))


def linked(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, ...]:
    """Every way in which a target word may come from a source word of its sentence: which of the kinds (e, f) it is, and which
    target word of all; then e and f of each kind."""
    targets = 1 + max(int(f.max(initial=0)) for _, f in pairs)
    ways, which, begin = [], [], 0
    for e, f in pairs:
        ways.append(np.add.outer(e * targets, f).ravel())
        which.append(np.tile(begin + np.arange(len(f)), len(e)))
        begin += len(f)
    kinds, links = np.unique(np.concatenate(ways), return_inverse=True)
    return links, np.concatenate(which), kinds // targets, kinds % targets


def best(gives: Gives) -> dict[int, int]:
    """For each source word the target word that it most probably gives."""
    order = np.argsort(gives.t, kind="stable")  # the most probable last, which stays
    found = dict(zip(gives.e[order].tolist(), gives.f[order].tolist()))
    return {e: found[e] for e in sorted(found) if e != NOTHING}


def word_for_word(
    pairs: list[tuple[list[str], list[str]]], sources: list[list[str]], least: float = 0.0
) -> list[list[str]]:
    """Sources, each word by what it most probably gives in the pairs, in their order; what is new there stays as it is.

    least: words that give fewer on average are left out.

    >>> pairs = [(["the", "house"], ["das", "haus"]), (["the", "book"], ["das", "buch"])]
    >>> word_for_word(pairs, [["book", "house", "xyz"]])
    [['buch', 'haus', 'xyz']]
    """
    words = [sorted({word for pair in pairs for word in pair[side]}) for side in (0, 1)]
    place = [{word: i + 1 for i, word in enumerate(some)} for some in words]
    code = lambda text, side: np.array([place[side][word] for word in text], int)
    gives = model1([(code(source, 0), code(target, 1)) for source, target in pairs])
    said = {words[0][e - 1]: words[1][f - 1] for e, f in best(gives).items()}
    few = {words[0][e - 1] for e in range(1, len(gives.fertility)) if gives.fertility[e] < least}
    return [[said.get(word, word) for word in source if word not in few] for source in sources]
