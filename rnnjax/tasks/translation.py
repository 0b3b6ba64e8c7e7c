"""`translation`: reads short verses in English and writes them in Spanish, in pieces of words."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnjax as rj
from rnnjax.data import load, sets
from rnnjax.tasks.ibm import model1, word_for_word
from rnnjax.tasks.pairs import batches, written
from rnnjax.tasks.recipe import Problem, Recipe, Score, Setting, cosine
from rnnjax.tasks.subwords import END, Pieces

LONGEST = 20  # words of a verse, English and Spanish
TIMES = (18, 24, 30, 48)  # pieces of verses that are learned from, padded to one of these
WRITTEN = 48  # pieces that a search may write
WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
Pair = tuple[str, str]


def make(setting: Setting) -> Problem:
    """The problem of this recipe, in the size that the setting asks for."""
    hidden, features = setting.pick(256, full=512, small=8), setting.pick(192, small=8)
    steps, batch = setting.length(1800, full=10000), setting.pick(64, small=8)
    shapes, rows, kinds = (
        setting.pick(TIMES, small=TIMES[-1:]),
        setting.pick(128, small=16),
        setting.pick(2000, small=400),
    )
    data = {split: part[:: setting.pick(1, small=50)] for split, part in verses().items()}
    english, spanish = (Pieces.of([pair[side] for pair in data["train"]], kinds) for side in (0, 1))
    coded = [(english.encode(e), np.array([END, *spanish.encode(s), END], np.int32)) for e, s in data["train"]]
    coded = [(source, target) for source, target in coded if max(len(source), len(target) - 1) <= TIMES[-1]]

    model = translator(hidden, features, english.kinds, spanish.kinds)
    params = model.init(jax.random.key(setting.seed))
    # a piece begins as the mean of what it gives by model 1, so that from the start what is attended to is near what is to be written
    params["source_table"] = lexicon(coded, english.kinds, spanish.kinds) @ params["target_table"]

    write = jax.jit(partial(best, model))

    def translate(params: Any, texts: list[str]) -> list[str]:
        """What a beam of four finds best."""
        pieces = written(partial(write, params), [english.encode(text) for text in texts], rows, WRITTEN)
        return [spanish.decode(row) for row in pieces]

    def score(params: Any, split: str) -> Score:
        """Of the whole test split; on the way a fifth of valid will do."""
        part = data[split] if split == "test" else data[split][::5]
        return scored(translate(params, [text for text, _ in part]), part)

    def show(params: Any) -> str:
        few = data["valid"][:: max(1, len(data["valid"]) // 5)][:5]
        said = translate(params, [text for text, _ in few])
        return "\n\n".join(f"{source}\n{ours}\n({text})" for (source, text), ours in zip(few, said))

    floors = {
        "word for word by IBM model 1": lambda: floor(data, 0.0),
        "without words that give less than half a word": lambda: floor(data, 0.5),
    }
    loss = lambda params, carry, batch, key: (carry, mean_nats(model, params, batch, key))
    sources, targets = zip(*coded)
    drawn, optimizer = batches(sources, targets, shapes, batch, setting.seed), cosine(4e-3, steps)
    return Problem(params, loss, drawn, score, floors, optimizer, steps, validations=5, noise=True, show=show)


def floor(data: dict[str, list[Pair]], least: float) -> float:
    """Word for word by IBM model 1, without words that give less than so much of a word."""
    words = {split: [(parts(e), parts(s)) for e, s in data[split]] for split in ("train", "test")}
    said = word_for_word(words["train"], [source for source, _ in words["test"]], least)
    return scored([joined(text) for text in said], data["test"]).value


def translator(hidden: int, features: int, source_kinds: int, target_kinds: int) -> Any:
    """GRUs under dropout: one reads in both directions, and hands on what it read beside what it says; one writes."""
    return rj.seq2seq.EncoderDecoder(
        rj.Bidirectional(rj.Skip(rj.Dropout(rj.GRU(hidden // 2), 0.3))),
        rj.Dropout(rj.GRU(hidden), 0.3),
        source_kinds,
        target_kinds,
        features=features,
        attention="multiplicative",
        tied=True,
    )


def best(model: Any, params: Any, source: Any, lengths: Any) -> jax.Array:
    """The pieces ``[T, B]`` that a beam of four finds best."""
    step, start = model.decoder_step(params, source, source_lengths=lengths)
    begin = jnp.full(lengths.shape, END, jnp.int32)
    return rj.seq2seq.beam(step, start, begin, end=END, length=WRITTEN, beams=4, length_penalty=1.0)[0][0]


def mean_nats(model: Any, params: Any, batch: Any, key: Any) -> jax.Array:
    """Nats a piece, smoothed; a tenth of the pieces that the decoder is given are left out, so that it reads the source."""
    (source, lengths), (target, count) = batch
    k_given, k_model = jax.random.split(key)
    given = jnp.where(jax.random.bernoulli(k_given, 0.9, target.shape), target, END)[:-1]
    logits = model(params, source, given, source_lengths=lengths, key=k_model)
    counts = jnp.arange(len(logits))[:, None] < count - 1
    each = rj.losses.softmax_cross_entropy(logits, target[1:], mask=counts, smoothing=0.1)
    return rj.losses.over_time(each, counts)


def verses() -> dict[str, list[Pair]]:
    """Short verses in English and Spanish, in lower case; none of whose words, in either language, are those of one in another split."""
    short = lambda text: len(text.split()) <= LONGEST
    found, seen = {}, set()
    for split in reversed(sets.SPLITS):
        pairs = [(e.lower(), s.lower()) for e, s, _ in load("verses", split) if short(e) and short(s)]
        found[split] = [pair for pair in pairs if seen.isdisjoint(map(content, pair))]
        seen |= {content(text) for pair in found[split] for text in pair}
    return found


def content(text: str) -> str:
    """The words of a text without its marks."""
    return " ".join(re.findall(r"\w+", text))


def parts(text: str) -> list[str]:
    """
    >>> parts("ahora pues, descendamos."), joined(parts("ahora pues, descendamos."))
    (['ahora', 'pues', ',', 'descendamos', '.'], 'ahora pues, descendamos.')
    """
    return WORD.findall(text)


def joined(words: list[str]) -> str:
    """Words and marks as a text."""
    return re.sub(r" ([^\w\s¿¡“(])", r"\1", " ".join(words))


def lexicon(pairs: list[tuple[np.ndarray, np.ndarray]], source_kinds: int, target_kinds: int) -> np.ndarray:
    """``t(f | e)`` of IBM model 1 on the pieces, float32 ``[source_kinds, target_kinds]``; targets stand between two END."""
    gives = model1([(source, target[1:-1]) for source, target in pairs])
    t = np.zeros((source_kinds, target_kinds), np.float32)
    t[gives.e, gives.f] = gives.t
    return t


def scored(texts: list[str], pairs: list[Pair]) -> Score:
    """chrF from 0 to 1, and BLEU from 0 to 100 beside it, of texts against the Spanish of the pairs."""
    references = [text for _, text in pairs]
    return Score(rj.metrics.chrf(texts, references) / 100, {"BLEU": rj.metrics.bleu(texts, references)})


RECIPE = Recipe(
    "translation",
    set="verses of the World English Bible and the Reina-Valera of 1909 of at most 20 words, chapters whole in one split",
    metric="chrF",
    better="higher",
    floor="word for word by IBM model 1",
    make=make,
)
