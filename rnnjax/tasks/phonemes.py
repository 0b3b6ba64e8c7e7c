"""`phonemes`: reads a word letter by letter and writes how it is spoken; attention says which letters each sound comes from."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import load, sets
from rnnjax.tasks.graphones import LETTERS, Graphones, align
from rnnjax.tasks.pairs import batches, written
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine

Said = tuple[str, ...]  # one pronunciation
Entry = tuple[str, tuple[Said, ...]]  # a word and all of its pronunciations
END = 0  # also the start
TIMES = (6, 8, 10, 13, 17)  # letters and phones of words that are learned from, padded to one of these
SEARCHED = 24  # phones that a search may write
FEWER = 5  # every so many words of valid are looked at on the way
ORDERS = (4, 5, 6, 7)  # of the floor's n-grams


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    hidden, features = setting.pick(256, full=512, small=8), setting.pick(64, full=128, small=4)
    steps, batch = setting.length(6000, full=40000), setting.pick(128, small=8)
    shapes, rows = setting.pick(TIMES, small=TIMES[-1:]), setting.pick(500, small=16)
    data = {split: load("pronunciations", split)[:: setting.pick(1, small=200)] for split in sets.SPLITS}
    pairs = [(w, one) for w, said in data["train"] for one in said if max(len(w), len(one) + 1) <= TIMES[-1]]
    phones = ["", *sorted({phone for _, said in pairs for phone in said})]
    place = {phone: i for i, phone in enumerate(phones)}
    see = Views.of([word for word, _ in data["train"]])
    sources = [see(word) for word, _ in pairs]
    targets = [np.array([END, *(place[phone] for phone in said), END], np.int32) for _, said in pairs]

    speller = Speller(hidden, features, len(see.threes) + 1, len(see.fives) + 1, len(phones))
    params = speller.init(jax.random.key(setting.seed))
    write = jax.jit(speller.write)

    def loss(params: Any, carry: Any, batch: Any, key: Any) -> tuple[Any, jax.Array]:
        source, target = batch
        return carry, speller.nats(params, source, target, key)

    def speak(params: Any, words: list[str]) -> list[Said]:
        """A pronunciation of each word."""
        said = written(partial(write, params), [see(word) for word in words], rows, SEARCHED)
        return [tuple(phones[i] for i in row if i != END) for row in said]

    def score(params: Any, split: str) -> Score:
        """Of the whole test split; on the way a fifth of valid will do."""
        part = data[split] if split == "test" else data[split][::FEWER]
        spoken = speak(params, [word for word, _ in part])
        return Score(word_errors(spoken, part), {"phone error rate": phone_errors(spoken, part)})

    def show(params: Any) -> str:
        few = data["valid"][:: max(1, len(data["valid"]) // 12)][:12]
        return told(few, speak(params, [word for word, _ in few]))

    floors = {"n-grams of aligned letters and phones": lambda: floor(data)}
    drawn, optimizer = batches(sources, targets, shapes, batch, setting.seed), cosine(4e-3, steps)
    return Problem(params, loss, drawn, score, floors, optimizer, steps, validations=4, noise=True, show=show)


def floor(data: dict[str, list[Entry]]) -> float:
    """Word errors of n-grams; their order is chosen on a fifth of valid."""
    aligned = align([(word, one) for word, said in data["train"] for one in said])
    errors = lambda order, part: word_errors(Graphones.of(aligned, order).speak([word for word, _ in part]), part)
    return errors(min(ORDERS, key=lambda order: errors(order, data["valid"][::FEWER])), data["test"])


class Speller(NamedTuple):
    """An encoder-decoder with attention that reads letters, each the sum of how it is seen (`Views`), and writes phones.

    hidden H, features F; threes, fives, phones: how many there are of each.
    """

    hidden: int
    features: int
    threes: int
    fives: int
    phones: int

    @property
    def model(self) -> Any:
        return rj.seq2seq.EncoderDecoder(
            rj.Bidirectional(rj.GRU(self.hidden // 2)),
            rj.GRU(self.hidden),
            None,
            self.phones,
            features=self.features,
            attention="multiplicative",
            input_feeding=True,
        )

    def init(self, key: jax.Array) -> dict[str, Any]:
        """``letters``, ``threes``, ``fives``: tables ``[N, F]``; ``model``."""
        k_model, k_letters = jax.random.split(key)
        return {
            "letters": jax.random.normal(k_letters, (len(LETTERS), self.features)),
            "threes": jnp.zeros((self.threes, self.features)),
            "fives": jnp.zeros((self.fives, self.features)),
            "model": self.model.init(k_model, jnp.zeros(self.features)),
        }

    def nats(self, params: Any, source: Any, target: Any, key: jax.Array) -> jax.Array:
        """Nats a phone. A quarter of the widest views is left out, as they will be of new words."""
        (seen, lengths), (phones, count) = source, target
        kept = jax.random.bernoulli(key, 0.75, seen.shape[:-1])
        seen = seen.at[..., 2].set(jnp.where(kept, seen[..., 2], 0))
        logits = self.model(params["model"], vectors(params, seen), phones[:-1], source_lengths=lengths)
        counts = jnp.arange(len(logits))[:, None] < count - 1
        each = rj.losses.softmax_cross_entropy(logits, phones[1:], mask=counts, smoothing=0.1)
        return rj.losses.over_time(each, counts)

    def write(self, params: Any, seen: Any, lengths: Any) -> jax.Array:
        """The phones ``[T, B]`` that a beam of four finds best."""
        step, start = self.model.decoder_step(params["model"], vectors(params, seen), source_lengths=lengths)
        begin = jnp.full(lengths.shape, END, jnp.int32)
        return rj.seq2seq.beam(step, start, begin, end=END, length=SEARCHED, beams=4, length_penalty=0.6)[0][0]


def vectors(params: Any, seen: jax.Array) -> jax.Array:
    """``[T, B, 3] -> [T, B, F]``: the sum of the vectors of a letter's three views."""
    return sum(params[name][seen[..., i]] for i, name in enumerate(("letters", "threes", "fives")))


class Views(NamedTuple):
    """How letters are seen: each alone, with its neighbours, and with two on each side; 0 where those are too rare to learn from."""

    threes: dict[str, int]
    fives: dict[str, int]

    @classmethod
    def of(cls, words: list[str]) -> Views:
        return cls(frequent(words, 1, 2), frequent(words, 2, 4))

    def __call__(self, word: str) -> np.ndarray:
        """Int32 ``[T, 3]``."""
        seen = zip(word, around(word, 1), around(word, 2))
        return np.array([(LETTERS.index(a), self.threes.get(b, 0), self.fives.get(c, 0)) for a, b, c in seen], np.int32)


def around(word: str, reach: int) -> list[str]:
    """Each letter with so many on each side.

    >>> around("box", 1)
    ['_bo', 'box', 'ox_']
    """
    whole = "_" * reach + word + "_" * reach
    return [whole[i : i + 2 * reach + 1] for i in range(len(word))]


def frequent(words: list[str], reach: int, least: int) -> dict[str, int]:
    """The places, from 1 on, of what is around a letter at least so many times."""
    often = Counter(seen for word in words for seen in around(word, reach))
    return {seen: i + 1 for i, seen in enumerate(sorted(seen for seen, n in often.items() if n >= least))}


def told(part: list[Entry], spoken: list[Said]) -> str:
    """A line a word, and what is right where that is another."""
    wrong = lambda one, said: "" if one in said else "  not " + " ".join(said[0])
    return "\n".join(f"{word:15} {' '.join(one)}{wrong(one, said)}" for (word, said), one in zip(part, spoken))


def word_errors(spoken: list[Said], part: list[Entry]) -> float:
    """Share of words that are spoken as none of the dictionary's pronunciations of them.

    >>> word_errors([("T", "UW"), ("DH", "AH")], [("two", (("T", "UW"),)), ("the", (("DH", "IY"), ("DH", "IH")))])
    0.5
    """
    return float(np.mean([one not in said for one, (_, said) in zip(spoken, part)]))


def phone_errors(spoken: list[Said], part: list[Entry]) -> float:
    """Phones to change, over all phones, against the pronunciation that stands first."""
    texts = [" ".join(one) for one in spoken]
    return rj.metrics.word_error_rate(texts, [" ".join(said[0]) for _, said in part])


RECIPE = Recipe(
    "phonemes",
    set="the CMU Pronouncing Dictionary without stress: 126,052 words, by hash of the word; any listed pronunciation is right",
    metric="word error rate",
    better="lower",
    floor="n-grams of letters aligned with phones",
    make=make,
    beside="on other splits: WFST 33.9 %, Transformer about 31 %",
)
