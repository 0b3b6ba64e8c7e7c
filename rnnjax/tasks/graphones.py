"""What `phonemes` has to beat: letters and sounds are aligned, and an n-gram model of the aligned pairs spells words out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnnjax.tasks.ngrams import BEGIN, END, NGrams

LETTERS = "'-.abcdefghijklmnopqrstuvwxyz"
Said = tuple[str, ...]  # what is spoken, phone by phone
MOST = 2  # phones that one letter may stand for
RARE = 3  # a pair of letter and phones that came less often is not used


class Graphones(NamedTuple):
    """A joint-sequence model: every letter stands for 0 to 2 phones, and an n-gram model says which pairs follow which.

    pairs: ``(letter, phones)`` of the symbols from 2 on. choices ``[29, C]``: the symbols of a letter, -1 where there is no other.
    Source: Bisani and Ney 2008, with one letter a pair; the alignment of Jiampojamarn, Kondrak and Sherif 2007.
    """

    model: NGrams
    pairs: list[tuple[str, Said]]
    choices: np.ndarray

    @classmethod
    def of(cls, aligned: list[list[tuple[str, Said]]], order: int) -> Graphones:
        """Counted on words that `align` took apart."""
        often: dict[tuple[str, Said], int] = {}
        for word in aligned:
            for pair in word:
                often[pair] = often.get(pair, 0) + 1
        pairs = sorted(pair for pair, n in often.items() if n >= RARE)
        place = {pair: i + 2 for i, pair in enumerate(pairs)}
        words = [np.array([place[pair] for pair in word]) for word in aligned if all(pair in place for pair in word)]
        of_letter = [[place[pair] for pair in pairs if pair[0] == letter] for letter in LETTERS]
        choices = np.full((len(LETTERS), max(map(len, of_letter))), -1)
        for row, some in zip(choices, of_letter):
            row[: len(some)] = some
        return cls(NGrams.of(words, len(pairs) + 2, order), pairs, choices)

    def speak(self, words: list[str], beams: int = 8) -> list[Said]:
        """The most probable pairs for the letters of each word, by a beam; what they say."""
        order = np.argsort([-len(word) for word in words], kind="stable")
        found = {}
        for part in np.array_split(order, max(1, len(words) // 1000)):
            found |= zip(part.tolist(), self._search([words[i] for i in part], beams))
        return [tuple(p for symbol in found[i] for p in self.pairs[symbol - 2][1]) for i in range(len(words))]

    def _search(self, words: list[str], beams: int) -> list[list[int]]:
        """The symbols of each word; longest words first."""
        lengths, size = np.array([len(word) for word in words]), self.model.symbols
        histories, scores = np.full((len(words), 1), BEGIN), np.zeros((len(words), 1))
        paths = np.zeros((len(words), 1, 0), int)
        done: dict[int, list[int]] = {}
        keep = size ** (len(self.model.levels) - 1)
        for at in range(lengths[0] + 1):
            ended = np.flatnonzero(lengths == at)
            if len(ended):
                last = scores[ended] + np.log(self.model.probability(histories[ended] % keep * size + END))
                done |= zip(ended.tolist(), paths[ended, last.argmax(1)].tolist())
            live = int(np.sum(lengths > at))
            if live == 0:
                break
            letters = np.array([LETTERS.index(word[at]) for word in words[:live]])
            symbols = np.broadcast_to(self.choices[letters][:, None], (live, scores.shape[1], self.choices.shape[1]))
            grams = histories[:live, :, None] % keep * size + symbols
            with np.errstate(divide="ignore"):
                more = np.where(symbols >= 0, np.log(self.model.probability(grams)), -np.inf) + scores[:live, :, None]
            flat = more.reshape(live, -1)
            best = np.argsort(-flat, 1)[:, :beams]
            parent, rows = best // symbols.shape[2], np.arange(live)[:, None]
            taken = symbols.reshape(live, -1)[rows, best]
            scores, histories = flat[rows, best], histories[rows, parent] % keep * size + taken
            paths = np.concatenate([paths[rows, parent], taken[..., None]], 2)
        return [done[i] for i in range(len(words))]


# -- the alignment -----------------------------------------------------------------------------------------------------


def align(words: list[tuple[str, Said]], rounds: int = 8) -> list[list[tuple[str, Said]]]:
    """Takes words apart into pairs of a letter and 0 to 2 phones, the most probable way under ``p(phones | letter)``.

    That is learned by expectation and maximisation over all ways, from even on. Short words come first; those that cannot be taken
    apart are left out.

    >>> align([("ax", ("AE", "K", "S")), ("a", ("AE",)), ("a", ("K", "S", "S"))])
    [[('a', ('AE',))], [('a', ('AE',)), ('x', ('K', 'S'))]]
    """
    phones = sorted({phone for _, said in words for phone in said})
    groups = grouped(words, phones)
    p = np.ones((len(LETTERS), chunks(len(phones)) + 1))
    p[:, -1] = 0
    for _ in range(rounds):
        often = sum(expected(p, *group) for group in groups)
        p = often / np.maximum(often.sum(1, keepdims=True), 1e-30)
    return [pair for group in groups for pair in best(p, *group, phones)]


def chunks(phones: int) -> int:
    """How many sequences of 0 to 2 phones there are."""
    return sum(phones**n for n in range(MOST + 1))


def grouped(words: list[tuple[str, Said]], phones: list[str]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Words of as many letters together: letters ``[N, n]``, how many phones ``[N]``, and ``[3, N, M + 1]`` which chunk begins
    at a phone, of 0, 1 and 2 phones; -1 where there are not as many left."""
    place, found = {phone: i for i, phone in enumerate(phones)}, []
    for n in sorted({len(word) for word, _ in words}):
        part = [(word, said) for word, said in words if len(word) == n]
        counts = np.array([len(said) for _, said in part])
        spoken = np.full((len(part), counts.max() + MOST + 1), -1)
        for row, (_, said) in zip(spoken, part):
            row[: len(said)] = [place[phone] for phone in said]
        one, two = spoken[:, :-MOST], spoken[:, 1 : 1 - MOST]
        singles, doubles = 1 + one, 1 + len(phones) * (1 + one) + two
        starts = np.stack([0 * one, np.where(one >= 0, singles, -1), np.where(two >= 0, doubles, -1)])
        found.append((np.array([[LETTERS.index(letter) for letter in word] for word, _ in part]), counts, starts))
    return found


def moves(p: np.ndarray, letters: np.ndarray, starts: np.ndarray, i: int) -> list[np.ndarray]:
    """``p(chunk | letter i)`` for the chunks that begin at each phone, by their length."""
    return [p[letters[:, i, None], starts[size]] for size in range(MOST + 1)]


def forward(p: np.ndarray, letters: np.ndarray, starts: np.ndarray, join: np.ufunc) -> list[np.ndarray]:
    """For each number of letters ``[N, M + 1]``: of all ways to say them by so many phones the sum, or the best."""
    reached = [np.eye(1, starts.shape[2])[[0] * len(letters)]]
    for i in range(letters.shape[1]):
        new = np.zeros_like(reached[0])
        for size, q in enumerate(moves(p, letters, starts, i)):
            end = new.shape[1] - size
            new[:, size:] = join(new[:, size:], (reached[-1] * q)[:, :end])
        reached.append(new)
    return reached


def expected(p: np.ndarray, letters: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """How often each letter stood for each chunk, all ways of a word weighed by their probability."""
    reached, rows, often = forward(p, letters, starts, np.add), np.arange(len(letters)), np.zeros(p.size)
    total = reached[-1][rows, counts]
    left = np.zeros_like(reached[0])
    left[rows, counts] = np.where(total > 0, 1 / np.where(total > 0, total, 1), 0)
    for i in reversed(range(letters.shape[1])):
        before = np.zeros_like(left)
        for size, q in enumerate(moves(p, letters, starts, i)):
            end = left.shape[1] - size
            through = q[:, :end] * left[:, size:]
            at = letters[:, i, None] * p.shape[1] + starts[size][:, :end] % p.shape[1]
            often += np.bincount(at.ravel(), (reached[i][:, :end] * through).ravel(), p.size)
            before[:, :end] += through
        left = before
    return often.reshape(p.shape)


def best(
    p: np.ndarray, letters: np.ndarray, counts: np.ndarray, starts: np.ndarray, phones: list[str]
) -> list[list[tuple[str, Said]]]:
    """The most probable way of each word that has one."""
    reached, rows, at = forward(p, letters, starts, np.maximum), np.arange(len(letters)), counts
    taken = []
    for i in reversed(range(letters.shape[1])):
        q = moves(p, letters, starts, i)
        came = [
            np.where(at >= size, (reached[i] * q[size])[rows, np.maximum(at - size, 0)], 0) for size in range(MOST + 1)
        ]
        size = np.argmax(came, 0)
        at = at - size
        taken.append(starts[size, rows, at])
    names = [(), *((a,) for a in phones), *((a, b) for a in phones for b in phones)]
    ways = zip(letters.tolist(), np.array(taken[::-1]).T.tolist(), reached[-1][rows, counts])
    return [[(LETTERS[l], names[c]) for l, c in zip(*way)] for *way, reachable in ways if reachable > 0]
